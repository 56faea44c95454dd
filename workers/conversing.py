"""Conversations with a bank's own language model: what users say is appended and learned, answers are made from what was learned.

The ledger first, as in teaching: a turn is durable before a weight moves, and is answered for once both are done. Answers are made beside
it, from the state after the turn: the conversation is read on a copy of that and gone on with, piece by piece, and the copy is dropped.
Between two pieces it is kept under the name of the answer; where it is gone (another worker, a restart) all that is read again.

States are kept by `workers/language_states.py`. Who may answer from which is told by the bank's row, looked up for every piece.
"""

import contextlib
from collections.abc import Callable, Sequence
from datetime import datetime

from model.hope.state import NotFinite
from model.language import LEARNED, Line, Reading, Sampling, exchange, prompt
from service import wire
from service.cluster.engine import Actor
from service.errors import Invalid, NotOwner, PalimpsestError, StateUnavailable, WriterBusy
from service.store import banks, idempotency, turns
from service.store.appending import Tail
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.ledger import AlreadyTaught
from service.store.rows import BankRow
from service.tracing import Stage
from workers.language import LanguageModel
from workers.language_states import Key, LanguageStates
from workers.teaching import TRIES, refuse_closed
from workers.threads import OwnThread
from workers.warm import WarmBanks
from workers.whole import Whole

PIECE = 64  # tokens at most for one call


class Conversing:
    """The engine port's conversations. `thread` is the recall memory's, whose warm banks note what they need not learn."""

    def __init__(
        self,
        database: Database,
        warm: WarmBanks,
        states: LanguageStates,
        *,
        thread: OwnThread,
        whole: Whole,
        stage: Stage,
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._warm, self._states, self._thread = database, warm, states, thread
        self._whole, self._stage, self._now = whole, stage, now

    @property
    def model(self) -> LanguageModel:
        """The language model."""
        return self._states.fold.model

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
            with self._stage("converse"):
                known, found = await self._states.now(tenant, bank_id)  # before it is appended: who has to come again has taught nothing
            id, seq = await self._whole(self._append(tenant, bank_id, draft, ids))
            with self._stage("converse"), contextlib.suppress(StateUnavailable):  # it is taught, whatever it is answered
                known, found = await self._states.now(tenant, bank_id)
            told = known.surprise if known.seq == seq else None  # somebody else has said something since
            state = wire.StateRef(snapshot_id=found.head.id, seq=max(seq, known.seq))
            return wire.TurnTaken(id=id, seq=seq, tokens=tokens, surprise=told, state=state)

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
        with contextlib.nullcontext() if said else self.model.taken():  # an answer that has begun is gone on with
            async with self._database.read(tenant) as conn:
                row = await banks.find_bank(conn, tenant, bank)
            speaker, sampling = await self.model.speaker(), Sampling(how.temperature, how.top_p, how.seed, how.stop)
            if any(not 0 <= token < speaker.config.vocab_size for token in said):
                raise Invalid("said: these are no tokens of this language model")
            kept, state = self._states.room(speaker), wire.StateRef(snapshot_id=row.head if at is None else at, seq=row.seq)
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

    # --- inside

    async def _listened(self, tenant: str, bank_id: str, at: str | None, lines: Sequence[wire.ChatLine], said: Sequence[int]) -> Reading:
        """Where a conversation stands once it was read, with so much of its answer."""
        known, _ = await (self._states.now(tenant, bank_id) if at is None else self._states.then(tenant, bank_id, at))
        speaker, voice = await self.model.speaker(), Reading(known.state)
        for part in await self.model.run(speaker.heard, prompt([Line(line.role, line.text) for line in lines]), said):
            voice = await self.model.run(speaker.read, voice, part)
        return voice

    async def _append(self, tenant: str, bank_id: str, draft: turns.TurnDraft, ids: Sequence[str]) -> tuple[str, int]:
        """Append the turn and let the warm bank pass it; its id and seq. One that was said under any of the ids is not said again."""
        async with self._warm.lock(bank_id):
            for _ in range(TRIES):
                warm = await self._warm.locked(tenant, bank_id)
                if len(ids) > 1 and (known := await self._known(tenant, bank_id, ids)) is not None:  # another may have, each time
                    return known
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
                    known = await self._known(tenant, bank_id, ids)
                    if known is None:
                        raise Invalid("the id of this turn is that of something else") from None
                    return known
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
                return draft.id, place.seq
        raise WriterBusy(retry_after_s=1)

    async def _known(self, tenant: str, bank_id: str, ids: Sequence[str]) -> tuple[str, int] | None:
        async with self._database.read(tenant) as conn:
            return await turns.known(conn, tenant, bank_id, ids, since=self._now() - idempotency.KEPT)


def _name(row: BankRow, at: str | None, talk: str, said: Sequence[int]) -> Key:
    """What a voice is found by: whatever changes what the bank may answer changes its epoch or its head."""
    return row.id, row.epoch, row.head_version, at, talk, tuple(said)
