"""Versions of a bank: snapshots are saved, heads are moved.

A snapshot is committed in the order blob rows (pending), blobs, snapshot row with the blobs made live: whatever dies in between leaves at
most blobs that nothing refers to, which `drop_left_over` finds later, and `drop_unneeded` at once. Only rollback, rebuild and
consolidation move the head, each by compare-and-swap; automatic and manual snapshots are points on the way that shorten a cold start and
that one can return to.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from model import Recall, State, checkpoint
from service.errors import Conflict, NotFound, TaintedSnapshot
from service.ids import new_id
from service.store import banks, blob_rows, debt, forgets, snapshots
from service.store.blobs import Blobs
from service.store.db import Database
from service.store.lineage import Spans, holds, normal
from service.store.rows import BankRow, HeadMove, LevelBlob, SnapshotDraft, SnapshotRow, TombstoneRow
from workers.replay import LANGUAGE
from workers.threads import OwnThread
from workers.view import View
from workers.warm_bank import WarmBank

Note = Callable[[Any], Awaitable[None]]  # writes something more in an open transaction
PREPARED = timedelta(hours=1)  # what was folded for a rollback to come waits so long for it
STAGED = timedelta(hours=1)  # longer than any save or deletion: a blob that is still in one then was left by a process that died
TRIES = 3  # of a save that meets deletions


class LanguagePart(NamedTuple):
    """What a snapshot holds of the bank's language model: its state, the events in it, and where it has slept."""

    data: bytes
    heard: Spans
    sleeps: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Taken:
    """A state as it was at one moment, free of the bank's lock: what a snapshot is made of."""

    bank_id: str
    parent: str
    seq: int
    weights: Spans
    state: State
    responses: int  # distinct responses that live events in it support
    held: Spans = ()  # quarantined events that belong to it and are not in it
    language: LanguagePart | None = None  # None: to be folded from the ledger
    sleeps: tuple[int, ...] | None = None  # where the language model has slept; None: as in its part, or in the head

    @classmethod
    def of(cls, bank_id: str, view: View) -> "Taken":
        """The state of a view that nobody else changes any more."""
        return cls(bank_id, view.snapshot_id, view.seq, view.weights, view.state, int((view.counts > 0).sum()), view.held)


@dataclass(frozen=True, slots=True)
class Label:
    """What people say about a snapshot."""

    created_by: str
    label: str | None = None
    note: str | None = None
    pinned: bool = False
    gate: dict[str, object] | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """A state as bytes: its digest, and each level's name, bytes and SHA-256."""

    digest: str
    parts: list[tuple[str, bytes, str]]


