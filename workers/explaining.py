"""Why the memory answers so: what each level adds to the answer's score, which corrections carry it, and what speaks against it.

Who carries an answer is told by leaving corrections out, one at a time: those whose pairs in the fast window lie nearest to the question.

- `fold`: the memory is folded again without the correction. That is what it would be had it never been taught; affordable in small banks.
- `pairs`: the correction's pairs are taken out of the read-out. What its neighbours would have learned instead is not counted.

A consolidated memory is no fold, and its pairs and places are in no order of lessons. There the corrections that the best answers rest on
are left out, nearest first, each with what lies where it does.

A pair does not know its correction, but pairs are taken in the order of the events in the weights, one for each and one more for the words
of an answer that is new. So the ledger tells whose the pair of any number is.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import Candidate, Lesson, Recall, Standing
from model.config import FAST
from model.products import Reading
from service import wire
from service.store import history
from service.store.lineage import count, holds
from service.store.rows import EventRow
from workers.encoding import EncodedText
from workers.judging import Judge
from workers.reading import HEARD, Judged, Keys, asked
from workers.replay import key_of, lesson_of
from workers.threads import OwnThread
from workers.view import View
from workers.warm_bank import WarmBank

FOLDS = 1_024  # lessons that an explanation may fold, a second or two of work
Method = Literal["fold", "pairs"]


class Seen(NamedTuple):
    """What the state shows at the question: how the answer stands, what each level adds, and the pairs near it, nearest first."""

    reading: Reading
    standing: Standing
    levels: dict[str, float]
    pairs: NDArray[np.int64]  # (n,) their numbers
    adds: NDArray[np.float32]  # (n, code_width) what each adds to the read-out


@dataclass(frozen=True, slots=True)
class Left:
    """The answer without a correction, and what is said instead."""

    standing: Standing
    instead: list[Candidate]


@dataclass(frozen=True, slots=True)
class Explaining:
    """Explains answers of frozen views."""

    judge: Judge
    heavy: OwnThread  # beside the requests

    async def explain(self, tenant: str, warm: WarmBank, view: View, text: EncodedText, sample: int) -> wire.Explained:
        """Explain what a recall would be told."""
        (judged,) = await self.judge.ask(tenant, warm, view, [text])
        found = judged.candidates
        texts = await self.judge.reader.texts(tenant, warm, [candidate.index for candidate in found])
        state = wire.StateRef(snapshot_id=view.snapshot_id, seq=view.seq)
        if not found or found[0].index not in texts:
            return _nothing(state)
        best, recall = found[0], self.judge.reader.recall
        seen = await self.heavy.run(look, recall, view, text.key, best.index)
        method, carriers = await self._carriers(tenant, warm, view, text, best, seen, sample)
        return wire.Explained(
            value=texts[best.index],
            score=seen.standing.score,
            confidence=best.confidence,
            abstained=best.confidence < recall.config.abstain_below,
            level=best.level,
            levels=[wire.LevelShare(name=name, score=score) for name, score in seen.levels.items()],
            carriers=sorted(carriers, key=lambda carrier: -carrier.carries),
            sample=len(carriers),
            method=method,
            counter=await self._counter(tenant, warm, view, text.key, judged, texts),
            state=state,
            usage=wire.Usage(),
        )

    async def _carriers(
        self, tenant: str, warm: WarmBank, view: View, text: EncodedText, best: Candidate, seen: Seen, sample: int
    ) -> tuple[Method, list[wire.Carrier]]:
        recall, key = self.judge.reader.recall, text.key
        if recall.consolidated(view.state):
            rows = await self._rested_on(tenant, warm, view, key, sample)
            method: Method = "pairs"
            adds = [await self.heavy.run(recall.share, view.state, key, key_of(row.embedding or b"")) for row in rows]
            taught: list[Lesson] = []
        else:
            rows, adds, taught = await self._of_the_window(tenant, warm, view, seen, sample)
            method = "fold" if taught else "pairs"
        (same,) = await self.judge.same_inputs(tenant, warm.row.id, [text.text])
        carriers = []
        for row, mine in zip(rows, adds, strict=True):
            if method == "fold":
                left = await self.heavy.run(folded_without, recall, view, key, best.index, row, taught)
            else:
                left = await self.heavy.run(read_without, recall, view, key, best.index, row, seen.reading, mine)
            without = replace(view, gone=view.gone | {row.seq})
            instead = (await self.judge.judged(tenant, warm, without, text, left.instead, same)).candidates
            carriers.append(await self._carrier(tenant, warm, key, row, seen, replace(left, instead=instead)))
        return method, carriers

    async def _of_the_window(
        self, tenant: str, warm: WarmBank, view: View, seen: Seen, sample: int
    ) -> tuple[list[EventRow], list[Keys], list[Lesson]]:
        """The corrections whose pairs are nearest, what these add, and where folding is affordable all lessons of the view."""
        recall, bank_id = self.judge.reader.recall, warm.row.id
        async with self.judge.database.read(tenant) as conn:
            events = await history.event_responses(conn, tenant, bank_id)
            worded = await history.worded(conn, tenant, bank_id) if recall.config.own_words else set()
            whose = events_of_pairs((event for event in events if holds(view.weights, event[0])), worded)
            near = list(dict.fromkeys(seq for pair in seen.pairs if (seq := whose[pair]) not in view.gone))[:sample]
            rows = await history.by_seqs(conn, tenant, bank_id, near)
            spans = view.weights if len(near) * count(view.weights) <= FOLDS else ()
            lessons = [row for after, upto in spans for row in await history.lessons(conn, tenant, bank_id, after, upto, upto - after)]
        owners = np.asarray([whose[pair] for pair in seen.pairs])
        adds = [seen.adds[owners == row.seq].sum(axis=0) for row in rows]
        return rows, adds, [lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words) for row in lessons]

    async def _rested_on(self, tenant: str, warm: WarmBank, view: View, key: Keys, sample: int) -> list[EventRow]:
        """The corrections nearest to a key, of those that the first answers there rest on."""
        reader = self.judge.reader
        first = (await self.heavy.run(reader.candidates, view, key[None], HEARD))[0]
        near = [pair for candidate in first for pair in await reader.support(tenant, warm, view, key, candidate.index)]
        seqs = [row.seq for row, _ in sorted(near, key=lambda pair: -pair[1])[:sample]]
        async with reader.database.read(tenant) as conn:
            return await history.by_seqs(conn, tenant, warm.row.id, seqs)

    async def _carrier(self, tenant: str, warm: WarmBank, key: Keys, row: EventRow, seen: Seen, left: Left) -> wire.Carrier:
        texts = await self.judge.reader.texts(tenant, warm, [candidate.index for candidate in left.instead])
        return wire.Carrier(
            correction=row.id,
            cosine=float(key_of(row.embedding or b"") @ key),
            carries=seen.standing.score - left.standing.score,
            score=left.standing.score,
            confidence=left.standing.confidence,
            rank=left.standing.rank,
            said=self.judge.reader.said(left.instead, texts),
        )

    async def _counter(
        self, tenant: str, warm: WarmBank, view: View, key: Keys, judged: Judged, texts: dict[int, str]
    ) -> wire.Counter | None:
        other = judged.candidates[1] if len(judged.candidates) > 1 else None
        if other is None or other.index not in texts:
            return None
        near = await self.judge.reader.supporting(tenant, warm, view, key, judged, other.index)
        name, cosine = near[0] if near else (None, None)
        return wire.Counter(value=texts[other.index], score=other.score, confidence=other.confidence, correction=name, cosine=cosine)


def events_of_pairs(events: Iterable[tuple[int, int]], worded: set[int]) -> list[int]:
    """For each pair that was ever taken, by its number, the seq of its event; `events` are those in the weights, as `(seq, response)`."""
    seqs: list[int] = []
    known: set[int] = set()
    for seq, response in events:
        seqs += [seq] * (2 if response in worded and response not in known else 1)
        known.add(response)
    return seqs


def look(recall: Recall, view: View, key: Keys, index: int) -> Seen:
    """What the view's state shows at a key of the answer `index`."""
    answering, (reading,) = recall.look(asked(view, key[None], 1))
    voices = answering.voices(reading, index)
    levels = {level: float(view.book.scores_of(voices, said).sum()) for level, said in reading._asdict().items()}
    fast, near = view.state.levels[FAST], recall.near(view.state, key)
    rows = np.argsort(-near, kind="stable")
    rows = rows[near[rows] > 0.0]
    taken, window = int(fast["marks"][0, 0]), recall.config.window
    numbers = taken - 1 - (taken - 1 - rows) % window  # the newest pair that lies in each row
    return Seen(reading, answering.standing(reading, index), levels, numbers, near[rows, None] * fast["errors"].cpu().numpy()[rows])


