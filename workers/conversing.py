"""Conversations with a bank's own language model: what users say is appended and learned, answers are made from what was learned.

The ledger first, as in teaching: a turn is durable before a weight moves, and is answered for once both are done. Answers are made beside
it, from the state after the turn: the conversation is read on a copy of that and gone on with, piece by piece, and the copy is dropped.
Between two pieces it is kept under the name of the answer; where it is gone (another worker, a restart) all that is read again.

States are values, so nobody who reads one needs a lock. Who may answer from which is told by the bank's row, looked up for every piece.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from typing import Any
from weakref import WeakValueDictionary

from model.hope.state import NotFinite
from model.language import LEARNED, Line, Reading, Sampling, Speaker, exchange, prompt
from service import wire
from service.cluster.engine import Actor
from service.errors import Invalid, NotOwner, PalimpsestError, StateUnavailable, WriterBusy
from service.store import banks, snapshots, turns
from service.store.appending import Tail
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.ledger import AlreadyTaught
from service.store.lineage import holds
from service.store.rows import BankRow
from service.tracing import Stage
from workers.language import LanguageModel
from workers.language_fold import Known, LanguageFold, Wanted
from workers.replay import Lineage, lineage
from workers.teaching import TRIES, refuse_closed
from workers.threads import OwnThread
from workers.versions import LanguagePart, refuse_tainted
from workers.warm import WarmBanks
from workers.warm_bank import Kept
from workers.whole import Whole

STATES = 256 * 2**20  # bytes of banks' states that stay in memory, and of copies between two pieces
LEAST = 2  # states that stay, however large
PIECE = 64  # tokens at most for one call
Key = tuple[Any, ...]


@dataclass(slots=True)
class _Kept:
    """What stays in memory: the banks' states, those of snapshots that were asked, and voices between two pieces."""

    now: Kept[str, Known]
    old: Kept[tuple[str, str], Known]
    voices: Kept[Key, Reading]
    turns: WeakValueDictionary[str, asyncio.Lock] = field(default_factory=WeakValueDictionary)

    @classmethod
    def of(cls, state_bytes: int) -> "_Kept":
        """Room for states of a size."""
        most = max(LEAST, STATES // max(1, state_bytes))
        return cls(Kept(most), Kept(LEAST), Kept(most))

    def turn_of(self, name: str) -> asyncio.Lock:
        """One at a time folds what has this name."""
        return self.turns.setdefault(name, asyncio.Lock())


class Conversing:
    """The engine port's conversations. `thread` is the recall memory's, whose warm banks note what they need not learn."""

    def __init__(
        self,
        database: Database,
        warm: WarmBanks,
        fold: LanguageFold,
        *,
        thread: OwnThread,
        whole: Whole,
        stage: Stage,
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._warm, self._fold, self._thread = database, warm, fold, thread
        self._whole, self._stage, self._now = whole, stage, now
        self._kept: _Kept | None = None

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._fold.model

    async def observe(self, tenant: str, bank: str, turn: wire.NewTurn, *, actor: Actor, ids: Sequence[str]) -> wire.TurnTaken:
        """See `Engine.observe`."""
        with self.model.taken():
            bank_id, speaker = await self._warm.id_of(tenant, bank), await self.model.speaker()
            tokens = len(await self.model.run(speaker.encode, exchange(turn.input, turn.right)))
            if tokens > LEARNED:
                message = (
                    f"what is said has {tokens} tokens of the language model, more than the {LEARNED} that it learns at once; say less"
                )
                raise Invalid(f"messages: {message}", errors=[{"field": "messages", "message": message}])
            draft = turns.TurnDraft(ids[0], turn.session_id, turn.input, turn.right, tokens, actor.key_id)
            seq = await self._whole(self._append(tenant, bank_id, draft))
            with self._stage("converse"):
                known, found = await self._whole(self._now_of(tenant, bank_id))
            told = known.surprise if known.seq == seq else None  # somebody else has said something since
            state = wire.StateRef(snapshot_id=found.head.id, seq=known.seq)
            return wire.TurnTaken(id=draft.id, seq=seq, tokens=tokens, surprise=told, state=state)

    async def speak(
        self,
        tenant: str,
        bank: str,
        lines: Sequence[wire.ChatLine],
        *,
        talk: str,
        at: str | None,
        said: Sequence[int],
        most: int,
        last: bool,
        how: wire.Speaking,
    ) -> wire.Spoken:
        """See `Engine.speak`."""
        with self.model.taken():
            async with self._database.read(tenant) as conn:
                row = await banks.find_bank(conn, tenant, bank)
            speaker, sampling = await self.model.speaker(), Sampling(how.temperature, how.top_p, how.seed, how.stop)
            if any(not 0 <= token < speaker.config.vocab_size for token in said):
                raise Invalid("said: these are no tokens of this language model")
            kept, state = self._room(speaker), wire.StateRef(snapshot_id=row.head if at is None else at, seq=row.seq)
            try:
                with self._stage("converse"):
                    voice = kept.voices.pop(_name(row, at, talk, said), None) or await self._listened(tenant, row.id, at, lines, said)
                    read = voice.tokens - len(said)
                    voice, told, ended = await self.model.run(speaker.speak, voice, said, min(most, PIECE), sampling)
            except NotFinite:
                raise StateUnavailable("what this bank has learned has left the numbers; roll it back", retry_after_s=60) from None
            if not ended and not last:
                kept.voices.keep(_name(row, at, talk, told), voice)
            whole = await self.model.run(speaker.text, told, sampling, whole=ended or last)
            return wire.Spoken(tokens=told, text=whole, ended=ended, read=read, state=state)

    async def describe(self, tenant: str, found: Lineage) -> wire.Language | None:
        """What the bank's language model is; None where nobody has talked to the bank, or there is no model to tell of it."""
        if await self._fold.first(tenant, Wanted.now(found)) is None:
            return None
        try:
            known, _ = await self._whole(self._now_of(tenant, found.bank.id))
            speaker = await self.model.speaker()
        except StateUnavailable:
            return None
        if known.digest is None:
            data = await self.model.run(speaker.save, known.state, "")
            known = replace(known, digest=hashlib.sha256(data).hexdigest())
            self._room(speaker).now.keep(found.bank.id, known)
        said = [seq for seq in found.turns if holds(known.spans, seq)]
        return wire.Language(
            digest=known.digest or "", turns=len(said), sleeps=list(known.sleeps), bytes=speaker.state_bytes, model=speaker.digest
        )

    async def part(self, tenant: str, bank_id: str, seq: int) -> LanguagePart | None:
        """The bank's state for a snapshot at a position, where somebody talks to it here and it stands there."""
        if self._kept is None or self._kept.now.get(bank_id) is None:
            return None
        known, _ = await self._whole(self._now_of(tenant, bank_id))
        if known.seq != seq or not known.spans:
            return None  # more was said meanwhile: the next snapshot has it
        speaker = await self.model.speaker()
        return LanguagePart(await self.model.run(speaker.save, known.state, ""), known.spans, known.sleeps)

    def drop(self, bank_id: str | None = None) -> None:
        """Something of the bank (None: of many) was forgotten, or it is gone: nothing of it stays in memory."""
        if self._kept is None:
            return
        self._kept.old.clear()
        self._kept.voices.clear()
        if bank_id is None:
            self._kept.now.clear()
        else:
            self._kept.now.pop(bank_id, None)

    # --- inside

    async def _listened(self, tenant: str, bank_id: str, at: str | None, lines: Sequence[wire.ChatLine], said: Sequence[int]) -> Reading:
        """Where a conversation stands once it was read, with so much of its answer."""
        folding = self._now_of(tenant, bank_id) if at is None else self._then(tenant, bank_id, at)
        known, _ = await self._whole(folding)  # a long fold is of use to the next who asks, also where this one has left
        speaker, voice = await self.model.speaker(), Reading(known.state)
        for part in await self.model.run(speaker.heard, prompt([Line(line.role, line.text) for line in lines]), said):
            voice = await self.model.run(speaker.read, voice, part)
        return voice

    async def _now_of(self, tenant: str, bank_id: str) -> tuple[Known, Lineage]:
        """The state that the bank has now."""
        kept = self._room(await self.model.speaker())
        async with kept.turn_of(bank_id):  # who comes meanwhile need not fold the same
            found = await lineage(self._database, tenant, bank_id)
            known = kept.now.recent(bank_id)
            return await self._fold.reach(tenant, Wanted.now(found), known, partial(kept.now.keep, bank_id)), found

    async def _then(self, tenant: str, bank_id: str, at: str) -> tuple[Known, Lineage]:
        """The state that the bank had at a snapshot, without what was hidden since."""
        kept = self._room(await self.model.speaker())
        async with kept.turn_of(f"{bank_id} {at}"):
            found = await lineage(self._database, tenant, bank_id)
            async with self._database.read(tenant) as conn:
                snapshot = await snapshots.get_snapshot(conn, tenant, at, bank_id)
            if snapshot.destroyed_at is not None:
                refuse_tainted(snapshot, list(found.tombstones))
            known = await self._fold.reach(tenant, Wanted.at(found, snapshot), kept.old.recent((bank_id, at)))
            kept.old.keep((bank_id, at), known)
        return known, found

    def _room(self, speaker: Speaker) -> _Kept:
        if self._kept is None:
            self._kept = _Kept.of(speaker.state_bytes)
        return self._kept

    async def _append(self, tenant: str, bank_id: str, draft: turns.TurnDraft) -> int:
        """Append the turn and let the warm bank pass it; its seq."""
        async with self._warm.lock(bank_id):
            for _ in range(TRIES):
                warm = await self._warm.locked(tenant, bank_id)
                refuse_closed(warm.view.closed, [draft])
                fence: dict[str, int] = {"epoch": warm.row.epoch, "head_version": warm.head_version}
                try:
                    with self._stage("append"):
                        async with self._database.write(tenant) as conn:
                            place = await turns.append(conn, tenant, bank_id, draft, **fence, now=self._now())
                            if place.seq != warm.view.seq + 1:
                                raise NotOwner()
                except NotOwner:
                    self._warm.drop(bank_id)
                    continue
                except AlreadyTaught:
                    return await self._seq_of(tenant, bank_id, draft.id)
                except BaseException as error:
                    if isinstance(error, CommitUnknown) or not isinstance(error, PalimpsestError):
                        self._warm.drop(bank_id)
                    raise
                warm.tail = Tail(place.seq, place.hash, warm.tail.responses)
                try:
                    await self._thread.run(warm.view.passed, place.seq)
                except BaseException:
                    self._warm.drop(bank_id)  # the ledger has it: fold again
                    raise
                return place.seq
        raise WriterBusy(retry_after_s=1)

    async def _seq_of(self, tenant: str, bank_id: str, id: str) -> int:
        async with self._database.read(tenant) as conn:
            seq = await turns.seq_of(conn, tenant, bank_id, id)
        if seq is None:
            raise Invalid("the id of this turn is that of something else")
        return seq


def _name(row: BankRow, at: str | None, talk: str, said: Sequence[int]) -> Key:
    """What a voice is found by: whatever changes what the bank may answer changes its epoch or its head."""
    return row.id, row.epoch, row.head_version, at, talk, tuple(said)
