"""Receipts: what a memory says before a lesson and after it, at the lesson itself, its paraphrases and the corrections beside it.

What can be known before the lesson is in the ledger (`look_round`) is found out while that is on its way there. Whoever asks holds the
bank's lock, so nothing else is learned or forgotten in between. What needs no key (`look_up`) is asked before that, beside the encoder, and
counts if the bank stands where it stood then.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from model import Candidate, Recall
from service import wire
from service.store.appending import Tail
from service.store.rows import EventRow, SameInputRow, SupportRow
from service.store.wording import same_words
from service.tracing import Stage
from workers.batch import Batcher
from workers.encoding import EncodedText, text_of
from workers.judging import Judge, Looking
from workers.learning import SEEN, Ahead, Taken, Taking
from workers.reading import HEARD, NEWEST, Found, Keys, Read, Reader
from workers.replay import lesson_of
from workers.together import both
from workers.view import NO_KEYS, View
from workers.warm_bank import WarmBank

OTHERS, OTHERS_MOST = 4, 64  # corrections beside a lesson that are asked before and after it; and all that one request asks

Candidates = list[Candidate]
Same = list[Sequence[SameInputRow]]  # for each of some texts, the newest corrections of its words


@dataclass(frozen=True, slots=True)
class LookedUp:
    """The corrections of just a lesson's input, and of its paraphrases', where the bank `stood`."""

    stood: tuple[int, int, Tail]
    same: Same


@dataclass(frozen=True, slots=True)
class Before:
    """What was said before a lesson: at its own input, and at the corrections beside it."""

    own: Candidates
    others: list[Candidates]


@dataclass(frozen=True, slots=True)
class Around:
    """What is around a lesson before it is learned: the corrections beside it, what the weights say there, and who is asked.

    `lookings` are of the lesson's own text, its paraphrases, and the corrections beside it. `before` is None where that is found out
    afterwards.
    """

    beside: list[SupportRow]
    ahead: Ahead
    lookings: list[Looking]
    before: Before | None


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
class Receipts:
    """Has lessons learned, and measures what that changes."""

    reader: Reader
    judge: Judge
    recall: Recall
    reads: Batcher[Read, Found]
    lessons: Batcher[Taking, Taken | Exception]
    stage: Stage

    async def look_up(self, tenant: str, warm: WarmBank, texts: Sequence[str]) -> LookedUp:
        """What the ledger has of a lesson's input and paraphrases. The caller need not have the bank's lock."""
        stood = warm.stand  # before it is asked: whoever appends where it stands so has found nothing between
        return LookedUp(stood, await self.judge.same_inputs(tenant, warm.row.id, texts))

    async def look_round(
        self,
        tenant: str,
        warm: WarmBank,
        text: EncodedText,
        paraphrases: Sequence[EncodedText],
        others: int,
        looked_up: LookedUp | None = None,
    ) -> Around:
        """What is around a lesson that the bank does not have yet, with `others` corrections beside it."""
        if looked_up is not None and looked_up.stood == warm.stand:
            mine, (beside, ahead, near) = looked_up.same, await self._look_beside(tenant, warm, text, others)
        else:
            asking = self.judge.same_inputs(tenant, warm.row.id, [one.text for one in (text, *paraphrases)])
            mine, (beside, ahead, near) = await both(asking, self._look_beside(tenant, warm, text, others))
        same = [*mine, *near]
        asked, view = [text, *paraphrases, *(text_of(row) for row in beside)], warm.view
        lookings = [self.judge.looking(tenant, warm, view, one, known) for one, known in zip(asked, same, strict=True)]
        if view.forgotten:  # who is held back is asked of the state that learned the lesson, as where one is measured again
            return Around(beside, ahead, lookings, None)
        own, *told = [
            (await self.judge.weighed(looking, found)).candidates
            for looking, found in zip([lookings[0], *lookings[1 + len(paraphrases) :]], [ahead.own, *ahead.others], strict=True)
        ]
        return Around(beside, ahead, lookings, Before(own, told))

    async def measure(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        row: EventRow,
        paraphrases: Sequence[EncodedText],
        others: int,
        around: Around | None,
    ) -> Measured:
        """Have the view learn an appended row, and what that changed; `around` it was looked already, else it is looked now."""
        if row.embedding is None or row.response is None or row.right is None or row.input is None:
            raise AssertionError(f"event {row.seq} has nothing to learn")  # never appended so; redacted rows are not applied
        lesson = lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words)
        beside = around.beside if around else await self.reader.neighbours(tenant, warm, view, lesson.key, others)
        neighbours = [text_of(other) for other in beside]
        asked = [EncodedText(lesson.key, row.tokens, row.input), *paraphrases, *neighbours]
        with self.stage("apply"):
            ahead = around.ahead if around else None
            taking = Taking(view, lesson, row.response, _stacked(paraphrases), _stacked(neighbours), ahead)
            learning = asyncio.ensure_future(self.lessons.submit([taking], tenant))
            try:
                lookings = around.lookings if around else await self._lookings(tenant, warm, view, asked)
            finally:
                (learned,) = await learning  # whatever happens, nobody leaves the view while it is written to
            if isinstance(learned, Exception):
                raise learned
        if view is warm.view:
            support = SupportRow(seq=row.seq, id=row.id, embedding=row.embedding, input=row.input)
            warm.supports.add(row.response, support, NEWEST, alone=int(view.counts[row.response]) == 1)
        if around is not None:
            words = same_words(row.input or "")
            for looking in lookings:
                looking.learned(row, words)

        async def said(looking: Looking, found: Candidates, upto: int = row.seq) -> Candidates:
            if view.forgotten:  # the state has moved on: it cannot be asked again about before
                found = await self.reader.hold_back(tenant, warm, view, looking.asked.key, found, HEARD, again=upto == row.seq)
            return (await self.judge.weighed(looking, found, upto=upto)).candidates

        own, *rest = lookings
        near = rest[len(paraphrases) :]
        was = around.before if around else None
        if was is None:
            before = [await said(one, found, row.seq - 1) for one, found in zip(near, learned.others_before, strict=True)]
            was = Before(await said(own, learned.before, row.seq - 1), before)
        after = await said(own, learned.after)
        told = [await said(*one) for one in zip(rest, learned.paraphrases, strict=False)]
        now = [await said(*one) for one in zip(near, learned.others_after, strict=True)]
        moved = [self._given(one) != self._given(other) for one, other in zip(was.others, now, strict=True)]
        said_texts = await self.reader.texts(tenant, warm, [candidate.index for candidate in (*was.own[:1], *after[:1])])
        return Measured(
            before=self.reader.said(was.own, said_texts),
            after=self.reader.said(after, said_texts),
            surprise=1.0 - next((found.confidence for found in was.own if found.index == row.response), 0.0),
            paraphrases=wire.ParaphraseCheck(n=len(told), fixed=sum(self._given(found) == row.response for found in told)),
            locality=wire.Locality(n=len(beside), flipped=[other.id for other, flipped in zip(beside, moved, strict=True) if flipped]),
        )

    async def _look_beside(self, tenant: str, warm: WarmBank, text: EncodedText, others: int) -> tuple[list[SupportRow], Ahead, Same]:
        view = warm.view
        ((found,),) = [read.candidates for read in await self.reads.submit([Read(view, text.key[None], SEEN)], tenant)]
        beside = await self.reader.neighbours(tenant, warm, view, text.key, others, found)
        keys = _stacked([text_of(row) for row in beside])
        told, same = await both(
            self.reader.thread.run(self.reader.survey, view, keys, HEARD),
            self.judge.same_inputs(tenant, warm.row.id, [row.input for row in beside]),
        )
        return beside, Ahead(found, told), same

    async def _lookings(self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText]) -> list[Looking]:
        same = await self.judge.same_inputs(tenant, warm.row.id, [one.text for one in asked])
        return [self.judge.looking(tenant, warm, view, one, known) for one, known in zip(asked, same, strict=True)]

    def _given(self, found: Sequence[Candidate]) -> int | None:
        """The answer that is given, None where the memory abstains."""
        return found[0].index if found and found[0].confidence >= self.recall.config.abstain_below else None


def others_beside(lessons: int) -> int:
    """How many corrections beside each of so many lessons are asked."""
    return min(OTHERS, OTHERS_MOST // lessons)


def _stacked(texts: Sequence[EncodedText]) -> Keys:
    return np.stack([text.key for text in texts]) if texts else NO_KEYS