def folded_without(recall: Recall, view: View, key: Keys, index: int, row: EventRow, lessons: Sequence[Lesson]) -> Left:
    """The answer `index` in a memory that was taught all `lessons` but the event's."""
    state = recall.fold(recall.initial(), (lesson for lesson in lessons if lesson.seq != row.seq))
    answering, (reading,) = recall.look(replace(asked(view, key[None], HEARD, _unsupported(view, row)), state=state))
    return Left(answering.standing(reading, index), answering.candidates(reading))


def read_without(recall: Recall, view: View, key: Keys, index: int, row: EventRow, reading: Reading, adds: Keys) -> Left:
    """The answer `index` where the event's pairs add nothing to the `reading`."""
    answering, _ = recall.look(asked(view, key[None], HEARD, _unsupported(view, row)))
    without = reading._replace(fast=reading.fast - adds)
    return Left(answering.standing(without, index), answering.candidates(without))


def _unsupported(view: View, row: EventRow) -> frozenset[int]:
    """The responses that nothing in the view supports without the event."""
    return frozenset({row.response} if row.response is not None and view.counts[row.response] <= 1 else ())


def _nothing(state: wire.StateRef) -> wire.Explained:
    return wire.Explained(
        value=None,
        score=0.0,
        confidence=0.0,
        abstained=True,
        level=None,
        levels=[],
        carriers=[],
        sample=0,
        method="fold",
        counter=None,
        state=state,
        usage=wire.Usage(),
    )