@dataclass(frozen=True, slots=True)
class Versions:
    """Saves states and moves heads."""

    database: Database
    blobs: Blobs
    recall: Recall
    thread: OwnThread  # the model thread: copies are taken between updates
    heavy: OwnThread  # encoding and hashing, beside the requests
    now: Callable[[], datetime]

    async def take(self, warm: WarmBank, view: View) -> Taken:
        """Copy the view's state to the host. The caller holds the bank's lock, so seq, weights and tensors belong together."""
        state = await self.thread.run(view.state.to, "cpu")
        return replace(Taken.of(warm.row.id, view), state=state)

    async def save(
        self,
        tenant: str,
        taken: Taken,
        kind: str,
        label: Label,
        move_head: HeadMove | None = None,
        *,
        note: Note | None = None,
        epoch: int | None = None,
    ) -> SnapshotRow:
        """Make the taken state a snapshot, durable when this returns; with `move_head` it becomes the head in the same transaction.

        `note` writes something more in that transaction. With `epoch` it is fenced like an append.

        Raises:
            HeadMoved: the head is no longer the expected one; nothing was changed.
            Conflict: a correction in the state was erased meanwhile; nothing was kept. NotFound: the bank was deleted meanwhile.
        """
        encoded = await self.heavy.run(encode, taken.state, taken.language)
        for left in reversed(range(TRIES)):
            try:
                async with self.database.at_blobs(tenant):
                    draft, staged = await self.stored(tenant, taken, kind, label, encoded)
                    return await self.commit(tenant, taken.bank_id, draft, move_head, note=note, epoch=epoch, staged=staged)
            except blob_rows.BeingDeleted:  # an old state with the same bytes
                if not left:
                    raise
                await self.drop_unneeded(tenant)  # wait for whoever deletes it, or end it for one who died
        raise AssertionError("the last try returns or raises")

    async def stored(self, tenant: str, taken: Taken, kind: str, label: Label, encoded: Encoded) -> tuple[SnapshotDraft, dict[str, str]]:
        """Write the bytes of the taken state: what is to be committed, and the births of its blobs. The caller stays at the tenant's blobs.

        Raises:
            Conflict, NotFound: as `save`.
        """
        async with self.database.write(tenant) as conn:
            await banks.lock(conn, tenant, taken.bank_id)
            bank = await banks.find_bank(conn, tenant, taken.bank_id)
            slept, heard = await _sleeps(conn, tenant, bank, taken), () if taken.language is None else taken.language.heard
            _refuse_erased(
                normal((*taken.weights, *heard)), await forgets.tombstones(conn, tenant, taken.bank_id)
            )  # before a byte of it is written
            staged = await blob_rows.stage(conn, tenant, {(sha256, len(data)) for _, data, sha256 in encoded.parts}, self.now())
        levels = [LevelBlob(name=name, sha256=await self.blobs.put(tenant, data), bytes=len(data)) for name, data, _ in encoded.parts]
        draft = SnapshotDraft(
            id=new_id("snap"),
            kind=kind,
            parent=taken.parent,
            seq=taken.seq,
            spans=taken.weights,
            digest=encoded.digest,
            config_hash=self.recall.config.hash,
            clock=taken.state.clock.as_dict(),
            levels=tuple(levels),
            label=label.label,
            note=label.note,
            pinned=label.pinned,
            created_by=label.created_by,
            gate=label.gate,
            held=taken.held,
            sleeps=slept,
            heard=heard,
        )
        return draft, staged

    async def copy(
        self,
        tenant: str,
        bank_id: str,
        source: SnapshotRow,
        *,
        held: Spans,
        seq: int,
        parent: str,
        label: Label,
        move_head: HeadMove,
        note: Note,
        epoch: int,
    ) -> SnapshotRow:
        """A new head with the weights of `source`, from which folding goes on after `seq`: this is what a rollback is.

        `note` writes its audit line in the same transaction.

        Raises:
            NotOwner: another process has taken the bank, and may have appended to it. HeadMoved: as for `save`.
            Conflict: `source` was deleted meanwhile, or as for `save`.
        """
        gone = Conflict(f"snapshot {source.id} was deleted meanwhile; choose another one")

        async def still_kept(conn: Any) -> None:  # noqa: ANN401
            if (await snapshots.get_snapshot(conn, tenant, source.id, bank_id)).destroyed_at is not None:
                raise gone
            await note(conn)

        draft = SnapshotDraft(
            id=new_id("snap"),
            kind="rollback",
            parent=parent,
            seq=seq,
            spans=source.spans,
            digest=source.digest,
            config_hash=source.config_hash,
            clock=source.clock,
            levels=source.levels,
            label=label.label,
            note=label.note,
            pinned=label.pinned,
            created_by=label.created_by,
            gate=None,
            held=held,
            sleeps=source.sleeps,
            heard=source.heard,
        )
        try:
            return await self.commit(tenant, bank_id, draft, move_head, note=still_kept, epoch=epoch)
        except blob_rows.BeingDeleted:
            raise gone from None

    async def commit(
        self,
        tenant: str,
        bank_id: str,
        draft: SnapshotDraft,
        move_head: HeadMove | None,
        *,
        note: Note | None = None,
        epoch: int | None = None,
        staged: Mapping[str, str] | None = None,
    ) -> SnapshotRow:
        """Insert the snapshot (and move the head) unless it holds what has been erased since; `staged` as in `commit_snapshot`."""
        async with self.database.write(tenant) as conn:
            _refuse_erased(normal((*draft.spans, *draft.heard)), await forgets.tombstones(conn, tenant, bank_id))
            row = await snapshots.commit_snapshot(
                conn, tenant, bank_id, draft, now=self.now(), epoch=epoch, move_head=move_head, staged=staged
            )
            if note is not None:
                await note(conn)
            return row

    async def owe(self, conn: Any, tenant: str, bank_id: str, state: State, seq: int) -> None:  # noqa: ANN401
        """The head moves to `state`, from which folding goes on after `seq`: what its slow level was not made of is for a consolidation.

        In the transaction that moves the head.
        """
        left = self.recall.unsettled(state)
        await debt.owe(conn, tenant, bank_id, seq=seq, tokens=left.tokens, events=left.events, now=self.now())

    async def thin(self, tenant: str, bank_id: str, keep: int) -> None:
        """Drop the oldest automatic snapshots and refused candidates beyond `keep` of each, and the blobs that nothing needs any more.

        Pinned and labelled ones stay.
        """
        async with self.database.write(tenant) as conn:
            await banks.lock(conn, tenant, bank_id)  # a pin that is being set comes before or finds nothing
            spare = await snapshots.spare_autos(conn, tenant, bank_id, keep, self.now() - PREPARED)
            digests = await snapshots.destroy_snapshots(conn, tenant, bank_id, spare, self.now()) if spare else []
        await self.drop_blobs(tenant, digests)

    async def delete(self, tenant: str, bank_id: str, snapshot_id: str, note: Note) -> None:
        """Delete one snapshot and the blobs that nothing needs any more; `note` writes its audit line in the same transaction.

        Raises:
            NotFound, Conflict: as `snapshots.retire`; nothing was changed.
        """
        async with self.database.write(tenant) as conn:
            digests = await snapshots.retire(conn, tenant, bank_id, snapshot_id, self.now())
            await note(conn)
        await self.drop_blobs(tenant, digests)

    async def drop_blobs(self, tenant: str, digests: list[str]) -> int:
        """Delete those of the blobs that nothing needs, then their rows; how many they were.

        A crash in between leaves rows for `drop_left_over`.
        """
        if not digests:
            return 0
        async with self.database.at_blobs(tenant):
            async with self.database.write(tenant) as conn:
                now = self.now()
                digests = await blob_rows.begin_delete(conn, tenant, digests, now=now, before=now - STAGED)
            return await self._delete(tenant, digests)

    async def drop_unneeded(self, tenant: str) -> int:
        """Delete every byte of the tenant that no snapshot needs, however it was left there; how many blobs they were.

        Waits for those who are at the tenant's blobs.
        """
        async with self.database.at_blobs(tenant, alone=True):
            async with self.database.write(tenant) as conn:
                digests = await blob_rows.begin_delete(conn, tenant, await blob_rows.unneeded(conn, tenant), now=self.now())
            await self.blobs.drop_half_written(0.0, tenant)
            return await self._delete(tenant, digests)

    async def _delete(self, tenant: str, digests: list[str]) -> int:
        """Delete blobs that are in deletion, then their rows."""
        gone: list[str] = []
        try:
            for digest in digests:
                await self.blobs.delete(tenant, digest)
                gone.append(digest)
        finally:  # when the store goes away half way: what is gone may be saved again, what is left may be tried again
            async with self.database.write(tenant) as conn:
                await blob_rows.strike(conn, tenant, gone)
                await blob_rows.give_up(conn, tenant, digests[len(gone) :])
        return len(gone)

    async def drop_left_over(self) -> int:
        """Delete the blobs of all tenants that a process left behind when it died between two steps; how many they were."""
        async with self.database.sweep() as conn:
            found = await blob_rows.left_over(conn, self.now() - STAGED)
        return sum([await self.drop_blobs(tenant, digests) for tenant, digests in found.items()])


