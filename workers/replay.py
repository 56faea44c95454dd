"""Replay: from the ledger and its snapshots to the state that a bank should have. This is the whole of recovery.

    state(bank now) = fold(base snapshot, the live events after it)

`wanted` names the live events: those of the head snapshot and all since, minus the exactly forgotten ones, and minus the quarantined ones
for as long as they are that. A snapshot may serve as the base if it holds just the wanted events up to its seq. Those that have the head's
slow level, the head and what grew from it, give the same bits (I8), and the newest costs least. Others lack what was consolidated since:
they serve where an event of the head was forgotten, and in need. A snapshot whose bytes do not have their digest is refused, named in the
log, and the next is taken; the genesis snapshot has no bytes and always serves.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import structlog

from model import CheckpointRefused, Lesson, Recall, State, checkpoint
from model.start.weights import told_apart
from service import tracing
from service.errors import ChecksumMismatch, NotFound, OtherEncoder, StateUnavailable
from service.store import banks, forgets, history, quarantines, snapshots, turns
from service.store.blobs import Blobs
from service.store.db import Database
from service.store.lineage import Spans, among, can_serve, holds, live, normal, restrict, subtract
from service.store.rows import BankRow, LessonRow, SnapshotRow, TombstoneRow
from service.tracing import Stage
from workers.threads import OwnThread
from workers.view import Key, View, counted, still_inside

LANGUAGE = "language"  # what a snapshot holds of the bank's language model, beside the levels of `Recall`
PAGE = 512  # events read from the ledger at once
CHUNK = 16  # events folded before the thread may serve someone else, about 30 ms

Progress = Callable[[float], Awaitable[None]]
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Lineage:
    """What a bank's state should be, read in one transaction."""

    bank: BankRow
    head: SnapshotRow
    wanted: Spans
    tombstones: tuple[TombstoneRow, ...]
    quarantined: tuple[TombstoneRow, ...]
    held: Spans  # quarantined events that would be wanted
    bases: tuple[SnapshotRow, ...]  # the head and what grew from it, then the others; newest first, without rejected and imported ones

    turns: tuple[int, ...] = ()  # positions of what was said in conversations, of which nothing is in these weights

    def serves(self, base: SnapshotRow) -> bool:
        """Whether the wanted state can be folded from a snapshot: it holds just the wanted corrections up to its position."""
        return can_serve(subtract(base.spans, self.turns), base.seq, subtract(self.wanted, self.turns))

    def has_level_of_head(self, base: SnapshotRow) -> bool:
        """Whether what is folded from a snapshot has the slow level of the head: it is the head, or grew from it."""
        return self.head.id in (base.id, base.parent)

    @property
    def whole(self) -> Spans:
        """What belongs to the state: what is wanted, and what would be but for a quarantine."""
        return normal((*self.wanted, *self.held))

    @property
    def hidden(self) -> tuple[TombstoneRow, ...]:
        """Everything that no answer may rest on: what was forgotten, in whatever mode, and what is in quarantine."""
        return (*self.tombstones, *self.quarantined)


async def lineage(database: Database, tenant: str, bank: str) -> Lineage:
    """The bank's position, head and wanted events.

    Raises:
        NotFound: the tenant has no such bank.
    """
    async with database.read(tenant) as conn:
        row = await banks.find_bank(conn, tenant, bank)
        usable = await snapshots.usable(conn, tenant, row.id)
        tombstones = await forgets.tombstones(conn, tenant, row.id)
        quarantined = await quarantines.held(conn, tenant, row.id)
        said = await turns.seqs(conn, tenant, row.id, row.seq)
    head = next((snapshot for snapshot in usable if snapshot.id == row.head), None)
    if head is None:
        raise StateUnavailable(f"the head of bank {row.id} is not among its snapshots; restore the database", retry_after_s=60)
    exact = [tombstone.seq for tombstone in tombstones if tombstone.exact]
    whole = live((*head.spans, *head.held), head.seq, row.seq, exact)
    apart = [event.seq for event in quarantined]
    passed = [row for row in usable if (row.gate is None or row.gate["passed"]) and row.kind != "import"]
    wanted, held = subtract(whole, apart), among(whole, apart)
    found = Lineage(row, head, wanted, tuple(tombstones), tuple(quarantined), held, tuple(passed), tuple(said))
    return replace(found, bases=tuple(sorted(passed, key=lambda base: not found.has_level_of_head(base))))  # stable: newest first


