"""The state of a bank's language model: a fold over the ledger, as every state of the bank is.

    state(bank, now) = fold(read, nothing, what was said), asleep at each of the head's `sleeps`

What is said are the turns of conversations and, from the first of them on, the corrections: what was taught to a bank that nobody had
talked to is the recall memory's alone, so an import of thousands costs no conversation a minute. Of the events that belong to the bank
none that is forgotten, in whatever mode, or in quarantine: what a language model holds cannot be held back where it answers, so here a
suppressed event leaves the weights at once.

A snapshot may hold the state as one more level, `language`, and says which events are in it (`heard`). It serves as a beginning where
these are just the wanted ones up to its position, and it has slept at the same places; any beginning gives the same bits, and nothing is
lost with one.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import structlog

from service.errors import ChecksumMismatch, StateUnavailable
from service.store import turns
from service.store.blobs import Blobs
from service.store.db import Database
from service.store.lineage import Spans, holds, restrict, subtract
from service.store.rows import SnapshotRow
from service.store.turns import Said
from workers.language import LanguageModel
from workers.replay import LANGUAGE, Lineage
from workers.versions import LanguagePart

if TYPE_CHECKING:  # what runs is imported where it does: see `workers/language.py`
    from model.hope.online import HopeState
    from model.language import Speaker

FEW = 4  # texts that a sleep reads without a break
IN_TIME_S = 60.0  # for a fold in the job of a forget
PAGE = 256  # events read from the ledger at once
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a state should hold: the events `spans` up to `seq`, asleep after each of `sleeps`."""

    bank: str
    snapshot: str  # the head, or the snapshot that is meant
    seq: int
    spans: Spans
    sleeps: tuple[int, ...]
    bases: tuple[SnapshotRow, ...]
    turns: tuple[int, ...]  # positions of all that the bank's ledger has

    @property
    def first(self) -> int | None:
        """The position of the first turn that is wanted; None: nobody has talked to the bank."""
        return next((seq for seq in self.turns if seq <= self.seq and holds(self.spans, seq)), None)

    @classmethod
    def now(cls, found: Lineage) -> "Wanted":
        """What the bank should hold now."""
        spans = subtract(found.wanted, [row.seq for row in found.hidden])
        return cls(found.bank.id, found.head.id, found.bank.seq, spans, found.head.sleeps, found.bases, found.turns)

    @classmethod
    def at(cls, found: Lineage, snapshot: SnapshotRow) -> "Wanted":
        """What a snapshot of the bank should hold, but for what was hidden since."""
        spans = subtract(snapshot.spans, [row.seq for row in found.hidden])
        return cls(found.bank.id, snapshot.id, snapshot.seq, spans, snapshot.sleeps, (snapshot, *found.bases), found.turns)

    def still(self, now: "Wanted") -> bool:
        """Whether what was wanted is, up to there, what is wanted `now`."""
        return self.spans == restrict(now.spans, self.seq) and self.sleeps == tuple(seq for seq in now.sleeps if seq <= self.seq)


@dataclass(frozen=True, slots=True)
class Known:
    """A state, with what it holds; `surprise` is that of the last event that it learned, before it did."""

    bank: str
    seq: int
    spans: Spans
    sleeps: tuple[int, ...]
    state: "HopeState"
    surprise: float | None = None
    digest: str | None = None  # of its bytes, once somebody has asked

    def serves(self, wanted: Wanted) -> bool:
        """Whether what is wanted can be folded from here."""
        return (
            self.seq <= wanted.seq
            and self.spans == restrict(wanted.spans, self.seq)
            and self.sleeps == tuple(seq for seq in wanted.sleeps if seq <= self.seq)
        )


