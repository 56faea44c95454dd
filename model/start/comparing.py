"""The same questions with a start and without: how many fare better, how many worse, and whether that may be chance.

A question may be asked several times (after several draws, in several orders): it counts once, by how often it was right. The chance is
that of the exact sign test: of questions that fare differently at all, as uneven a division or a more uneven one, were it a coin that
decides. The interval is that of the mean difference of a question, in points of a hundred, 95 %.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.96
CHANCE = 0.05  # below which a division is held for none


@dataclass(frozen=True, slots=True)
class Hits:
    """Whether each answer was right, and the question that it answers; several answers may be of one question."""

    right: NDArray[np.bool_]  # (answers,)
    of: NDArray[np.int64]  # (answers,) number of the question

    @classmethod
    def once(cls, right: NDArray[np.bool_]) -> "Hits":
        """Of questions that are asked once each."""
        return cls(right, np.arange(len(right)))


@dataclass(frozen=True, slots=True)
class Compared:
    """Questions that fare better and worse with the start; the difference in points, and where it lies with 95 %."""

    questions: int
    better: int
    worse: int
    difference: float
    low: float
    high: float

    @property
    def chance(self) -> float:
        """Of a division as uneven as this one, if a coin decided."""
        differing = self.better + self.worse
        fewer = sum(math.comb(differing, number) for number in range(min(self.better, self.worse) + 1))
        return min(1.0, 2 * fewer / (1 << differing))  # of whole numbers: a float would run over

    @property
    def lost(self) -> bool:
        """Whether more fare worse than better, and chance does not explain it."""
        return self.worse > self.better and self.chance < CHANCE

    def as_json(self) -> dict[str, float]:
        """The numbers, rounded."""
        rounded = {name: round(getattr(self, name), 2) for name in ("difference", "low", "high")}
        return {"questions": self.questions, "better": self.better, "worse": self.worse, **rounded, "chance": round(self.chance, 4)}


def compared(before: Mapping[str, Hits], after: Mapping[str, Hits]) -> dict[str, Compared]:
    """For each figure, what changes from `before` to `after`, which answer the same questions in the same order.

    Raises:
        ValueError: they do not.
    """
    found = {}
    for name, was in before.items():
        now = after[name]
        if not np.array_equal(was.of, now.of):
            raise ValueError(f"{name}: other questions were asked before than after")
        _, question, asked = np.unique(was.of, return_inverse=True, return_counts=True)
        change = np.bincount(question, now.right.astype(np.float64) - was.right)
        share = change / asked  # of a question, between -1 and 1
        error = NORMAL_95 * float(share.std(ddof=1)) / math.sqrt(len(share)) if len(share) > 1 else 1.0
        mean = float(share.mean())
        points = (100.0 * value for value in (mean, mean - error, mean + error))
        found[name] = Compared(len(share), int((change > 0).sum()), int((change < 0).sum()), *points)
    return found
