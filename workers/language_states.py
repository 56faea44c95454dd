"""The states of banks' language models that this process has in memory: those of now, those of snapshots that were asked, and voices.

A state is a value, so nobody who reads one needs a lock. A fold is done once for all who wait for it. Who waits for a long one is told so
after `patience_s`, with how much is left: it goes on by itself, and is saved with a snapshot when it ends, so that it is not done again.
"""

import asyncio
import hashlib
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import structlog

from model.hope.saved_state import StateRefused
from model.language import Reading, Speaker
from service import wire
from service.errors import NotFound, PalimpsestError, StateUnavailable
from service.store import snapshots
from service.store.db import Database
from service.store.lineage import above, count, holds
from workers.language_fold import Known, LanguageFold, Wanted
from workers.replay import Lineage, lineage
from workers.versions import LanguagePart, refuse_tainted
from workers.warm_bank import Kept
from workers.whole import Whole

STATES = 256 * 2**20  # bytes of banks' states that stay in memory, and of copies between two pieces
LEAST = 2  # states that stay, however large
PATIENCE_S = 20.0  # somebody waits for a fold; less than a call to a worker may take
LONG = 64  # events of a fold: it is worth a snapshot
FEW = 16  # events that a snapshot folds for its language model
PART_S = 1.0  # a snapshot waits for it
OLD = 4  # folds of snapshots at once
Name = tuple[str, ...]
Key = tuple[Any, ...]
log = structlog.get_logger()


class Reached(NamedTuple):
    """A state, and the lineage that it was wanted by."""

    known: Known
    found: Lineage


class _Voided(Exception):
    """What a fold leads to is wanted no more."""


@dataclass(slots=True)
class Way:
    """A fold that is under way."""

    began: float  # in the event loop's seconds
    wanted: Wanted | None = None
    at: int = 0
    done: int = 0  # events that were learned
    void: bool = False
    task: "asyncio.Task[Reached] | None" = None

    def told(self, now: float) -> StateUnavailable:
        """What somebody hears who has waited long enough."""
        left = 0 if self.wanted is None else count(above(self.wanted.spans, self.at))
        ahead = left * (now - self.began) / self.done if self.done else PATIENCE_S
        far = f"{self.done} events are learned, {left} are left" if self.done else "it has begun"
        return StateUnavailable(
            f"the bank's language model is being made from its ledger: {far}; this goes on by itself, ask again",
            retry_after_s=min(60, max(1, round(ahead))),
        )