def tainting(spans: Spans, tombstones: list[TombstoneRow], *, erased_only: bool = False) -> list[str]:
    """The exactly forgotten corrections that a state of `spans` still holds."""
    return [row.event_id for row in tombstones if row.exact and holds(spans, row.seq) and (not erased_only or row.mode == "erase")]


def _refuse_erased(spans: Spans, tombstones: list[TombstoneRow]) -> None:
    erased = tainting(spans, tombstones, erased_only=True)
    if erased:
        raise Conflict(f"the state to be saved holds erased corrections ({', '.join(erased)}); try again once they are rebuilt away")


def refuse_tainted(snapshot: SnapshotRow, tombstones: list[TombstoneRow]) -> None:
    """Raise `TaintedSnapshot` when the snapshot holds what must not come back, `NotFound` when it was dropped by retention."""
    held = tainting(normal((*snapshot.spans, *snapshot.heard)), tombstones)
    if held:
        raise TaintedSnapshot(f"snapshot {snapshot.id} holds the forgotten {', '.join(held[:5])}; choose one that does not")
    if snapshot.destroyed_at is not None:
        raise NotFound(f"snapshot {snapshot.id} is not kept any more")


async def _sleeps(conn: Any, tenant: str, bank: BankRow, taken: Taken) -> tuple[int, ...]:  # noqa: ANN401
    """Where the language model of a state to be saved has slept."""
    if taken.sleeps is not None:
        return taken.sleeps
    if taken.language is not None:
        return taken.language.sleeps
    slept = (await snapshots.get_snapshot(conn, tenant, bank.head, bank.id)).sleeps if bank.head else ()
    return tuple(seq for seq in slept if seq <= taken.seq)


def encode(state: State, language: LanguagePart | None = None) -> Encoded:
    """The bytes of a state, and of the bank's language model beside it; to be run beside the requests."""
    blobs = checkpoint.encode(state) | ({} if language is None else {LANGUAGE: language.data})
    return Encoded(state.digest(), [(name, data, checkpoint.sha256(data)) for name, data in sorted(blobs.items())])
