"""What a model reads: random windows to train on, windows in order to be scored on.

B1  A batch depends on (seed, index) alone: a resumed run gets the very batches that the uninterrupted one would.
B2  No window crosses from one domain into another.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

IGNORED = -100  # a target that is not scored


@dataclass(frozen=True, slots=True)
class Batch:
    """`targets[b, t]` is what follows `inputs[b, t]`, or `IGNORED`. Both (B, T) int64."""

    inputs: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(self.inputs.to(device, non_blocking=True), self.targets.to(device, non_blocking=True))


Batches = Callable[[int], Batch]  # the batch of an index 0, 1, 2, …: the same index gives the same batch


class Windows:
    """Random windows of `length` tokens, uniform over every start in every stream.

    Raises:
        ValueError: a stream shorter than a window and the token that follows it.
    """

    def __init__(self, streams: Sequence[Tensor], batch: int, length: int, seed: int) -> None:
        short = [len(stream) for stream in streams if len(stream) <= length]
        if short or not streams:
            raise ValueError(f"a window of {length} tokens needs texts of at least {length + 1}; the shortest has {min(short, default=0)}")
        self._streams = list(streams)
        self._ends = np.cumsum([len(stream) - length for stream in streams])  # starts, counted over all streams
        self._batch, self._length, self._seed = batch, length, seed

    def __call__(self, index: int) -> Batch:
        """The batch of an index."""
        draws = np.random.default_rng([self._seed, index]).integers(int(self._ends[-1]), size=self._batch)
        which = np.searchsorted(self._ends, draws, side="right")
        starts = draws - np.concatenate([[0], self._ends[:-1]])[which]
        rows = [self._streams[w][s : s + self._length + 1] for w, s in zip(which.tolist(), starts.tolist(), strict=True)]
        return _batch(torch.stack(rows))


def windows_in_order(stream: Tensor, batch: int, length: int, limit: int = 0) -> Iterator[Batch]:
    """Windows side by side that together have every token but the first as a target once; the last may be shorter.

    With a `limit`, about that many tokens: every n-th window, so that they come from all over the text.
    """
    starts = list(range(0, len(stream) - 1, length))
    if limit:
        starts = starts[:: max(1, round(len(starts) * length / limit))]
    whole = [start for start in starts if start + length < len(stream)]
    for place in range(0, len(whole), batch):
        yield _batch(torch.stack([stream[start : start + length + 1] for start in whole[place : place + batch]]))
    for start in starts[len(whole) :]:
        yield _batch(stream[None, start:])


def pieces_in_order(stream: Tensor, length: int) -> Iterator[Batch]:
    """One row, cut into pieces of `length` tokens that follow one another: to be read as one stream with a carried state."""
    for start in range(0, len(stream) - 1, length):
        yield _batch(stream[None, start : start + length + 1])


def _batch(rows: Tensor) -> Batch:
    rows = rows.long()
    return Batch(rows[:, :-1].contiguous(), rows[:, 1:].contiguous())
