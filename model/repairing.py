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

import torch
from torch import Tensor

from model.config import FAST, RecallConfig
from model.features import kernel
from model.state import State
from model.survey import ROWS, Judge, Standing

SURE = 0.05  # margin below which a correction is written: asked for one by one it is another one by less (`survey.DOUBT`)
ABOVE = 1.2  # times that margin it gets
ROUNDS = 12
JITTER = 1e-3  # on the diagonal of K: situations that are nearly one may have two answers
BLOCK = 1_024  # corrections whose readings are changed in a step


class Repair:
    """Of one state on the host, at keys (n, key_width), where the `answers` (n,), or what they have become, are right.

    `said` (n, code_width) is what it says there.
    """

    def __init__(self, config: RecallConfig, state: State, keys: Tensor, answers: Tensor, said: Tensor) -> None:
        self._sharpness, self._fast = config.sharpness, state.levels[FAST]
        self._keys, self._answers, self._said = keys, answers, said
        self._judge = Judge(self._fast)

    def below(self, asked: Tensor) -> Generator[float, None, tuple[Tensor, Standing]]:
        """Which of the corrections in rows `asked` are right by less than `SURE`, in order; and how all stand.

        Yields the share that is done.
        """
        stands = []
        for begin in range(0, len(self._keys), ROWS):
            part = slice(begin, begin + ROWS)
            stands.append(self._judge.standing(self._said[part], self._answers[part]))
            yield min(1.0, (begin + ROWS) / len(self._keys))
        standing = Standing(*(torch.cat(each) for each in zip(*stands, strict=True)))
        return asked[standing.margins[asked] < SURE], standing

    def write(self, rows: Tensor, pairs: Tensor, standing: Standing) -> Generator[float, None, None]:
        """Change the errors of the window's `pairs` (n,), which lie at the keys in `rows` (n,); yields the share that is done."""
        codes, margins = self._judge.codes, standing.margins[rows]
        towards = codes[standing.own[rows]] - codes[standing.other[rows]] * (standing.rival[rows] > 0.0)[:, None]
        gaps = (ABOVE * SURE - margins).where(margins < SURE, 0.0)
        wanted = towards * (gaps / towards.square().sum(dim=1))[:, None]
        among = kernel(self._keys[rows] @ self._keys[rows].T, self._sharpness).double()
        among.diagonal().add_(JITTER)
        change = _solved(among, wanted.double()).float()
        yield 0.5
        self._fast["errors"][pairs] += change
        for begin in range(0, len(self._keys), BLOCK):
            part = slice(begin, begin + BLOCK)
            self._said[part] += kernel(self._keys[part] @ self._keys[rows].T, self._sharpness) @ change
            yield 0.5 + 0.5 * min(1.0, (begin + BLOCK) / len(self._keys))


def _solved(matrix: Tensor, values: Tensor) -> Tensor:
    """X of a matrix (n, n) X = `values` (n, m), as `torch.linalg.solve` finds it, but factored where it lies: it has to be symmetric."""
    factor = matrix.mT  # the same matrix, in the order that LAPACK has: no copy
    _, pivots = torch.linalg.lu_factor(factor, out=(factor, torch.empty(0, dtype=torch.int32)))
    found: Tensor = torch.linalg.lu_solve(factor, pivots, values)
    return found
