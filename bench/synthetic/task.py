"""What every synthetic task is: rows of tokens, the right class at some of their positions, and how answers to them are counted.

All tasks have one shape, so one learner and one score serve them: `inputs` are token ids, `targets` are class ids of the same vocabulary,
`IGNORED` where nothing is asked. A target is the answer *at* its position; there is no further shift.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

IGNORED = -100  # what torch's cross entropy passes over, too

Ids = NDArray[np.int64]
Score = Literal["rows", "positions"]


@dataclass(frozen=True, slots=True)
class Examples:
    """Rows of one length, shorter ones padded on the right.

    `inputs` (N, T), `targets` (N, T) with `IGNORED` where nothing is asked, `lengths` (N,) tokens before the padding.

    Raises:
        ValueError: shapes that do not agree, or a row that asks nothing.
    """

    inputs: Ids
    targets: Ids
    lengths: Ids

    def __post_init__(self) -> None:
        if self.inputs.ndim != 2 or self.inputs.shape != self.targets.shape or self.lengths.shape != self.inputs.shape[:1]:
            shapes = f"{self.inputs.shape}, {self.targets.shape} and {self.lengths.shape}"
            raise ValueError(f"inputs, targets and lengths must be (N, T), (N, T) and (N,), not {shapes}")
        if len(self) and not self.asked.any(axis=1).all():
            raise ValueError("targets has a row without a question: it can be neither learned nor scored")

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def asked(self) -> NDArray[np.bool_]:
        """(N, T): where an answer is wanted."""
        asked: NDArray[np.bool_] = self.targets != IGNORED
        return asked

    def only(self, rows: Ids | NDArray[np.bool_]) -> Self:
        """Some rows, cut to the longest of them."""
        lengths = self.lengths[rows]
        longest = int(lengths.max(initial=0))
        return type(self)(self.inputs[rows, :longest], self.targets[rows, :longest], lengths)


@dataclass(frozen=True, slots=True)
class Task:
    """What is learned, and what it is measured on.

    `held` decides when to stop and which weights to keep, `test` is looked at once; its names are those of the columns.
    """

    name: str
    vocabulary: int  # of inputs and of targets
    train: Examples
    held: Mapping[str, Examples]
    test: Mapping[str, Examples]
    score: Score
    whole: bool = False  # the answer at a position may depend on the whole row: compression, which needs an encoder and a decoder
    notes: Mapping[str, float] = field(default_factory=dict)  # facts that bound the score, for the report

    @property
    def longest(self) -> int:
        """Tokens of the longest row of all."""
        return max(int(part.inputs.shape[1]) for part in (self.train, *self.held.values(), *self.test.values()))


def padded(rows: list[list[int]], targets: list[list[int]], pad: int) -> Examples:
    """Rows of different lengths as one array each; `pad` fills the inputs, `IGNORED` the targets."""
    lengths = np.array([len(row) for row in rows], np.int64)
    shape = len(rows), int(lengths.max(initial=0))
    inputs, wanted = np.full(shape, pad, np.int64), np.full(shape, IGNORED, np.int64)
    for place, (row, right) in enumerate(zip(rows, targets, strict=True)):
        inputs[place, : len(row)], wanted[place, : len(right)] = row, right
    return Examples(inputs, wanted, lengths)


def full(inputs: Ids, targets: Ids) -> Examples:
    """Rows that all have the full length T; (N, T) each."""
    return Examples(inputs, targets, np.full(len(inputs), inputs.shape[1], np.int64))


def percent_right(answers: Ids, examples: Examples, score: Score) -> float:
    """Percent of rows without a single mistake, or of asked positions that are right. `answers` (N, T) class ids."""
    right = (answers == examples.targets) | ~examples.asked
    if score == "rows":
        return 100.0 * float(right.all(axis=1).mean())
    return 100.0 * float(right[examples.asked].mean())
