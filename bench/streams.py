"""The protocol: a stream of requests in random order, and a memory that is corrected where it was wrong or silent.

At each step the memory is asked for the intent of an utterance. When it says another one, or nothing, it is told the right one; it
learns nothing else. *corrections-only*: the right answer of an intent is its name, throughout. *policy-change*: from the middle of the
stream on, half of the intents (drawn with seed 7, the same for every order) have a new right answer that was never seen before.

Order: the training rows in random order, drawn with the seed. A stream longer than the file goes on with a second pass, newly shuffled
(HWU64 has 8,954 rows, so its stream of 10,000 repeats 1,046 of them); without that a tenth of the stream would be missing.

Mistakes: the requests answered wrongly or with silence, which is the number of corrections. The first time that an answer is wanted
nobody can know it; the others are the *avoidable* mistakes. `bench.repeats` says which of these are *repeated*.

Palimpsest is consolidated by itself when its settings call for it, as a running service does (`bench.asking.Settling`), or every so many
requests where that is wanted.

Survival: where consolidations are wanted every so many requests, all corrections that still hold are asked verbatim before and after each;
*lost* are those that were right before and wrong after.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal, Protocol

import numpy as np

from bench.asking import Consolidating, Settling
from bench.data import Row
from bench.repeats import Repeats
from bench.vectors import Vectors

Kind = Literal["corrections-only", "policy-change"]
KINDS: tuple[Kind, ...] = ("corrections-only", "policy-change")
CHANGE_SEED = 7
WINDOW = 1_000
POINTS = 20  # of the curve


@dataclass(frozen=True, slots=True)
class Request:
    """One step: what is asked, and what is right at this moment."""

    text: str
    right: str


class Memory(Protocol):
    """What is measured: anything that can be asked and told."""

    async def ask(self, text: str) -> str | None:
        """The answer, None for silence."""

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """In the situation `text`, `right` is right; `said` was not."""

    async def size_bytes(self) -> int:
        """What it holds by now, texts of answers not counted."""


@dataclass(frozen=True, slots=True)
class Survival:
    """A consolidation after `at` requests: corrections that hold, how many of them were right before it, and lost or won by it."""

    at: int
    corrections: int
    right: int
    lost: int
    won: int
    seconds: float
    passed: bool  # the gate


@dataclass(frozen=True, slots=True)
class Tally:
    """What a memory did on a stream; `before`, `after`, `end` are its accuracy in the last `window` requests before the middle, the first
    after it, and the last of all, `curve` that in each twentieth of the stream.
    """

    requests: int
    mistakes: int
    avoidable: int
    repeated: int
    again: int  # of the repeated ones, in the very same words
    silent: int  # of the mistakes; the others were wrong answers
    before: float
    after: float
    end: float
    curve: list[float]
    window: int
    size_bytes: int
    ask_ms: float  # mean
    tell_ms: float
    consolidations: list[Survival]

    @property
    def lost(self) -> int:
        """Corrections that were right before a consolidation and wrong after it, all together."""
        return sum(survival.lost for survival in self.consolidations)

    @property
    def seconds(self) -> float:
        """What asking and telling took, all together."""
        return 1e-3 * (self.ask_ms * self.requests + self.tell_ms * self.mistakes)

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)

    @classmethod
    def of_json(cls, fields: Mapping[str, Any]) -> "Tally":
        """What `as_json` gave."""
        return cls(**{**fields, "consolidations": [Survival(**one) for one in fields["consolidations"]]})


def changed_intents(rows: Sequence[Row]) -> frozenset[str]:
    """The half of the intents whose right answer changes."""
    intents = sorted({intent for _, intent in rows})
    drawn = np.random.default_rng(CHANGE_SEED).permutation(len(intents))[: len(intents) // 2]
    return frozenset(intents[index] for index in drawn)


def stream(rows: Sequence[Row], kind: Kind, *, seed: int, requests: int) -> list[Request]:
    """The requests of a stream, in order."""
    random = np.random.default_rng(seed)
    order: list[int] = []
    while len(order) < requests:
        order += random.permutation(len(rows)).tolist()
    changed = changed_intents(rows) if kind == "policy-change" else frozenset()
    made = []
    for step, index in enumerate(order[:requests]):
        text, intent = rows[index]
        new = step >= requests // 2 and intent in changed
        made.append(Request(text, f"{intent} (new policy)" if new else intent))
    return made


async def play(
    memory: Memory, requests: Sequence[Request], vectors: Vectors, progress: Callable[[int], object], *, every: int | None = None
) -> Tally:
    """Run the protocol. `progress` is told of each request done. A memory that can is made to consolidate `every` so many requests."""
    hits, silent, asking_s, telling_s = [], 0, 0.0, 0.0
    repeats, consolidations = Repeats(vectors.rivals), []
    for step, request in enumerate(requests, 1):
        begin = time.perf_counter()
        said = await memory.ask(request.text)
        asked = time.perf_counter()
        hits.append(said == request.right)
        told = asked
        if said != request.right:
            silent += said is None
            await memory.tell(request.text, request.right, said)
            told = time.perf_counter()
            repeats.wrong(request.text, request.right)
            if isinstance(memory, Settling):
                await memory.settle()
        asking_s, telling_s = asking_s + asked - begin, telling_s + told - asked
        if every is not None and step % every == 0 and isinstance(memory, Consolidating):
            consolidations.append(await survival(memory, repeats.live, step))
        progress(1)
    return tally(hits, requests, silent, await memory.size_bytes(), asking_s, telling_s, repeats, consolidations)


async def survival(memory: Any, live: Mapping[str, str], at: int) -> Survival:  # noqa: ANN401  # both `Asked` and `Consolidating`
    """Consolidate, and see which of the corrections that hold stay right."""

    async def right() -> list[bool]:
        said = await memory.ask_many(list(live), lambda done: None)
        return [one.answer == answer for one, answer in zip(said, live.values(), strict=True)]

    before = await right()
    done = await memory.consolidate()
    pairs = list(zip(before, await right(), strict=True))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    return Survival(at, len(live), sum(before), lost, won, done.seconds, done.passed)


def tally(
    hits: Sequence[bool],
    requests: Sequence[Request],
    silent: int,
    size_bytes: int,
    asking_s: float,
    telling_s: float,
    repeats: Repeats,
    consolidations: Sequence[Survival] = (),
) -> Tally:
    """The figures of a stream from which requests were answered right."""
    mistakes, middle = hits.count(False), len(hits) // 2
    window = max(1, min(WINDOW, middle))
    ends = [round(len(hits) * point / POINTS) for point in range(POINTS + 1)]
    return Tally(
        requests=len(hits),
        mistakes=mistakes,
        avoidable=mistakes - len({request.right for request in requests}),
        repeated=repeats.repeated,
        again=repeats.again,
        silent=silent,
        before=_share(hits[max(0, middle - window) : middle]),
        after=_share(hits[middle : middle + window]),
        end=_share(hits[-window:]),
        curve=[round(_share(hits[begin:end]), 4) for begin, end in pairwise(ends)],
        window=window,
        size_bytes=size_bytes,
        ask_ms=1e3 * asking_s / max(1, len(hits)),
        tell_ms=1e3 * telling_s / max(1, mistakes),
        consolidations=list(consolidations),
    )


def _share(hits: Sequence[bool]) -> float:
    return sum(hits) / len(hits) if hits else 0.0
