"""Why the memory answers so: what each level adds to the answer's score, which corrections carry it, and what speaks against it.

Who carries an answer is told by leaving corrections out, one at a time: those whose pairs in the fast window lie nearest to the question.

- `fold`: the memory is folded again without the correction. That is what it would be had it never been taught; affordable in small banks.
- `pairs`: the correction's pairs are taken out of the read-out. What its neighbours would have learned instead is not counted.

A pair does not know its correction, but pairs are taken in the order of the events in the weights, one for each and one more for the words
of an answer that is new. So the ledger tells whose the pair of any number is.

A consolidated memory is no fold, and its pairs and places are in no order of lessons. There the corrections that the answers rest on are
left out, each with what lies where it does.

Pairs that have left the window are in the wide weights, which do not keep them apart. The corrections that the answers rest on and whose
pairs are there are heard as well: what the wide weights say at each of them is shared out among them, M ψ(x_i) = Σ_j k(x_i, x_j) e_j, and
the share e_j k(x_j, x) is taken out of what they say at the question. An estimate: others, farther off, say a part of it.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from model import Candidate, Lesson, Recall, Standing
from model.config import FAST, MIDDLE
from model.products import Reading
from service import wire
from service.store import history
from service.store.lineage import count
from service.store.rows import EventRow
from workers.encoding import EncodedText
from workers.judging import Judge
from workers.reading import HEARD, NEAREST, Judged, Keys, asked
from workers.replay import key_of, lesson_of
from workers.threads import OwnThread
from workers.view import NO_KEYS, View
from workers.warm_bank import WarmBank

FOLDS = 1_024  # lessons that an explanation may fold, a second or two of work
SHARING = 64  # corrections among which what the wide weights say is shared out
RIDGE = 1e-2  # of shares: what lies in one place has one share together
Method = Literal["fold", "pairs"]


class Seen(NamedTuple):
    """What the state shows at the question: how the answer stands, what each level adds, and the pairs near it, nearest first."""

    reading: Reading
    standing: Standing
    levels: dict[str, float]
    voices: NDArray[np.intp]  # the answers whose scores make up this one's
    pairs: NDArray[np.int64]  # (n,) their numbers
    near: NDArray[np.float32]  # (n,) their kernels with the question
    adds: NDArray[np.float32]  # (n, code_width) what each adds to the read-out


class Part(NamedTuple):
    """What a correction adds to the read-out at the question, and the kernel of its nearest pair with the question."""

    near: float
    adds: Reading

    @property
    def level(self) -> str:
        """The level that holds the most of it."""
        said = self.adds._asdict()
        return max(said, key=lambda level: float(np.linalg.norm(said[level])))


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
        method, carriers = await self._carriers(tenant, warm, view, text, judged, seen, sample)
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
        self, tenant: str, warm: WarmBank, view: View, text: EncodedText, judged: Judged, seen: Seen, sample: int
    ) -> tuple[Method, list[wire.Carrier]]:
        recall, bank_id, key, best = self.judge.reader.recall, warm.row.id, text.key, judged.candidates[0]
        if consolidated := recall.consolidated(view.state):
            beside = await self._older(tenant, warm, view, key, judged, seen, ())
            parts = await self.heavy.run(parts_at, recall, view, key, beside)
        else:
            parts = parts_in_window(seen, await self._owners(tenant, bank_id, view), view.gone)
            if seen.reading.middle.any():
                older = await self._older(tenant, warm, view, key, judged, seen, parts.keys())
                parts |= await self.heavy.run(parts_in_wide_weights, recall, view, key, older)
        near = sorted(parts, key=lambda seq: -parts[seq].near)[:sample]
        method: Method = "pairs" if consolidated or len(near) * count(view.taught) > FOLDS else "fold"
        spans = view.weights if method == "fold" else ()
        async with self.judge.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, near)
            lessons = [row for after, upto in spans for row in await history.lessons(conn, tenant, bank_id, after, upto, upto - after)]
        taught = [lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words) for row in lessons]
        (same,) = await self.judge.same_inputs(tenant, bank_id, [text.text])
        carriers = []
        for row in rows:
            part = parts[row.seq]
            if method == "fold":
                left = await self.heavy.run(folded_without, recall, view, key, best.index, row, taught)
            else:
                left = await self.heavy.run(read_without, recall, view, key, best.index, row, seen.reading, part)
            without = replace(view, gone=view.gone | {row.seq})
            instead = (await self.judge.judged(tenant, warm, without, text, left.instead, same)).candidates
            carriers.append(await self._carrier(tenant, warm, key, row, part, seen, replace(left, instead=instead)))
        return method, carriers

    async def _owners(self, tenant: str, bank_id: str, view: View) -> dict[int, int]:
        """The seq of the event of each pair that may be in the window, by its number."""
        config, taken = self.judge.reader.recall.config, int(view.state.levels[FAST]["marks"][0, 0])
        async with self.judge.database.read(tenant) as conn:
            said = await history.newest_said(conn, tenant, bank_id, view.taught, config.window)
            worded = await history.worded(conn, tenant, bank_id) if config.own_words else set()
            spoken = await history.spoken(conn, tenant, bank_id, view.weights) if worded else []
        return owners(said, {each.first for each in spoken if each.response in worded}, taken)

    async def _older(
        self, tenant: str, warm: WarmBank, view: View, key: Keys, judged: Judged, seen: Seen, newer: Collection[int]
    ) -> list[tuple[int, Keys]]:
        """Of the corrections that the best answers rest on the nearest with no pair in the window, each with its key."""
        reader, near = self.judge.reader, dict[int, tuple[float, Keys]]()
        for response in dict.fromkeys([*(candidate.index for candidate in judged.candidates[:HEARD]), *seen.voices.tolist()]):
            found = await reader.support(tenant, warm, view, key, response, newest=NEAREST)
            near |= {row.seq: (cosine, key_of(row.embedding)) for row, cosine in found}
        if judged.taught is not None and judged.taught.seq not in near:  # older than those
            near[judged.taught.seq] = (1.0, key)
        left = [(seq, told) for seq, told in near.items() if seq not in newer]
        return [(seq, told[1]) for seq, told in sorted(left, key=lambda each: -each[1][0])[:SHARING]]

    async def _carrier(self, tenant: str, warm: WarmBank, key: Keys, row: EventRow, part: Part, seen: Seen, left: Left) -> wire.Carrier:
        texts = await self.judge.reader.texts(tenant, warm, [candidate.index for candidate in left.instead])
        return wire.Carrier(
            correction=row.id,
            level=part.level,
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


def owners(said: Sequence[tuple[int, int]], with_words: Collection[int], taken: int) -> dict[int, int]:
    """The seqs of the events of the newest of `taken` pairs, by the number of the pair.

    `said`: the newest events in the weights, as `(seq, response)`, oldest first; those `with_words` brought the words of an answer, too.
    """
    found: dict[int, int] = {}
    pair = taken
    for seq, _ in reversed(said):
        for _ in range(2 if seq in with_words else 1):
            pair -= 1
            found[pair] = seq
    return found


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
    adds = near[rows, None] * fast["errors"].cpu().numpy()[rows]
    return Seen(reading, answering.standing(reading, index), levels, voices, numbers, near[rows], adds)


def parts_in_window(seen: Seen, owner: Mapping[int, int], gone: Collection[int]) -> dict[int, Part]:
    """What the pairs of each event that is not among the forgotten add together, by its seq."""
    parts: dict[int, Part] = {}
    for pair, near, adds in zip(seen.pairs.tolist(), seen.near.tolist(), seen.adds, strict=True):
        seq = owner[pair]
        if seq not in gone:
            before = parts.get(seq)  # the nearest comes first
            parts[seq] = Part(near, _of(FAST, adds)) if before is None else before._replace(adds=_of(FAST, before.adds.fast + adds))
    return parts


def parts_at(recall: Recall, view: View, key: Keys, beside: Sequence[tuple[int, Keys]]) -> dict[int, Part]:
    """What each of some corrections adds at a key in a consolidated memory; what lies in one place is the newest one's."""
    if not beside:
        return {}
    told = sorted(beside, key=lambda each: each[0])
    middle = parts_in_wide_weights(recall, view, key, told)
    lying = recall.shares(view.state, key, np.stack([each for _, each in told]))
    return {seq: Part(middle[seq].near, _sum(mine, middle[seq].adds)) for (seq, _), mine in zip(told, lying, strict=True)}