@dataclass(frozen=True, slots=True)
class LanguageFold:
    """Folds states of language models."""

    database: Database
    blobs: Blobs
    model: LanguageModel

    async def reach(self, tenant: str, wanted: Wanted, known: Known | None, keep: Callable[[Known], None] = lambda known: None) -> Known:
        """The wanted state, from one that is `known` if that serves; `keep` is given every state on the way."""
        speaker = await self.model.speaker()
        state = known if known is not None and known.serves(wanted) else await self._base(tenant, speaker, wanted)
        for seq in (*(each for each in wanted.sleeps if each > state.seq), None):
            upto = wanted.seq if seq is None else seq
            async for row in self._said(tenant, wanted, state.seq, upto):
                state = await self._learned(speaker, wanted, state, row)
                keep(state)
            state = replace(state, seq=upto, spans=restrict(wanted.spans, upto))
            if seq is not None:
                said = await self.since_last_sleep(tenant, wanted, seq)
                state = replace(
                    state, state=await self.asleep(speaker, state.state, said), sleeps=(*state.sleeps, seq), surprise=None, digest=None
                )
            keep(state)
        return state

    async def part(self, tenant: str, wanted: Wanted) -> LanguagePart | None:
        """The wanted state as bytes; None where nobody has talked to the bank.

        Raises:
            StateUnavailable: the model cannot be used now.
        """
        if wanted.first is None:
            return None
        known, speaker = await self.reach(tenant, wanted, None), await self.model.speaker()
        return LanguagePart(await self.model.run(speaker.save, known.state, ""), known.spans, known.sleeps)

    async def part_in_time(self, tenant: str, wanted: Wanted) -> LanguagePart | None:
        """As `part`, for a job whose promise is another one: what is to be erased does not wait for a language model.

        Raises:
            StateUnavailable: it takes longer than `IN_TIME_S`, or as `part`.
        """
        try:
            async with asyncio.timeout(IN_TIME_S):
                return await self.part(tenant, wanted)
        except TimeoutError:
            raise StateUnavailable(f"folding the language model takes longer than {IN_TIME_S:.0f} seconds", retry_after_s=60) from None

    async def _learned(self, speaker: "Speaker", wanted: Wanted, state: Known, row: Said) -> Known:
        """The state after one event; others may use the model between any two parts of its text."""
        from model.hope.state import NotFinite
        from model.language import Reading, exchange

        reading = Reading(state.state)
        try:
            for part in await self.model.run(speaker.parts, exchange(row.input, row.right)):
                reading = await self.model.run(speaker.read, reading, part)
        except NotFinite:  # it teaches nothing, each time that it is read
            reading = Reading(state.state)
        learned = replace(state, state=reading.state, surprise=reading.surprise, digest=None)
        return replace(learned, seq=row.seq, spans=restrict(wanted.spans, row.seq))

    async def asleep(self, speaker: "Speaker", state: "HopeState", said: Sequence[Said]) -> "HopeState":
        """A state after a sleep over what was said, if anything was; others may use the model between any few texts."""
        if not said:
            return state
        from model.language import sleep

        levels, pairs = await self.model.run(sleep.begun, speaker, state), [(row.input, row.right) for row in said]
        for _ in range(sleep.PASSES):
            for start in range(0, len(pairs), FEW):
                levels = await self.model.run(sleep.dreamt, speaker, levels, pairs[start : start + FEW])
        return await self.model.run(sleep.ended, speaker, state, levels)

    async def since_last_sleep(self, tenant: str, wanted: Wanted, seq: int) -> list[Said]:
        """What was said up to a position since the sleep before it, the newest of it."""
        from model.language import sleep

        last, kept = max((each for each in wanted.sleeps if each < seq), default=0), deque[Said](maxlen=sleep.MOST)
        async for row in self._said(tenant, wanted, last, seq):
            kept.append(row)
        return list(kept)

    async def _base(self, tenant: str, speaker: "Speaker", wanted: Wanted) -> Known:
        from model.hope.saved_state import StateRefused

        nothing = Known(wanted.bank, 0, (), (), speaker.initial())
        for snapshot in wanted.bases:
            blob = next((level for level in snapshot.levels if level.name == LANGUAGE), None)
            begun = replace(nothing, seq=snapshot.seq, spans=snapshot.heard, sleeps=snapshot.sleeps)
            if blob is None or not begun.serves(wanted):
                continue
            try:
                return replace(begun, state=await self.model.run(speaker.load, await self.blobs.get(tenant, blob.sha256)))
            except (ChecksumMismatch, StateRefused) as refused:  # of another model perhaps: the ledger has all
                log.warning("language state refused", action="language_refused", snapshot=snapshot.id, why=str(refused))
        return nothing

    async def _said(self, tenant: str, wanted: Wanted, after: int, upto: int) -> AsyncIterator[Said]:
        """What the wanted events of a stretch say, in order, none from before the first turn."""
        first = wanted.first
        at = upto if first is None else max(after, first - 1)
        while at < upto:
            async with self.database.read(tenant) as conn:
                rows = await turns.said(conn, tenant, wanted.bank, at, upto, PAGE)
            if not rows:
                break
            for row in rows:
                if holds(wanted.spans, row.seq):
                    yield row
            at = rows[-1].seq
