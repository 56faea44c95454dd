"""Forgetting: hidden in the request, exact by a job, gone from every place by an erasure.

- In the request: the tombstones and the job row are committed together, then the warm view is told. From then on no recall answers with
  the corrections, at the head or at any snapshot (I3).
- `rebuild` and `erase`: the job folds the ledger without them and moves the head. The digest is that of a bank that never saw them.
- `erase` also takes the texts and keys out of the ledger, and destroys every snapshot whose weights held them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service import wire
from service.errors import HeadMoved
from service.store import audit, banks, forgets, idempotency, jobs, snapshots
from service.store.lineage import restrict
from service.store.rows import HeadMove, SnapshotRow
from workers.replay import Lineage, Progress, Replay, lineage
from workers.threads import OwnThread
from workers.versions import Label, Versions, tainting
from workers.view import View
from workers.warm import WarmBanks

TRIES = 3  # folds beside the requests before the last one is done under the bank's lock


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Tombstones and the rebuilds that make them exact."""

    replay: Replay
    warm: WarmBanks
    versions: Versions
    thread: OwnThread  # folds run here, beside the requests

    async def forget(self, tenant: str, bank_id: str, request: wire.ForgetRequest, *, key_id: str, request_id: str) -> wire.Forgotten:
        """Tombstone the corrections and enqueue the rebuild. The caller holds the bank's lock and rings the bell.

        Raises:
            NotFound: one of them is not a correction of this bank; nothing was changed.
        """
        exact = request.mode != "suppress"
        now = self.versions.now()
        async with self.replay.database.write() as conn:
            row = await forgets.add_forget(
                conn,
                tenant,
                bank_id,
                event_ids=request.corrections,
                mode=request.mode,
                exact=exact,
                reason=request.reason,
                created_by=key_id,
                job_id=None,
                now=now,
            )
            job_id = None
            if exact:
                kind = "erase" if request.mode == "erase" else "rebuild"
                payload = {"forget": row.id, "seqs": list(row.seqs), "by": key_id}
                job, _ = await jobs.enqueue(conn, tenant, kind=kind, bank=bank_id, payload=payload, dedupe=None, now=now)
                job_id = job.id
                await forgets.set_job(conn, tenant, row.id, job_id)
            detail = {"forget": row.id, "mode": request.mode, "seqs": list(row.seqs), "job": job_id}
            await audit.record(
                conn,
                tenant,
                actor=key_id,
                request_id=request_id,
                action="forget",
                target=bank_id,
                detail=detail,
                now=now,
            )
        await self._hide(tenant, bank_id)
        return wire.Forgotten(id=row.id, effective_now=True, mode=request.mode, corrections=list(row.event_ids), job_id=job_id)

    async def rebuild(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> SnapshotRow | None:
        """Make the weights exactly those of the wanted events; None if they already were."""
        for attempt in range(TRIES):
            found = await lineage(self.replay.database, tenant, bank_id)
            if attempt == TRIES - 1:
                async with self.warm.lock(bank_id):
                    found = await lineage(self.replay.database, tenant, bank_id)
                    return await self._finish(tenant, found, await self._fold(tenant, found, progress), moved_by)
            view = await self._fold(tenant, found, progress)
            async with self.warm.lock(bank_id):
                again = await lineage(self.replay.database, tenant, bank_id)
                if restrict(again.wanted, view.seq) == view.weights and again.head.id == found.head.id:
                    return await self._finish(tenant, again, view, moved_by)
        raise HeadMoved()  # unreachable: the last attempt holds the lock

    async def erase(self, tenant: str, bank_id: str, seqs: Sequence[int], *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Rebuild, then redact the ledger rows and destroy every snapshot that held them. Idempotent: a second run finds nothing left."""
        head = await self.rebuild(tenant, bank_id, moved_by=moved_by, progress=progress)
        async with self.warm.lock(bank_id):
            now = self.versions.now()
            async with self.replay.database.write() as conn:
                mine = set(seqs)  # what another erasure names is still in the head until its own rebuild
                tombstones = [row for row in await forgets.tombstones(conn, tenant, bank_id) if row.seq in mine]
                kept = await snapshots.usable(conn, tenant, bank_id)
                held = [row.id for row in kept if tainting(row.spans, tombstones, erased_only=True)]
                if (await banks.find_bank(conn, tenant, bank_id)).head in held:
                    raise HeadMoved("the head holds what is to be erased; it has to be rebuilt first")
                digests = await snapshots.destroy_snapshots(conn, tenant, bank_id, held, now) if held else []
                await idempotency.scrub(conn, tenant, await forgets.texts_of(conn, tenant, bank_id, seqs))
                await forgets.redact(conn, tenant, bank_id, seqs, now)
            self.warm.drop(bank_id)  # its caches of texts and supports may hold what was erased
            await self.versions.drop_blobs(tenant, digests)
            await self.replay.database.compact()
        return {"redacted": len(seqs), "destroyed_snapshots": held, "head": head.id if head else None}

    async def _fold(self, tenant: str, found: Lineage, progress: Progress) -> View:
        view, _ = await self.replay.current(tenant, found, thread=self.thread, progress=progress)
        return view

    async def _finish(self, tenant: str, found: Lineage, view: View, moved_by: str) -> SnapshotRow | None:
        await self.replay.fold(tenant, found, view, thread=self.thread)
        warm = await self.warm.locked(tenant, found.bank.id)
        if warm.view.weights == view.weights and found.head.spans == restrict(found.wanted, found.head.seq):
            return None  # neither the head nor the warm state holds a forgotten event
        await self.replay.admit(tenant, found.bank.id, view)
        move = HeadMove(expected_version=warm.head_version, moved_by=moved_by, reason="rebuilt without forgotten corrections")
        try:
            head = await self.versions.save(tenant, await self.versions.take(warm, view), "rebuild", Label(moved_by), move)
        except BaseException:
            self.warm.drop(found.bank.id)  # the head may have moved although nobody can say so
            raise
        view.snapshot_id = head.id
        warm.view, warm.head_version, warm.saved_seq = view, warm.head_version + 1, head.seq
        warm.supports.clear()
        return head

    async def _hide(self, tenant: str, bank_id: str) -> None:
        warm = self.warm.peek(bank_id)
        if warm is None:
            return
        try:
            await self.replay.admit(tenant, bank_id, warm.view)
            warm.supports.clear()
        except BaseException:
            self.warm.drop(bank_id)  # a view that was not told must not answer
            raise
