"""Teaching: append, then apply, then measure.

The order is the promise (I1, I2): the ledger row is committed before a weight changes, and the reply leaves after both. When it is
unknown whether the commit happened, or applying fails, the warm state is dropped and the ledger folded again: memory never holds what
the ledger lacks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

import numpy as np

from model import Candidate, Recall
from service import wire
from service.errors import Conflict, Invalid, NotOwner, PalimpsestError, Quota, WriterBusy
from service.store.appending import Appending, Believed
from service.store.failures import CommitUnknown
from service.store.ledger import AlreadyTaught
from service.store.lookup import Before
from service.store.quarantines import Source
from service.store.rows import Draft, EventRow, SameInputRow, SupportRow
from service.store.turns import TurnDraft
from service.tracing import Stage
from workers.batch import Batcher
from workers.encoding import EncodedText, text_of
from workers.judging import Judge, Looking
from workers.learning import SEEN, Ahead, Taken, Taking
from workers.reading import HEARD, NEWEST, Found, Keys, Read, Reader
from workers.replay import lesson_of
from workers.view import NO_KEYS, View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

OTHERS, OTHERS_MOST = 4, 64  # corrections beside a lesson that are asked before and after it; and all that one request asks
AGAIN_S = 15.0  # after which one of unknown outcome is not made again: its caller will not wait for ever
TRIES = 3  # appends before a caller is told that another writer holds the bank, or that nobody can say


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a lesson before it is learned: the corrections beside it, what was taught in just the same words, what is said.

    The texts are the lesson's own, its paraphrases, and the corrections beside it.
    """

    beside: list[SupportRow]
    same: list[Sequence[SameInputRow]]
    ahead: Ahead

    def with_lesson(self, row: EventRow, asked: Sequence[EncodedText]) -> list[Sequence[SameInputRow]]:
        """`same` for the texts once the lesson is in the ledger."""
        lesson = SameInputRow(seq=row.seq, id=row.id, response=row.response or 0)
        return [[lesson, *rows] if text.text == row.input else rows for text, rows in zip(asked, self.same, strict=True)]


@dataclass(frozen=True, slots=True)
class Measured:
    """What the memory said to a taught input before and after, and what became of paraphrases and of other corrections.

    `surprise`: 1 − the confidence that the right answer had before.
    """

    before: wire.Said
    after: wire.Said
    surprise: float
    paraphrases: wire.ParaphraseCheck
    locality: wire.Locality


