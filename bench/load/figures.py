"""The arithmetic of a load: percentiles, what a step of it was like, whether that is good, and how memory grew."""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any

from bench.load.sending import FOREIGN, RIGHT, Sendings, Sent

LATE_S = 0.02  # a request that a sender gets round to so long after it was due is a late send
MOST = 0.01  # part of the requests that may be refused, failed or sent late in a step that is good
GROWTH_S = 120.0  # what is compared with what: two minutes from the second minute on, and the last two


@dataclass(frozen=True, slots=True)
class Latencies:
    """Of the successful requests of one kind, from when they were due; milliseconds."""

    sent: int
    answered: int
    p50: float
    p95: float
    p99: float
    max: float
    right: float  # part of the answered


@dataclass(frozen=True, slots=True)
class Step:
    """Some time at one rate."""

    rate: float
    seconds: float
    done_rate: float  # successes a second until the last reply
    all: Latencies
    kinds: dict[str, Latencies]
    refused: int
    late: int
    late_p99_ms: float  # of what the senders themselves were late
    failures: dict[str, int]  # by status and code; refusals are not among them
    foreign: int  # answers from another bank's memory

    def share(self, number: int) -> float:
        """A number of requests as part of all of them."""
        return number / max(1, self.all.sent)

    def is_good(self, bound_ms: float) -> bool:
        """Whether the service keeps up with the rate, and the senders do."""
        counts = (self.refused, self.late, sum(self.failures.values()))
        return self.all.answered > 0 and self.all.p99 <= bound_ms and all(self.share(count) <= MOST for count in counts)

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return asdict(self)


def percentile(ordered: Sequence[float], share: float) -> float:
    """The smallest of the ascending values that at least `share` of them do not exceed; not a number if there are none."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else math.nan


def step_of(done: Sendings, rate: float, seconds: float) -> Step:
    """What became of the requests of one step."""
    sent = done.sent
    until = max([seconds, *(one.ended for one in sent)])
    return Step(
        rate=rate,
        seconds=seconds,
        done_rate=sum(not one.failure for one in sent) / until,
        all=latencies(sent),
        kinds={kind: latencies([one for one in sent if one.kind == kind]) for kind in sorted({one.kind for one in sent})},
        refused=sum(one.refused for one in sent),
        late=sum(one.begun - one.due > LATE_S for one in sent),
        late_p99_ms=percentile(sorted(1e3 * (one.begun - one.due) for one in sent), 0.99),
        failures=dict(Counter(one.failure for one in sent if one.failure and not one.refused)),
        foreign=sum(one.verdict == FOREIGN for one in sent),
    )


def latencies(sent: Sequence[Sent]) -> Latencies:
    """Of the successes; a refusal is quick and would flatter them."""
    good = [one for one in sent if not one.failure]
    ordered = sorted(1e3 * (one.ended - one.due) for one in good)
    p50, p95, p99, most = (percentile(ordered, share) for share in (0.5, 0.95, 0.99, 1.0))
    return Latencies(len(sent), len(good), p50, p95, p99, most, sum(one.verdict == RIGHT for one in good) / max(1, len(good)))


def over_time(sent: Sequence[Sent], seconds: float, every_s: float) -> list[tuple[float, Latencies]]:
    """Latencies of the requests that were due in each stretch of so many seconds, by its middle."""
    stretches: list[list[Sent]] = [[] for _ in range(max(1, math.ceil(seconds / every_s)))]
    for one in sent:
        stretches[int(one.due / every_s)].append(one)
    return [((place + 0.5) * every_s, latencies(stretch)) for place, stretch in enumerate(stretches) if stretch]


def growth(samples: Sequence[tuple[float, float]], seconds: float) -> float | None:
    """By which part the median of the last two minutes is above that of the third and fourth; None if there are no such samples.

    What is taken in a shorter run is its second third and its last one. `samples` are times and values.
    """
    stretch = min(GROWTH_S, seconds / 3)
    early = [value for at, value in samples if stretch <= at <= 2 * stretch]
    last = [value for at, value in samples if seconds - stretch <= at <= seconds]
    return median(last) / median(early) - 1 if early and last and median(early) else None


def growths(samples: Sequence[tuple[float, Mapping[str, int]]], seconds: float) -> tuple[dict[str, float | None], float | None]:
    """The growth of each process, and of all together."""
    names = list(dict.fromkeys(name for _, held in samples for name in held))
    each = {name: growth([(at, held[name]) for at, held in samples if name in held], seconds) for name in names}
    return each, growth([(at, sum(held.values())) for at, held in samples], seconds)