@dataclass(slots=True)
class _Kept:
    """What stays in memory."""

    now: Kept[str, Known]
    old: Kept[tuple[str, str], Known]
    voices: Kept[Key, Reading]

    @classmethod
    def of(cls, state_bytes: int) -> "_Kept":
        """Room for states of a size."""
        most = max(LEAST, STATES // max(1, state_bytes))
        return cls(Kept(most), Kept(LEAST), Kept(most))


@dataclass(slots=True)
class LanguageStates:
    """Reaches states and keeps them. `long` is told the tenant and the bank of a long fold that has ended."""

    database: Database
    fold: LanguageFold
    whole: Whole
    long: Callable[[str, str], None]
    patience_s: float = PATIENCE_S
    _kept: _Kept | None = None
    _ways: dict[Name, Way] = field(default_factory=dict)

    def room(self, speaker: Speaker) -> _Kept:
        """What is in memory."""
        if self._kept is None:
            self._kept = _Kept.of(speaker.state_bytes)
        return self._kept

    async def now(self, tenant: str, bank_id: str) -> Reached:
        """The state that the bank has now, or had after this call began.

        Raises:
            StateUnavailable: it takes longer than one waits; what is left of it is said, and goes on.
        """
        return await self._shared((bank_id,), partial(self._now, tenant, bank_id))

    async def then(self, tenant: str, bank_id: str, at: str) -> Reached:
        """The state that the bank had at a snapshot, without what was hidden since.

        Raises:
            StateUnavailable: as `now`. NotFound, TaintedSnapshot: it is not kept, or holds what was forgotten.
        """
        return await self._shared((bank_id, at), partial(self._then, tenant, bank_id, at))

    def follow(self, tenant: str, bank_id: str) -> None:
        """Something of the bank was hidden or came back: where somebody talks to it here, its state follows before it is asked."""
        if self._kept is not None and self._kept.now.get(bank_id) is not None:
            self.whole.own(self._followed(tenant, bank_id))

    async def describe(self, tenant: str, found: Lineage) -> wire.Language | None:
        """What the bank's language model is, as far as that can be told; None where nobody has talked to the bank."""
        if Wanted.now(found).first is None:
            return None
        try:
            known, speaker = (await self.now(tenant, found.bank.id)).known, await self.fold.model.speaker()
            if known.digest is None:
                known = await self._with_digest(speaker, found.bank.id, known)
        except StateUnavailable as error:
            wanted = Wanted.now(found)
            said = sum(holds(wanted.spans, seq) for seq in found.turns)
            return wire.Language(digest=None, turns=said, sleeps=list(wanted.sleeps), bytes=None, model=None, unavailable=error.detail)
        said = sum(holds(known.spans, seq) for seq in found.turns)
        return wire.Language(
            digest=known.digest, turns=said, sleeps=list(known.sleeps), bytes=speaker.state_bytes, model=speaker.digest, unavailable=None
        )

    async def part(self, tenant: str, bank_id: str, taken: Wanted) -> LanguagePart | None:
        """The bank's state for a snapshot of what was wanted when that was taken; None where it is not ready, or is another by now."""
        known = None if self._kept is None else self._kept.now.get(bank_id)
        if known is None or not known.serves(taken) or known.sleeps != taken.sleeps or count(above(taken.spans, known.seq)) > FEW:
            return None
        try:
            known = (await self._shared((bank_id,), partial(self._now, tenant, bank_id), PART_S)).known
            speaker = await self.fold.model.speaker()
            data = await self._saved(speaker, bank_id, known)
        except StateUnavailable:
            return None
        if (known.seq, known.spans, known.sleeps) != (taken.seq, taken.spans, taken.sleeps) or taken.first is None:
            return None  # more was said meanwhile, or something hidden or rolled back: the next snapshot has it
        return LanguagePart(data, known.spans, known.sleeps)

    def talks(self, bank_id: str) -> bool:
        """Whether somebody talks to the bank here."""
        return self._kept is not None and bank_id in self._kept.now

    async def settle(self, tenant: str, bank_id: str) -> None:
        """The bank's head has moved, or something was erased from it: what holds anything else than is wanted now leaves the memory."""
        if self._kept is None:
            return
        known, way = self._kept.now.get(bank_id), self._ways.get((bank_id,))
        if known is not None or way is not None:
            try:
                wanted = Wanted.now(await lineage(self.database, tenant, bank_id))
            except NotFound:
                self.drop(bank_id)
                return
            if known is not None and not known.serves(wanted):
                self._kept.now.pop(bank_id, None)
            if way is not None and (way.wanted is None or not way.wanted.still(wanted)):
                self._void(lambda name: self._ways[name] is way)
        self._void(lambda name: len(name) > 1 and name[0] == bank_id)
        self._kept.old.clear()
        self._kept.voices.clear()

    def drop(self, bank_id: str | None = None) -> None:
        """The bank (None: many) is gone: nothing of it stays in memory."""
        if self._kept is None:
            return
        self._void(lambda name: bank_id in (None, name[0]))
        self._kept.old.clear()
        self._kept.voices.clear()
        if bank_id is None:
            self._kept.now.clear()
        else:
            self._kept.now.pop(bank_id, None)

    # --- inside

    async def _with_digest(self, speaker: Speaker, bank_id: str, known: Known) -> Known:
        digest = hashlib.sha256(await self._saved(speaker, bank_id, known)).hexdigest()
        kept, before = self.room(speaker).now, known
        known = replace(known, digest=digest)
        if kept.get(bank_id) is before:
            kept.keep(bank_id, known)
        return known

    async def _saved(self, speaker: Speaker, bank_id: str, known: Known) -> bytes:
        try:
            return await self.fold.model.run(speaker.save, known.state, "")
        except StateRefused as error:  # spoiled in memory: the ledger has all that it should be
            self.drop(bank_id)
            raise StateUnavailable(
                f"the state of the bank's language model was unusable and is made again: {error}", retry_after_s=5
            ) from error

    async def _shared(self, name: Name, fold: Callable[[Way], Coroutine[Any, Any, Reached]], patience_s: float | None = None) -> Reached:
        """What a fold that begins from now on leads to: mine, or that of somebody who came at the same time."""
        loop = asyncio.get_running_loop()
        came = loop.time()
        until = came + (self.patience_s if patience_s is None else patience_s)
        while True:
            way = self._ways.get(name)
            if way is None:
                if len(name) > 1 and sum(len(each) > 1 for each in self._ways) >= OLD:
                    raise StateUnavailable("too many snapshots' language models are being made at once", retry_after_s=5)
                way = self._ways[name] = Way(loop.time())
                way.task = self.whole.own(fold(way))
                way.task.add_done_callback(partial(self._ended, name))
            assert way.task is not None
            await asyncio.wait({way.task}, timeout=max(0.0, until - loop.time()))
            if not way.task.done():
                raise way.told(loop.time())
            if way.began >= came and not way.void:
                return way.task.result()

    def _void(self, which: Callable[[Name], bool]) -> None:
        """Whoever waits for these folds begins others."""
        for name in list(filter(which, self._ways)):
            self._ways.pop(name).void = True

    def _ended(self, name: Name, task: "asyncio.Task[Reached]") -> None:
        if (way := self._ways.get(name)) is not None and way.task is task:
            del self._ways[name]
        if not task.cancelled() and (error := task.exception()) is not None:  # who waited is told; perhaps nobody did
            log.debug("language state not reached", action="language_fold", bank=name[0], why=type(error).__qualname__)

    async def _now(self, tenant: str, bank_id: str, way: Way) -> Reached:
        kept = self.room(await self.fold.model.speaker())
        found = await lineage(self.database, tenant, bank_id)
        known = await self._reached(tenant, Wanted.now(found), kept.now.recent(bank_id), way, partial(kept.now.keep, bank_id))
        if way.done >= LONG:
            self.long(tenant, bank_id)
        return Reached(known, found)

    async def _then(self, tenant: str, bank_id: str, at: str, way: Way) -> Reached:
        kept = self.room(await self.fold.model.speaker())
        found = await lineage(self.database, tenant, bank_id)
        async with self.database.read(tenant) as conn:
            snapshot = await snapshots.get_snapshot(conn, tenant, at, bank_id)
        if snapshot.destroyed_at is not None:
            refuse_tainted(snapshot, list(found.tombstones))
        name = (bank_id, at)
        known = await self._reached(tenant, Wanted.at(found, snapshot), kept.old.recent(name), way, partial(kept.old.keep, name))
        return Reached(known, found)

    async def _reached(self, tenant: str, wanted: Wanted, known: Known | None, way: Way, keep: Callable[[Known], None]) -> Known:
        """The wanted state; every one on the way there is kept, so that what ends half way has not been for nothing."""
        way.wanted = wanted

        def on_the_way(known: Known) -> None:
            if way.void:
                raise _Voided
            way.done += known.seq > way.at
            way.at = known.seq
            keep(known)

        return await self.fold.reach(tenant, wanted, known, on_the_way)

    async def _followed(self, tenant: str, bank_id: str) -> None:
        try:
            await self.now(tenant, bank_id)
        except StateUnavailable:
            pass  # it goes on
        except PalimpsestError as error:
            log.warning("language state not reached", action="language_follow", bank=bank_id, why=error.code)