@dataclass(frozen=True, slots=True)
class Teacher:
    """Appends corrections to a bank's ledger and folds them into its warm state."""

    appending: Appending
    warm: WarmBanks
    reader: Reader
    judge: Judge
    recall: Recall
    reads: Batcher[Read, Found]
    lessons: Batcher[Taking, Taken | Exception]
    stage: Stage
    noted: Callable[[str, str, Sequence[Before]], None]  # told what was said before each correction
    now: Callable[[], datetime]

    async def teach(
        self,
        tenant: str,
        bank_id: str,
        items: Sequence[wire.NewCorrection],
        ids: Sequence[str],
        encoded: Sequence[EncodedText],
        words: Mapping[str, EncodedText],
        paraphrases: Sequence[Sequence[EncodedText]],
        idempotency_key: str | None,
        taught_by: str,
    ) -> list[wire.Taught]:
        """All items or none, in order; `words` are the own words of responses that may be new. The caller holds the bank's lock.

        Raises:
            Invalid: a situation or an answer is blank: what is in the ledger has to be learnable for ever.
            AlreadyTaught: as `ledger.append`. Conflict: a session of them, or the key, is quarantined.
        """
        refuse_blank(items)
        drafts = [_draft(item, id, text, words.get(item.right), taught_by) for item, id, text in zip(items, ids, encoded, strict=True)]

        async def look_round(warm: WarmBank) -> Around:
            return await self._look_round(tenant, warm, encoded[0], paraphrases[0], _others(len(items)))

        warm, rows, looking = await self._append(tenant, bank_id, drafts, idempotency_key, look_round)
        try:
            return await self.apply(tenant, warm, warm.view, rows, paraphrases, await looking)
        except BaseException as error:
            self.warm.drop(bank_id)  # the ledger has them and the weights may not: fold again
            if isinstance(error, PalimpsestError):  # whose own words may be that nothing was kept
                raise CommitUnknown("the corrections are in the ledger, but their receipts could not be measured") from error
            raise

    async def apply(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        rows: Sequence[EventRow],
        paraphrases: Sequence[Sequence[EncodedText]],
        around: Around | None = None,
    ) -> list[wire.Taught]:
        """Fold the appended rows into the view, measuring a receipt for each; `around` the first was looked already, before it came."""
        begin = time.perf_counter()
        known = {row.response: row.right for row in rows if row.response is not None and row.right is not None}
        for ordinal, text in known.items():
            warm.texts.keep(ordinal, text)
        taught: list[wire.Taught] = []
        befores: list[Before] = []
        others = _others(len(rows))
        for row, asked in zip(rows, paraphrases, strict=True):
            measured = await self._measure(tenant, warm, view, row, asked, others, around)
            around = None
            taught.append(_taught(row, measured, view.snapshot_id, time.perf_counter() - begin))
            befores.append(Before(row.seq, _judged(measured.before, row), measured.surprise))
            begin = time.perf_counter()
        self.noted(tenant, warm.row.id, befores)
        return taught

    async def _append(
        self,
        tenant: str,
        bank_id: str,
        drafts: Sequence[Draft],
        idempotency_key: str | None,
        look_round: Callable[[WarmBank], Awaitable[Around]],
    ) -> tuple[WarmBank, list[EventRow], "asyncio.Future[Around]"]:
        """The bank, what was appended to it, and what `look_round` finds beside that.

        An append whose outcome nobody knows is made again: whether it was kept can be seen once the bank was taken anew, since no older
        one can come through then.
        """
        lost: CommitUnknown | None = None
        until = time.monotonic() + AGAIN_S
        for _ in range(TRIES):
            looking: asyncio.Future[Around] | None = None
            try:
                warm = await self.warm.locked(tenant, bank_id)
                refuse_closed(warm.view.closed, drafts)  # the append is fenced: a quarantine that is set meanwhile raises the epoch
                believed = _believed(warm, drafts)
                looking = asyncio.ensure_future(look_round(warm))
                with self.stage("append"):
                    rows = await self.appending.append(
                        tenant, bank_id, drafts, believed, key=idempotency_key, check=self._refuse_too_many, now=self.now()
                    )
                warm.tail = warm.tail.after(rows)
                return warm, rows, looking
            except BaseException as error:
                if looking is not None:
                    await asyncio.gather(looking, return_exceptions=True)  # nobody leaves the view while it is asked
                if isinstance(error, NotOwner | CommitUnknown) or not isinstance(error, PalimpsestError):
                    self.warm.drop(bank_id)  # another process took the bank, or nobody can say what was kept: from the ledger, then
                if isinstance(error, CommitUnknown) and looking is not None:  # the append itself
                    lost = error
                    if time.monotonic() >= until:
                        break
                elif not isinstance(error, NotOwner):
                    if lost is not None and isinstance(error, PalimpsestError) and not isinstance(error, AlreadyTaught):
                        raise lost from error  # this try has kept nothing; that says nothing of the one before
                    raise
        raise lost or WriterBusy(retry_after_s=1)

    def _refuse_too_many(self, rows: Sequence[EventRow]) -> None:
        most = self.recall.config.max_responses
        if any(row.response is not None and row.response >= most for row in rows):
            raise Quota(f"a bank tells at most {most} distinct responses apart, and this one has them; use another")

    async def _look_round(self, tenant: str, warm: WarmBank, text: EncodedText, paraphrases: Sequence[EncodedText], others: int) -> Around:
        """What is around a lesson that the bank does not have yet."""
        both = await asyncio.gather(
            self._look_beside(tenant, warm, text, others),
            self.judge.same_inputs(tenant, warm.row.id, [one.text for one in (text, *paraphrases)]),
            return_exceptions=True,  # both have ended then
        )
        for each in both:
            if isinstance(each, BaseException):
                raise each
        ((beside, ahead), same) = cast(tuple[tuple[list[SupportRow], Ahead], list[Sequence[SameInputRow]]], both)
        return Around(beside, [*same, *await self.judge.same_inputs(tenant, warm.row.id, [row.input for row in beside])], ahead)

    async def _look_beside(self, tenant: str, warm: WarmBank, text: EncodedText, others: int) -> tuple[list[SupportRow], Ahead]:
        view = warm.view
        ((found,),) = [read.candidates for read in await self.reads.submit([Read(view, text.key[None], SEEN)], tenant)]
        beside = await self.reader.neighbours(tenant, warm, view, text.key, others, found)
        keys = _stacked([text_of(row) for row in beside])
        return beside, Ahead(found, await self.reader.thread.run(self.reader.survey, view, keys, HEARD))

    async def _measure(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        row: EventRow,
        paraphrases: Sequence[EncodedText],
        others: int,
        around: Around | None,
    ) -> Measured:
        if row.embedding is None or row.response is None or row.right is None or row.input is None:
            raise AssertionError(f"event {row.seq} has nothing to learn")  # never appended so; redacted rows are not applied
        lesson = lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words)
        beside = around.beside if around else await self.reader.neighbours(tenant, warm, view, lesson.key, others)
        neighbours = [text_of(other) for other in beside]
        text = EncodedText(lesson.key, row.tokens, row.input)
        asked = [text, *paraphrases, *neighbours]
        with self.stage("apply"):
            ahead = around.ahead if around else None
            taking = Taking(view, lesson, row.response, _stacked(paraphrases), _stacked(neighbours), ahead)
            learning = asyncio.ensure_future(self.lessons.submit([taking], tenant))
            try:
                texts = [one.text for one in asked]
                known = around.with_lesson(row, asked) if around else await self.judge.same_inputs(tenant, row.bank, texts)
            finally:
                (learned,) = await learning  # whatever happens, nobody leaves the view while it is written to
            if isinstance(learned, Exception):
                raise learned
        if view is warm.view:
            support = SupportRow(seq=row.seq, id=row.id, embedding=row.embedding, input=row.input)
            warm.supports.add(row.response, support, NEWEST, alone=int(view.counts[row.response]) == 1)
        lookings = [self.judge.looking(tenant, warm, view, one, same) for one, same in zip(asked, known, strict=True)]

        async def said(looking: Looking, found: list[Candidate], upto: int = row.seq) -> list[Candidate]:
            if view.forgotten:  # the state has moved on: it cannot be asked again about before
                found = await self.reader.hold_back(tenant, warm, view, looking.asked.key, found, HEARD, again=upto == row.seq)
            return (await self.judge.weighed(looking, found, upto=upto)).candidates

        own, *rest = lookings
        before, after = await said(own, learned.before, row.seq - 1), await said(own, learned.after)
        told = [await said(*one) for one in zip(rest, learned.paraphrases, strict=False)]
        answers = zip(rest[len(paraphrases) :], learned.others_before, learned.others_after, strict=True)
        moved = [self._given(await said(one, was, row.seq - 1)) != self._given(await said(one, now)) for one, was, now in answers]
        said_texts = await self.reader.texts(tenant, warm, [candidate.index for candidate in (*before[:1], *after[:1])])
        return Measured(
            before=self.reader.said(before, said_texts),
            after=self.reader.said(after, said_texts),
            surprise=1.0 - next((found.confidence for found in before if found.index == row.response), 0.0),
            paraphrases=wire.ParaphraseCheck(n=len(told), fixed=sum(self._given(found) == row.response for found in told)),
            locality=wire.Locality(n=len(beside), flipped=[other.id for other, flipped in zip(beside, moved, strict=True) if flipped]),
        )

    def _given(self, found: Sequence[Candidate]) -> int | None:
        """The answer that is given, None where the memory abstains."""
        return found[0].index if found and found[0].confidence >= self.recall.config.abstain_below else None