@dataclass(frozen=True, slots=True)
class Replay:
    """Loads and folds states for the banks of a service."""

    database: Database
    blobs: Blobs
    recall: Recall
    refused: Callable[[], None] = lambda: None  # told of each snapshot that could not be loaded
    stage: Stage = tracing.span

    async def base(self, tenant: str, found: Lineage) -> tuple[State, SnapshotRow]:
        """The newest snapshot that can be loaded and from which the wanted state can be folded.

        Raises:
            OtherEncoder: the bank's keys are of another encoder. StateUnavailable: no snapshot can be loaded.
        """
        self._check_encoder(found)
        for snapshot in found.bases:
            if snapshot.seq > found.bank.seq or not found.serves(snapshot):
                continue
            try:
                return await self.load(tenant, snapshot), snapshot
            except NotFound:
                continue
            except (ChecksumMismatch, StateUnavailable) as refused:
                self.refused()
                log.error(
                    "snapshot refused",
                    action="snapshot_refused",
                    bank=found.bank.id,
                    snapshot=snapshot.id,
                    why=refused.detail,
                )
        raise StateUnavailable(
            f"no snapshot of bank {found.bank.id} can be loaded, not even its genesis; restore the database",
            retry_after_s=60,
        )

    async def load(self, tenant: str, snapshot: SnapshotRow) -> State:
        """The state that a snapshot saved.

        Raises:
            ChecksumMismatch: a blob is missing or does not have its digest (named).
            StateUnavailable: it was made under a configuration that this build does not run.
            NotFound: it was deleted since its row was read.
        """
        if not snapshot.levels:  # genesis: nothing learned, nothing stored, so a bank of an older build is folded anew from here
            return self.recall.initial()
        if snapshot.config_hash != self.recall.config.hash:
            raise StateUnavailable(
                f"snapshot {snapshot.id} has configuration {snapshot.config_hash[:12]}, this service runs {self.recall.config.hash[:12]}"
            )
        try:
            blobs = {level.name: await self.blobs.get(tenant, level.sha256) for level in snapshot.levels if level.name != LANGUAGE}
        except ChecksumMismatch:
            async with self.database.read(tenant) as conn:  # whoever deletes a snapshot says so before its bytes go: nothing is damaged
                await snapshots.get_kept(conn, tenant, snapshot.id, snapshot.bank)
            raise
        state = await asyncio.to_thread(self._decoded, snapshot, blobs)  # a tenth of a second that nobody else should wait
        return self.recall.brought(state)

    def _check_encoder(self, found: Lineage) -> None:
        """Keys of one encoder mean nothing to another: no configuration can make up for it."""
        theirs, ours = found.bank.encoder_digest, self.recall.config.encoder_digest
        if theirs != ours:
            raise OtherEncoder(f"bank {found.bank.id} was taught with {told_apart(theirs, ours)}")

    def _decoded(self, snapshot: SnapshotRow, blobs: dict[str, bytes]) -> State:
        try:
            state = checkpoint.decode(self.recall.config, blobs, watermark=snapshot.seq)
        except CheckpointRefused as refused:
            digests = ", ".join(level.sha256 for level in snapshot.levels)
            raise ChecksumMismatch(f"snapshot {snapshot.id} ({digests}) cannot be read: {refused}") from refused
        if state.digest() != snapshot.digest:
            raise ChecksumMismatch(f"snapshot {snapshot.id} should have digest {snapshot.digest} and has {state.digest()}")
        return state

    async def current(
        self, tenant: str, found: Lineage, *, thread: OwnThread, progress: Progress | None = None
    ) -> tuple[View, SnapshotRow]:
        """The view that the bank should have now, and the snapshot it was folded from."""
        state, base = await self.base(tenant, found)
        view = await self._view(tenant, found, base, state, found.head.id)
        with self.stage("fold"):
            await self.fold(tenant, found, view, thread=thread, progress=progress)
        await self.admit(tenant, found.bank.id, view)
        return view, base

    async def at(self, tenant: str, found: Lineage, snapshot: SnapshotRow) -> View:
        """The view that a snapshot saved, with what was forgotten since held back.

        Raises:
            ChecksumMismatch, StateUnavailable, NotFound: as `load`.
        """
        self._check_encoder(found)
        view = await self._view(tenant, found, snapshot, await self.load(tenant, snapshot), snapshot.id)
        view.held = among(snapshot.held, [event.seq for event in found.quarantined])  # of the others it keeps what it was without
        await self.admit(tenant, found.bank.id, view)
        return view

    async def fold(self, tenant: str, found: Lineage, view: View, *, thread: OwnThread, progress: Progress | None = None) -> int:
        """Apply the wanted events after the view's seq, in order and in chunks on `thread`; returns how many.

        Afterwards the view stands at the bank's seq and holds exactly the wanted events; its counts are those of `admit`.
        """
        applied, after, upto = 0, view.seq, found.bank.seq
        at = after
        while at < upto:
            async with self.database.read(tenant) as conn:
                rows = await history.lessons(conn, tenant, found.bank.id, at, upto, PAGE)
            if not rows:
                break
            kept = [row for row in rows if holds(found.wanted, row.seq)]
            for start in range(0, len(kept), CHUNK):
                await thread.run(self._apply, view, kept[start : start + CHUNK])
            applied, at = applied + len(kept), rows[-1].seq
            if progress is not None:
                await progress((at - after) / (upto - after))
        view.seq, view.held = upto, found.held
        view.weights, view.turns = restrict(found.wanted, upto), found.turns  # turns are in them by their place, and teach nothing here
        return applied

    async def admit(self, tenant: str, bank_id: str, view: View) -> None:
        """Set what the view may answer, from the ledger and what is hidden of it now."""
        async with self.database.read(tenant) as conn:
            said = await history.spoken(conn, tenant, bank_id, view.weights)
            hidden = await quarantines.hidden(conn, tenant, bank_id)
            view.closed = await quarantines.closed(conn, tenant, bank_id)
        view.counts = counted(said, view.weights, hidden, len(view.book))
        view.gone = frozenset(row.seq for row in hidden)
        view.forgotten = still_inside(view.weights, hidden)

    async def _view(self, tenant: str, found: Lineage, base: SnapshotRow, state: State, snapshot_id: str) -> View:
        async with self.database.read(tenant) as conn:
            rows = await history.responses(conn, tenant, found.bank.id)
        book = self.recall.book()
        for row in rows:
            while len(book) < row.ordinal:
                book.add(f"\0{len(book)}")  # an erased response keeps its place; nothing supports it, so it is never answered
            book.add(row.text)
        counts = np.zeros(max(64, len(book)), np.int32)
        return View(snapshot_id, base.seq, state, base.spans, book, counts, turns=found.turns)

    def _apply(self, view: View, rows: Sequence[LessonRow]) -> None:
        for row in rows:
            view.know(row.response, row.right)  # it may have been taught since the view was begun
            view.learn(self.recall, lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words), row.response)


def lesson_of(embedding: bytes, right: str, tokens: int, seq: int, words: bytes | None) -> Lesson:
    """What a row of the ledger teaches."""
    return Lesson(key_of(embedding), right, tokens, seq, None if words is None else key_of(words))


def key_of(embedding: bytes) -> Key:
    """The stored key as a vector (384,)."""
    return np.frombuffer(embedding, np.float32)