def parts_in_wide_weights(recall: Recall, view: View, key: Keys, older: Sequence[tuple[int, Keys]]) -> dict[int, Part]:
    """What falls to each of some corrections of what the middle level says at a key: an estimate, see above."""
    if not older:
        return {}
    keys = np.stack([each for _, each in older])
    _, readings = recall.look_over(asked(view, keys, 1))
    said = np.stack([reading.middle for reading in readings])
    keys, key = recall.turned(view.state, keys), recall.turned(view.state, key[None])[0]
    sharpness = recall.config.sharpness
    among, near = np.exp(sharpness * (keys @ keys.T - 1.0)), np.exp(sharpness * (keys @ key - 1.0))
    shares = np.linalg.solve(among + RIDGE * np.eye(len(keys), dtype=np.float32), said)
    return {seq: Part(float(close), _of(MIDDLE, close * share)) for (seq, _), close, share in zip(older, near, shares, strict=True)}


def folded_without(recall: Recall, view: View, key: Keys, index: int, row: EventRow, lessons: Sequence[Lesson]) -> Left:
    """The answer `index` in a memory that was taught all `lessons` but the event's."""
    state = recall.fold(recall.initial(), (lesson for lesson in lessons if lesson.seq != row.seq))
    answering, (reading,) = recall.look(replace(asked(view, key[None], HEARD, _unsupported(view, row)), state=state))
    return Left(answering.standing(reading, index), answering.candidates(reading))


def read_without(recall: Recall, view: View, key: Keys, index: int, row: EventRow, reading: Reading, part: Part) -> Left:
    """The answer `index` where the event has no part in the `reading`."""
    answering, _ = recall.look(asked(view, NO_KEYS, HEARD, _unsupported(view, row)))
    without = Reading(*(said - mine for said, mine in zip(reading, part.adds, strict=True)))
    return Left(answering.standing(without, index), answering.candidates(without))


def _of(level: str, said: Keys) -> Reading:
    return Reading(said, said, said).alone(level)


def _sum(one: Reading, other: Reading) -> Reading:
    return Reading(*(a + b for a, b in zip(one, other, strict=True)))


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