def refuse_blank(items: Sequence[wire.NewCorrection]) -> None:
    """Raise `Invalid` where a situation or an answer says nothing, to whoever calls the engine past the api."""
    faults = [
        {"field": f"items[{place}].{name}", "message": "blank"}
        for place, item in enumerate(items)
        for name, text in (("input", item.input), ("right", item.right))
        if not text.strip()
    ]
    if faults:
        raise Invalid(f"{faults[0]['field']}: blank", errors=faults)


def refuse_closed(closed: frozenset[Source], drafts: Sequence[Draft | TurnDraft]) -> None:
    """Raise `Conflict` where a session or key that teaches the bank nothing now has taught, or said, one of them."""
    for draft in drafts:
        sources = {Source(session=draft.session_id): "session", Source(key=draft.taught_by): "key"}
        for source in closed & sources.keys():
            raise Conflict(
                f"the {sources[source]} {source.session or source.key} is in quarantine and teaches this bank nothing; lift that first"
            )


def _others(lessons: int) -> int:
    """How many corrections beside each of so many lessons are asked."""
    return min(OTHERS, OTHERS_MOST // lessons)


def _believed(warm: WarmBank, drafts: Sequence[Draft]) -> Believed:
    book = warm.view.book
    known = {draft.right: place for draft in drafts if (place := book.place(draft.right)) is not None}
    return Believed(warm.row.epoch, warm.head_version, warm.tail, known)


def _draft(item: wire.NewCorrection, id: str, text: EncodedText, words: EncodedText | None, taught_by: str) -> Draft:
    return Draft(
        id=id,
        session_id=item.session_id,
        input=item.input,
        wrong=item.wrong,
        right=item.right,
        metadata=item.metadata,
        embedding=text.key.tobytes(),
        tokens=text.tokens,
        words=None if words is None else words.key.tobytes(),
        taught_by=taught_by,
    )


def _stacked(texts: Sequence[EncodedText]) -> Keys:
    return np.stack([text.key for text in texts]) if texts else NO_KEYS


def _judged(before: wire.Said, row: EventRow) -> str:
    if before.value is None:
        return "nothing"
    return "right" if before.value == row.right else "wrong"


def _taught(row: EventRow, measured: Measured, snapshot_id: str, seconds: float) -> wire.Taught:
    return wire.Taught(
        id=row.id,
        seq=row.seq,
        status="active",
        receipt=wire.Receipt(
            item=wire.BeforeAfter(before=measured.before, after=measured.after),
            paraphrase=measured.paraphrases,
            locality=measured.locality,
        ),
        state=wire.StateRef(snapshot_id=snapshot_id, seq=row.seq),
        usage=wire.Usage(cpu_ms=round(1e3 * seconds, 3), tokens_in=row.tokens, updates=1),
    )
