"""The job's half of forgetting: weights without the events, then the ledger and the snapshots without their texts.

- `rebuild` folds the ledger without what is exactly forgotten and moves the head. The digest is that of a bank that never saw it.
- `erase` also takes the texts and keys out of the ledger, and destroys every snapshot whose weights held them and every export with them.

Neither holds a lock of the bank: the fold is beside the requests, the head moves by compare-and-swap, and what was taught since is the
tail that every warm copy folds.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from service.errors import HeadMoved
from service.store import banks, bundles, forgets, idempotency, jobs, snapshots
from service.store.lineage import live, restrict
from service.store.rows import HeadMove, SnapshotRow
from workers.replay import Progress, Replay, lineage
from workers.threads import OwnThread
from workers.versions import Label, Taken, Versions, tainting

TRIES = 3  # heads that move under the fold before the job goes back to the queue
ERASER = "erasure"  # the owner of a bank between an erasure and its next use

Changed = Callable[[str, str], Awaitable[None]]  # told the tenant and the bank whose warm copies have to follow


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """Makes forgets exact."""

    replay: Replay
    versions: Versions
    thread: OwnThread  # folds run here, beside the requests
    changed: Changed

    async def rebuild(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> SnapshotRow | None:
        """Make the weights exactly those of the wanted events; None if they already were.

        Raises:
            HeadMoved: the head kept moving; try again.
        """
        for _ in range(TRIES):
            found = await lineage(self.replay.database, tenant, bank_id)
            if found.wanted == live(found.head.spans, found.head.seq, found.bank.seq, ()):
                return None  # neither the head nor what came after it holds a forgotten event
            view, _ = await self.replay.current(tenant, found, thread=self.thread, progress=progress)
            again = await lineage(self.replay.database, tenant, bank_id)
            if restrict(again.wanted, view.seq) != view.weights:
                continue  # more was forgotten meanwhile
            move = HeadMove(expected_version=found.bank.head_version, moved_by=moved_by, reason="rebuilt without forgotten corrections")
            try:
                with self.replay.stage("snapshot"):
                    head = await self.versions.save(tenant, Taken.of(bank_id, view), "rebuild", Label(moved_by), move)
            except HeadMoved:
                continue
            await self.changed(tenant, bank_id)
            return head
        raise HeadMoved()

    async def erase(self, tenant: str, bank_id: str, seqs: Sequence[int], *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Rebuild, then redact the ledger rows and destroy every snapshot that held them, to the last byte.

        Idempotent: a run after one that was cut off ends what is left, and tells of what both have destroyed.
        """
        head = await self.rebuild(tenant, bank_id, moved_by=moved_by, progress=progress)
        now = self.versions.now()
        async with self.replay.database.write(tenant) as conn:
            await banks.acquire(conn, tenant, bank_id, ERASER)  # every warm copy is void: its caches may hold the texts
            mine = set(seqs)  # what another erasure names is still in the head until its own rebuild
            tombstones = [row for row in await forgets.tombstones(conn, tenant, bank_id) if row.seq in mine]
            asked = min((row.created_at for row in tombstones), default=now)
            found = await snapshots.usable(conn, tenant, bank_id, gone_since=asked)
            held = [row for row in found if tainting(row.spans, tombstones, erased_only=True)]
            kept = [row.id for row in held if row.destroyed_at is None]
            if (await banks.find_bank(conn, tenant, bank_id)).head in kept:
                raise HeadMoved("the head holds what is to be erased; it has to be rebuilt first")
            if kept:
                await snapshots.destroy_snapshots(conn, tenant, bank_id, kept, now)
            await idempotency.scrub(conn, tenant, await forgets.texts_of(conn, tenant, bank_id, seqs))
            exports = await bundles.drop_holding(conn, tenant, bank_id, seqs)
            await jobs.scrub(conn, tenant, bank_id)
            await forgets.redact(conn, tenant, bank_id, seqs, now)
        await self.changed(tenant, bank_id)
        await self.versions.drop_unneeded(tenant)  # also what a save or a deletion that died has left of these weights
        await self.replay.database.compact()
        return {
            "redacted": len(seqs),
            "destroyed_snapshots": [row.id for row in held],
            "destroyed_exports": exports,
            "head": head.id if head else None,
        }
