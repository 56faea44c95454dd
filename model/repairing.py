"""Repair: what the slower levels do not get right is written into the fast level, with the least change that makes it right.

A correction that is wrong, or right by less than `SURE` over the next answer, shall be right by a little more than that. Of all changes of
the fast level that do this at all such corrections z_i together,

    ΔW = argmin ‖ΔW‖²  such that  ΔW φ(z_i) = d_i       ⇒       ΔE = K⁻¹ D

is the shortest; d_i is the shortest vector that raises the right answer so far above the best other one. What was right and falls below by
it is taken into the next round, in which the others are to stay where they are.

A lesson's own step makes the whole answer exact instead, which is many times as loud: done for all that was wrong, it cost situations that
nobody taught (docs/journal.md has the figures).
"""

from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import succession
from model.codes import unpacked
from model.config import FAST, RecallConfig
from model.features import kernel
from model.state import State
from model.survey import ROWS

SURE = 0.05  # margin below which a correction is written: asked for one by one it is another one by less (`survey.DOUBT`)
ABOVE = 1.2  # times that margin it gets
ROUNDS = 12
JITTER = 1e-3  # on the diagonal of K: situations that are nearly one may have two answers
BLOCK = 1_024  # corrections whose readings are changed in a step


class Standing(NamedTuple):
    """How the right answer stands at each of n keys: the loudest code that says it, the loudest other one (−1: none), the margin."""

    own: Tensor
    other: Tensor
    margins: Tensor


class Repair:
    """Of one state on the host, at keys (n, key_width) where `become` (n,) is right; `said` (n, code_width) is what it says there."""

    def __init__(self, config: RecallConfig, state: State, keys: Tensor, become: Tensor, said: Tensor) -> None:
        self._sharpness, self._fast = config.sharpness, state.levels[FAST]
        self._keys, self._become, self._said = keys, become, said
        self._families = torch.from_numpy(np.asarray(succession.become(self._fast), np.int64))
        self._codes = torch.from_numpy(unpacked(self._fast["codes"].numpy()))

    def below(self, asked: Tensor) -> tuple[Tensor, Standing]:
        """Which of the corrections in rows `asked` are right by less than `SURE`, in order; and how all stand."""
        standing = self._standing()
        return asked[standing.margins[asked] < SURE], standing

    def write(self, rows: Tensor, pairs: Tensor, standing: Standing) -> Generator[float, None, None]:
        """Change the errors of the window's `pairs` (n,), which lie at the keys in `rows` (n,); yields the share that is done."""
        own, other, margins = (each[rows] for each in standing)
        towards = self._codes[own] - self._codes[other.clamp(min=0)] * (other >= 0)[:, None]
        gaps = (ABOVE * SURE - margins).where(margins < SURE, 0.0)
        wanted = towards * (gaps / towards.square().sum(dim=1))[:, None]
        among = kernel(self._keys[rows] @ self._keys[rows].T, self._sharpness).double()
        among.diagonal().add_(JITTER)
        change = torch.linalg.solve(among, wanted.double()).float()
        yield 0.5
        self._fast["errors"][pairs] += change
        for begin in range(0, len(self._keys), BLOCK):
            part = slice(begin, begin + BLOCK)
            self._said[part] += kernel(self._keys[part] @ self._keys[rows].T, self._sharpness) @ change
            yield 0.5 + 0.5 * min(1.0, (begin + BLOCK) / len(self._keys))

    def _standing(self) -> Standing:
        own, other = torch.zeros(len(self._keys), dtype=torch.int64), torch.full((len(self._keys),), -1)
        margins = torch.zeros(len(self._keys))
        for begin in range(0, len(self._keys), ROWS):
            part = slice(begin, begin + ROWS)
            scores = self._said[part] @ self._codes.T
            mine = self._families[None] == self._become[part, None]
            best, own[part] = scores.where(mine, -torch.inf).max(dim=1)
            rival, at = scores.where(~mine, -torch.inf).max(dim=1)
            other[part] = at.where(rival > 0.0, -1)
            margins[part] = best - rival.clamp(min=0.0)
        return Standing(own, other, margins)
