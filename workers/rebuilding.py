"""The job's half of forgetting: weights without the events, then the ledger and the snapshots without their texts.

- `rebuild` folds the ledger without what is exactly forgotten, or quarantined, and moves the head. The digest is that of a bank that never
  saw it. The bank's language model is folded with it, so that nobody who talks to the bank has to wait for that.
- `destroy`, for an erasure, takes the texts and keys out of the ledger, and destroys every snapshot whose weights held them and every
  export with them.

Neither holds a lock of the bank: the fold is beside the requests, the head moves by compare-and-swap, and what was taught since is the
tail that every warm copy folds.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import structlog

from service.errors import HeadMoved, StateUnavailable
from service.store import banks, blob_rows, bundles, forgets, idempotency, jobs, probe_sets, proposals, snapshots
from service.store.lineage import live, restrict
from service.store.rows import ForgetRow, HeadMove, SnapshotRow
from workers.language_fold import LanguageFold, Wanted
from workers.replay import Progress, Replay, lineage
from workers.threads import OwnThread
from workers.versions import Label, LanguagePart, Taken, Versions, tainting
from workers.view import View

TRIES = 3  # heads that move under the fold before the job goes back to the queue
ERASER = "erasure"  # the owner of a bank between an erasure and its next use
log = structlog.get_logger()

Changed = Callable[[str, str], Awaitable[None]]  # told the tenant and the bank whose warm copies have to follow


@dataclass(frozen=True, slots=True)
class Rebuilding:
    """Makes forgets exact."""

    replay: Replay
    versions: Versions
    thread: OwnThread  # folds run here, beside the requests
    changed: Changed
    language: LanguageFold

    async def rebuild(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> SnapshotRow | None:
        """Make the weights exactly those of the wanted events; None if they already were.

        Raises:
            HeadMoved: the head kept moving; try again.
        """
        for _ in range(TRIES):
            found = await lineage(self.replay.database, tenant, bank_id)
            if found.wanted == live(found.head.spans, found.head.seq, found.bank.seq, ()):
                return None  # the head, and what came after it, is what is wanted
            view, _ = await self.replay.current(tenant, found, thread=self.thread, progress=progress)
            again = await lineage(self.replay.database, tenant, bank_id)
            if restrict(again.wanted, view.seq) != view.weights:
                continue  # more was forgotten meanwhile
            move = HeadMove(
                expected_version=found.bank.head_version, moved_by=moved_by, reason="rebuilt without forgotten or quarantined corrections"
            )
            owe = partial(self._owe, tenant, bank_id, view)
            taken = replace(Taken.of(bank_id, view), language=await self._part(tenant, replace(Wanted.now(found), seq=view.seq)))
            try:
                with self.replay.stage("snapshot"):
                    head = await self.versions.save(tenant, taken, "rebuild", Label(moved_by), move, note=owe)
            except HeadMoved:
                continue
            await self.changed(tenant, bank_id)
            return head
        raise HeadMoved()

    async def _owe(self, tenant: str, bank_id: str, view: View, conn: Any) -> None:  # noqa: ANN401
        """Folded from before what was forgotten, the weights may have lost a slow level."""
        await self.versions.owe(conn, tenant, bank_id, view.state, view.seq)

    async def _part(self, tenant: str, wanted: Wanted) -> LanguagePart | None:
        try:
            return await self.language.part(tenant, wanted)
        except StateUnavailable as error:  # nothing is lost with it, and what is to be forgotten does not wait for it
            log.warning("language state not saved", action="language_part", bank=wanted.bank, why=error.detail)
            return None

    async def destroy(self, tenant: str, row: ForgetRow) -> tuple[ForgetRow, dict[str, Any]]:
        """Redact a forget's ledger rows and destroy every snapshot that held them, to the last byte; what was removed.

        The bank has been rebuilt. Idempotent: a run after one that was cut off ends what is left, and tells of what both have destroyed.

        Raises:
            HeadMoved: the head holds them all the same; rebuild it again.
        """
        now, bank_id = self.versions.now(), row.bank
        async with self.replay.database.write(tenant) as conn:
            await banks.acquire(conn, tenant, bank_id, ERASER)  # every warm copy is void: its caches may hold the texts
            mine = set(row.seqs)  # what another erasure names is still in the head until its own rebuild
            tombstones = [mark for mark in await forgets.tombstones(conn, tenant, bank_id) if mark.seq in mine]
            asked = min((mark.created_at for mark in tombstones), default=now)
            found = await snapshots.usable(conn, tenant, bank_id, gone_since=asked)
            held = [each for each in found if tainting(each.spans, tombstones, erased_only=True)]
            kept = [each.id for each in held if each.destroyed_at is None]
            if (await banks.find_bank(conn, tenant, bank_id)).head in kept:
                raise HeadMoved("the head holds what is to be erased; it has to be rebuilt first")
            if kept:
                await snapshots.destroy_snapshots(conn, tenant, bank_id, kept, now)
            needed = await blob_rows.in_use(conn, tenant)
            texts = await forgets.texts_of(conn, tenant, bank_id, row.seqs)
            replies = await idempotency.scrub(conn, tenant, texts, told_by_banks=True)
            await probe_sets.scrub(conn, tenant, bank_id, texts)
            await proposals.scrub(conn, tenant, bank_id, texts)
            await jobs.scrub(conn, tenant, bank_id)
            exports = await bundles.drop_holding(conn, tenant, bank_id, row.seqs)
            redacted = await forgets.redact(conn, tenant, bank_id, row.seqs, now)
            emptied = {**redacted, "stored_replies": replies, "exports": exports}
            row = await forgets.certify(conn, tenant, row, {"emptied": emptied})
        await self.changed(tenant, bank_id)
        await self.versions.drop_unneeded(tenant)  # also what a save or a deletion that died has left of these weights
        await self.replay.database.compact()
        blobs = sorted({level.sha256 for each in held for level in each.levels} - needed)
        return row, {"snapshots": [each.id for each in held], "blobs": blobs}
