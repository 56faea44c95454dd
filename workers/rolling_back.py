"""Rollback: the head returns to the behaviour of an older snapshot, with a preview, and nothing is lost on the way.

The state before the move is saved first (`pre_rollback`), so that a rollback to it undoes the rollback bit for bit. What was learned
since stays in the ledger, outside the new head's spans. The warm copy follows before the call returns (I4).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from service import wire
from service.errors import Conflict, HeadMoved, NotOwner, WriterBusy
from service.store import audit, history, idempotency, snapshots
from service.store.rows import EventRow, HeadMove, SameInputRow, SnapshotRow
from workers.encoding import EncodedText
from workers.judging import Judge
from workers.reading import HEARD, Reader
from workers.replay import Lineage, Replay, key_of, lineage
from workers.versions import Label, Versions, refuse_tainted
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

PROBES = 256  # newest corrections of the bank that are asked of both states


@dataclass(frozen=True, slots=True)
class RollBack:
    """Previews and performs rollbacks."""

    replay: Replay
    warm: WarmBanks
    reader: Reader
    judge: Judge
    versions: Versions

    async def run(
        self,
        tenant: str,
        bank_id: str,
        request: wire.RollbackRequest,
        *,
        if_match: str | None,
        key_id: str,
        request_id: str,
        idempotency_key: str | None,
    ) -> wire.RolledBack:
        """Preview (`dry_run`) or perform. The caller holds the bank's lock. The key is tied to the head's new version as it moves.

        Raises:
            NotFound: no such snapshot in this bank.
            TaintedSnapshot: it holds a forgotten correction, or was destroyed for one.
            HeadMoved: `if_match` names another head; nothing was changed.
            ChecksumMismatch: the snapshot's bytes do not have their digest; nothing was changed.
        """
        warm = await self.warm.current(tenant, bank_id)
        found = await lineage(self.replay.database, tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            target = await snapshots.get_snapshot(conn, tenant, request.to, bank_id)
        if if_match is not None and if_match.strip('"') not in ("*", found.head.id):
            raise HeadMoved(f"the head is {found.head.id}, not {if_match}")
        refuse_tainted(target, list(found.tombstones))
        view = await self.replay.at(tenant, found, target)
        flips, probes = await self._flips(tenant, warm, warm.view, view)
        if request.dry_run:
            state = wire.StateRef(snapshot_id=found.head.id, seq=warm.view.seq)
            return wire.RolledBack(head=None, pre_rollback=None, flips=flips, probes=probes, dry_run=True, state=state)
        try:
            before, head = await self._move(tenant, found, warm, target, request.reason, key_id, request_id, idempotency_key)
        except BaseException as error:
            self.warm.drop(bank_id)  # the head may have moved although nobody can say so
            if isinstance(error, NotOwner):
                raise WriterBusy(retry_after_s=1) from None
            raise
        view.snapshot_id, view.seq = head.id, head.seq
        self.warm.housing.replace(WarmBank(warm.row, warm.head_version + 1, view, head.seq, head.id, warm.texts))
        state = wire.StateRef(snapshot_id=head.id, seq=head.seq)
        return wire.RolledBack(head=head.id, pre_rollback=before.id, flips=flips, probes=probes, dry_run=False, state=state)

    async def again(self, tenant: str, bank_id: str, version: int) -> wire.RolledBack:
        """What was replied to the rollback that made the head's `version`. The caller holds the bank's lock.

        Raises:
            Conflict: what the reply may quote was forgotten since.
        """
        warm = await self.warm.current(tenant, bank_id)
        found = await lineage(self.replay.database, tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            name = next(row.snapshot for row in await snapshots.heads(conn, tenant, bank_id) if row.version == version)
            head = await snapshots.get_snapshot(conn, tenant, name, bank_id)
            before = await snapshots.get_snapshot(conn, tenant, head.parent or "", bank_id)
        if head.destroyed_at is not None or before.destroyed_at is not None:
            raise Conflict("this rollback was done; its reply is not given again because what it may quote was forgotten")
        views = [await self.replay.at(tenant, found, snapshot) for snapshot in (before, head)]
        flips, probes = await self._flips(tenant, warm, *views)
        state = wire.StateRef(snapshot_id=head.id, seq=head.seq)
        return wire.RolledBack(head=head.id, pre_rollback=before.id, flips=flips, probes=probes, dry_run=False, state=state)

    async def _move(
        self,
        tenant: str,
        found: Lineage,
        warm: WarmBank,
        target: SnapshotRow,
        reason: str | None,
        key_id: str,
        request_id: str,
        idempotency_key: str | None,
    ) -> tuple[SnapshotRow, SnapshotRow]:
        bank_id = found.bank.id
        with self.replay.stage("snapshot"):
            before = await self.versions.save(tenant, await self.versions.take(warm, warm.view), "pre_rollback", Label(key_id))
        move = HeadMove(expected_version=warm.head_version, moved_by=key_id, reason=reason or f"rollback to {target.id}")
        detail = {"to": target.id, "before": before.digest, "after": target.digest, "pre_rollback": before.id}

        async def note(conn: Any) -> None:  # noqa: ANN401
            now = self.versions.now()
            await audit.record(conn, tenant, actor=key_id, request_id=request_id, action="rollback", target=bank_id, detail=detail, now=now)
            if idempotency_key is not None:
                version = move.expected_version + 1
                await idempotency.mark_committed(conn, tenant, idempotency_key, bank=bank_id, first_seq=version, last_seq=version)

        head = await self.versions.copy(
            tenant,
            bank_id,
            target,
            seq=warm.view.seq,
            parent=before.id,
            label=Label(key_id, note=reason),
            move_head=move,
            note=note,
            epoch=warm.row.epoch,
        )
        return before, head

    async def _flips(self, tenant: str, warm: WarmBank, old: View, new: View) -> tuple[list[wire.Flip], int]:
        async with self.replay.database.read(tenant) as conn:
            rows = await history.page(conn, tenant, warm.row.id, None, PROBES, descending=True)
        probes = [row for row in rows if row.embedding is not None and row.input is not None and row.seq not in old.gone]
        flips = []
        same = await self.judge.same_inputs(tenant, warm.row.id, [row.input or "" for row in probes])
        for row, known in zip(probes, same, strict=True):
            before, after = await self._said(tenant, warm, old, row, known), await self._said(tenant, warm, new, row, known)
            if before.value != after.value:
                flips.append(wire.Flip(correction=row.id, input=row.input or "", before=before, after=after))
        return flips, len(probes)

    async def _said(self, tenant: str, warm: WarmBank, view: View, row: EventRow, same: Sequence[SameInputRow]) -> wire.Said:
        text = EncodedText(key_of(row.embedding or b""), row.tokens, row.input or "")
        found = (await self.reader.thread.run(self.reader.candidates, view, text.key[None], HEARD))[0]
        found = await self.reader.hold_back(tenant, warm, view, text.key, found, HEARD)
        found = (await self.judge.judged(tenant, warm, view, text, found, same)).candidates[:1]
        return self.reader.said(found, await self.reader.texts(tenant, warm, [candidate.index for candidate in found]))
