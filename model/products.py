"""What a memory computes with whole matrices, for one bank or for many: the port between the order of events and the arithmetic.

    put      the keys of pairs that were taken in
    read     o(x) of one question to each of several banks (a bank may be asked more than once)
    survey   the same at several keys of one bank at once, with last bits as they come
    ask      the same at the key of a lesson, and what its key is near to
    among    inner products of a few keys of one bank, to see whether a key is at home with them
    write    ΔE = (K + diag(1/η))⁻¹ (V − O) for the pairs that a lesson touches
    hand_on  M += e_j ψ(x_j)ᵀ for the pairs that leave the window

Everything given is on the host, everything returned is; heavy tensors stay where they are. Two ways to do it:

- `OneByOne`, here, on the host: bank after bank, one matrix times one vector at a time. So what a bank computes does not depend on which
  others are in the batch, on any processor. Kernels that take several vectors at once round otherwise (gemm), or have the same bits on some
  processors only (a batch of one-row products) and save a tenth: a host is busy reading the matrices, which are each bank's own.
- `Stacked` (`model/stacked.py`), on an accelerator: one kernel for all banks, over shapes that depend on nothing but the bank itself.
"""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from model import wide
from model.codes import Vector
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.features import FeatureMap, kernel
from model.slow import Slow
from model.state import State
from model.window import Window


class Reading(NamedTuple):
    """What the levels say at a key, (code_width,) each."""

    fast: Vector
    middle: Vector
    slow: Vector

    @property
    def whole(self) -> Vector:
        """The read-out."""
        return self.fast + self.middle + self.slow

    def alone(self, level: str) -> "Reading":
        """What is left when only one level says anything."""
        return Reading(*(said if name == level else np.zeros_like(said) for name, said in self._asdict().items()))


class Question(NamedTuple):
    """A bank that is asked at a key (key_width,), turned by its slow level."""

    state: State
    key: Tensor


class Inquiry(NamedTuple):
    """A bank whose lesson has the key `key` (key_width,); only its first `rows` pairs are older than the lesson."""

    state: State
    key: Tensor
    rows: int


class Pairs(NamedTuple):
    """Pairs of a bank: their rows, with `values` (n, …) for each: keys to `put`, answers' codes to `write`."""

    state: State
    rows: list[int]
    values: Tensor = torch.empty(0)


class Products(Protocol):
    """See the module. Banks of one call are distinct but in `read`."""

    def put(self, pairs: Sequence[Pairs]) -> None:
        """Write the keys of pairs, with no error yet."""

    def read(self, questions: Sequence[Question]) -> list[Reading]:
        """What each bank says at its key."""

    def survey(self, state: State, keys: Tensor) -> list[Reading]:
        """What a bank says at each of keys (n, key_width), for much less than `read`. Last bits may depend on how many there are."""

    def ask(self, inquiries: Sequence[Inquiry]) -> list[tuple[Reading, Tensor]]:
        """What each bank says at its key, and (rows used,) the kernels of all its pairs with the key."""

    def among(self, pairs: Sequence[Pairs]) -> list[tuple[Tensor, Tensor]]:
        """For pairs and one other key (`values`, (key_width,)) of each bank: (n, n) inner products among the pairs, (n,) with the key."""

    def write(self, pairs: Sequence[Pairs]) -> None:
        """Learn the values (n, code_width) at the pairs of each bank together, and the first of them exactly."""

    def hand_on(self, pairs: Sequence[Pairs]) -> None:
        """Add the pairs (without `values`) to the wide weights, oldest first, and make their keys and errors zero."""


class OneByOne:
    """The products on the host, one bank at a time."""

    def __init__(self, config: RecallConfig) -> None:
        self._window = Window(config.window, config.sharpness)
        self._features, self._slow, self._sharpness = FeatureMap(config), Slow(config), config.sharpness
        self._silence = np.zeros(config.code_width, np.float32)

    def put(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`."""
        for state, rows, keys in pairs:
            for row, key in zip(rows, keys, strict=True):
                self._window.put(state.levels[FAST], row, key)

    def read(self, questions: Sequence[Question]) -> list[Reading]:
        """See `Products`."""
        return [
            Reading(self._window.read(state.levels[FAST], key).numpy(), self._wide(state, key), self._settled(state, key))
            for state, key in questions
        ]

    def survey(self, state: State, keys: Tensor) -> list[Reading]:
        """See `Products`."""
        fast, used = state.levels[FAST], self._window.used(state.levels[FAST])
        near = kernel(torch.mm(keys, fast["keys"][:used].T), self._sharpness)
        said = torch.mm(near, fast["errors"][:used]).numpy()
        spread = settled = np.zeros_like(said)
        if wide.taken(state.levels[MIDDLE]):
            spread = torch.mm(self._features.of_all(keys), state.levels[MIDDLE]["weights"].T).numpy()
        if self._slow.used(state.levels[SLOW]):
            settled = self._slow.of_all(state.levels[SLOW], keys).numpy()
        return [Reading(*levels) for levels in zip(said, spread, settled, strict=True)]

    def ask(self, inquiries: Sequence[Inquiry]) -> list[tuple[Reading, Tensor]]:
        """See `Products`."""
        asked = []
        for state, key, rows in inquiries:
            fast = state.levels[FAST]
            near = self._window.closeness(fast, key, rows)
            reading = Reading(self._window.said(fast, near).numpy(), self._wide(state, key), self._settled(state, key))
            # the last rows of a product may have other bits when rows follow: all of them anew
            asked.append((reading, near if rows == self._window.used(fast) else self._window.closeness(fast, key)))
        return asked

    def among(self, pairs: Sequence[Pairs]) -> list[tuple[Tensor, Tensor]]:
        """See `Products`."""
        return [self._window.among(state.levels[FAST], torch.tensor(rows), key) for state, rows, key in pairs]

    def write(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`."""
        for state, rows, values in pairs:
            fast, slow, beside = state.levels[FAST], state.levels[SLOW], None
            keys = fast["keys"][torch.tensor(rows)]
            if wide.taken(state.levels[MIDDLE]):
                beside = torch.stack([torch.mv(state.levels[MIDDLE]["weights"], each) for each in self._features.of_each(keys)])
            if self._slow.used(slow):
                settled = self._slow.of_each(slow, keys)
                beside = settled if beside is None else beside + settled
            self._window.write(fast, rows, values, beside)

    def hand_on(self, pairs: Sequence[Pairs]) -> None:
        """See `Products`."""
        for state, rows, _ in pairs:
            fast, weights = state.levels[FAST], state.levels[MIDDLE]["weights"]
            leaving = torch.tensor(rows)
            for error, features in zip(fast["errors"][leaving], self._features.of_each(fast["keys"][leaving]), strict=True):
                weights.addr_(error, features)
            for name in ("keys", "errors"):
                fast[name][leaving] = 0.0

    def _wide(self, state: State, key: Tensor) -> Vector:
        if not wide.taken(state.levels[MIDDLE]):
            return self._silence
        return np.asarray(torch.mv(state.levels[MIDDLE]["weights"], self._features(key)).numpy())

    def _settled(self, state: State, key: Tensor) -> Vector:
        slow = state.levels[SLOW]
        return np.asarray(self._slow.of_each(slow, key[None])[0].numpy()) if self._slow.used(slow) else self._silence
