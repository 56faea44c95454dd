"""The request's half of forgetting: the tombstones and the job row are committed together, then the warm view is told.

From then on no recall answers with the corrections, at the head or at any snapshot (I3). The weights follow by the job
(`workers/rebuilding.py`), which also writes the certificate (`workers/certifying.py`). A branch that holds copies forgets them in the same
transaction, with a job of its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs

from service import wire
from service.cluster.engine import Actor
from service.store import audit, banks, branches, forgets, history, jobs
from service.store.rows import BankRow, ForgetRow
from workers.hiding import dropped_in_doubt, hide
from workers.replay import Replay
from workers.warm import WarmBanks

AUDITED = 100  # positions that an audit entry lists; the forget has them all


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Tombstones, and the jobs that make them exact."""

    replay: Replay
    warm: WarmBanks
    now: Callable[[], datetime]

    async def forget(self, tenant: str, bank_id: str, request: wire.ForgetRequest, actor: Actor) -> wire.Forgotten:
        """Tombstone the request's corrections and enqueue the rebuild. The caller holds the bank's lock and rings the bell.

        Raises:
            NotFound: one of them is not a correction of this bank; nothing was changed.
        """
        with dropped_in_doubt(self.warm, bank_id):
            row, job_id, held, touched = await self._commit(tenant, bank_id, request, actor)
        for branch in touched:
            self.warm.drop(branch)  # the next use sees the tombstones
        await hide(self.replay, self.warm, tenant, bank_id, held)
        return wire.Forgotten(id=row.id, effective_now=True, mode=request.mode, corrections=list(row.event_ids), job_id=job_id)

    async def _commit(
        self, tenant: str, bank_id: str, request: wire.ForgetRequest, actor: Actor
    ) -> tuple[ForgetRow, str | None, BankRow, list[str]]:
        async with self.replay.database.write(tenant) as conn:
            held = await banks.acquire(conn, tenant, bank_id, self.warm.owner)
            row, job_id = await self._mark(conn, tenant, held, request, actor)
            touched = []
            for branch, seqs in await branches.copies(conn, tenant, bank_id, row.seqs):
                same = structs.replace(request, corrections=[copy.id for copy in await history.by_seqs(conn, tenant, branch, seqs)])
                await self._mark(conn, tenant, await banks.acquire(conn, tenant, branch, self.warm.owner), same, actor)
                touched.append(branch)
        return row, job_id, held, touched

    async def _mark(
        self,
        conn: Any,  # noqa: ANN401
        tenant: str,
        held: BankRow,
        request: wire.ForgetRequest,
        actor: Actor,
    ) -> tuple[ForgetRow, str | None]:
        exact, now = request.mode != "suppress", self.now()
        row = await forgets.add_forget(
            conn,
            tenant,
            held.id,
            event_ids=request.corrections or [],
            mode=request.mode,
            exact=exact,
            reason=request.reason,
            created_by=actor.key_id,
            job_id=None,
            now=now,
        )
        job_id = None
        if exact:
            kind = "erase" if request.mode == "erase" else "rebuild"
            payload = {"forget": row.id, "seqs": list(row.seqs), "by": actor.key_id}
            job, _ = await jobs.enqueue(conn, tenant, kind=kind, bank=held.id, payload=payload, dedupe=None, now=now)
            job_id = job.id
            await forgets.set_job(conn, tenant, row.id, job_id)
        detail = {
            "forget": row.id,
            "mode": request.mode,
            "corrections": len(row.seqs),
            "seqs": list(row.seqs[:AUDITED]),
            "job": job_id,
            "before": {"head": held.head, "epoch": held.epoch - 1, "seq": held.seq},
            "after": {"head": held.head, "epoch": held.epoch, "seq": held.seq},
        }
        who: dict[str, Any] = {"actor": actor.key_id, "request_id": actor.request_id, "now": now}
        await audit.record(conn, tenant, action="forget", target=held.id, detail=detail, **who)
        return row, job_id
