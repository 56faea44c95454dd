"""What a memory says at very many keys, by products of whole matrices: for consolidation and its gate, which ask at all that was taught.

It is judged as a recall judges: what was replaced speaks for what it has become, where it is only inferred (`model/succession.py`). Last
bits differ from those of a single question: what stands on less than `DOUBT` has to be asked again.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import succession, wide
from model.codes import packed_code, unpacked
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.features import FeatureMap, kernel
from model.slow import Slow
from model.state import Named, State
from model.steps import within
from model.turning import turn_
from model.window import Ring

ROWS = 128  # keys that are asked at in a step
DOUBT = 0.02  # of a score: nearer ones may come in another order when they are asked for one by one


class Standing(NamedTuple):
    """How the right answer stands at each of n keys: the code to raise for it and its score, and those of the best other answer.

    `swing`: by how much their difference may be another one, where an answer is nearly as loud as it takes to speak, or not, for another.
    """

    own: Tensor  # (n,) row of the answer
    other: Tensor  # (n,)
    best: Tensor  # (n,) score of `own`
    rival: Tensor  # (n,) score of `other`; −∞: there is none
    swing: Tensor  # (n,)

    @property
    def margins(self) -> Tensor:
        """(n,) by how much the right answer is above the best other one, and above what means nothing."""
        return self.best - self.rival.clamp(min=0.0)

    @property
    def right(self) -> Tensor:
        """(n,) bool: whether the right answer is the best."""
        return self.best > self.rival

    @property
    def sure(self) -> Tensor:
        """(n,) bool: whether that is beyond doubt, however they are asked."""
        return (self.best - self.rival).abs() >= DOUBT + self.swing

    @property
    def said(self) -> Tensor:
        """(n,) row of the best answer."""
        return self.own.where(self.right, self.other)


class Judge:
    """Tells of one fast level how answers stand in read-outs."""

    def __init__(self, fast: Named) -> None:
        self.codes = torch.from_numpy(unpacked(fast["codes"].numpy()))  # (answers, code_width)
        self._become = torch.from_numpy(np.asarray(succession.become(fast), np.int64))
        self._old, self._new = (torch.from_numpy(np.asarray(rows, np.int64)) for rows in succession.replaced(fast))

    def standing(self, whole: Tensor, right: Tensor) -> Standing:
        """In read-outs (n, code_width), of the answers in rows `right` (n,) of the fast level, or of what each has become.

        There has to be an answer.
        """
        scores, swing = self._spoken(whole)
        mine = torch.zeros_like(scores, dtype=torch.bool)
        mine.scatter_(1, torch.stack([right, self._become[right]], dim=1), value=True)
        best, own = scores.where(mine, -torch.inf).max(dim=1)
        rival, other = scores.where(~mine, -torch.inf).max(dim=1)
        return Standing(own, other, best, rival, swing)

    def _spoken(self, whole: Tensor) -> tuple[Tensor, Tensor]:
        """Scores (n, answers) as `succession.speak_for` has them, and by how much one may differ from another otherwise."""
        scores = whole @ self.codes.T
        if not len(self._old):
            return scores, torch.zeros(len(scores))
        inferred, least = scores[:, self._old], succession.NOISE * whole.norm(dim=1, keepdim=True) / whole.shape[1] ** 0.5
        moved = inferred.where((inferred > least) & (inferred < succession.CERTAIN), 0.0)
        scores.index_add_(1, self._new, moved)
        scores[:, self._old] -= moved
        close = torch.minimum((inferred - least).abs(), (inferred - succession.CERTAIN).abs()) < DOUBT
        return scores, 2.0 * inferred.abs().where(close, 0.0).sum(dim=1)  # one answer has it less, another more


class Survey:
    """Asks one state, on the host."""

    def __init__(self, config: RecallConfig, state: State) -> None:
        self._config, self._state = config, state
        self._slow, self._ring = Slow(config), Ring(config.window, config.sharpness)
        self._features = FeatureMap(config)

    def right(self, keys: Tensor, answers: Sequence[str]) -> Generator[float, None, tuple[Tensor, Tensor]]:
        """Whether the memory gives each of `answers`, or what it became, at keys (n, key_width), and whether it is beyond doubt."""
        fast = self._state.levels[FAST]
        rows = {packed.tobytes(): row for row, packed in enumerate(fast["codes"].numpy())}
        wanted = torch.tensor([rows.get(packed_code(answer, self._config.code_width).tobytes(), -1) for answer in answers])
        if not rows:  # it was taught nothing
            return torch.zeros(len(keys), dtype=torch.bool), torch.ones(len(keys), dtype=torch.bool)
        stands = yield from self.standing(keys, wanted.clamp(min=0))
        return stands.right & (wanted >= 0), stands.sure | (wanted < 0)

    def standing(self, keys: Tensor, wanted: Tensor) -> Generator[float, None, Standing]:
        """How answers in rows `wanted` (n,) of the fast level, or what they became, stand at keys (n, key_width). There has to be one."""
        slow, judge = self._state.levels[SLOW], Judge(self._state.levels[FAST])
        if self._slow.used(slow):
            keys = keys.clone()
            turn_(keys, slow["turn"])
        whole = yield from within(self.whole(keys), 0.0, 0.9)
        stands = []
        for part in _parts(len(keys)):
            stands.append(judge.standing(whole[part], wanted[part]))
            yield 0.9 + 0.1 * min(part.stop, len(keys)) / len(keys)
        return Standing(*(torch.cat(each) for each in zip(*stands, strict=True)))

    def settled(self, keys: Tensor) -> Generator[float, None, Tensor]:
        """(n, code_width) what the slow level says at turned keys (n, key_width); yields the share that is done."""
        said = torch.zeros(len(keys), self._config.code_width)
        for part in _parts(len(keys)):
            said[part] = self._slow.of_all(self._state.levels[SLOW], keys[part])
            yield min(part.stop, len(keys)) / len(keys)
        return said

    def whole(self, keys: Tensor) -> Generator[float, None, Tensor]:
        """(n, code_width) what all levels say at turned keys (n, key_width); yields the share that is done."""
        said = yield from within(self.settled(keys), 0.0, 0.5)
        for part in _parts(len(keys)):
            said[part] += self._beside(keys[part])
            yield 0.5 + 0.5 * min(part.stop, len(keys)) / len(keys)
        return said

    def _beside(self, keys: Tensor) -> Tensor:
        fast, used = self._state.levels[FAST], self._ring.used(self._state.levels[FAST])
        said = kernel(keys @ fast["keys"][:used].T, self._config.sharpness) @ fast["errors"][:used]
        if wide.taken(self._state.levels[MIDDLE]):
            said.addmm_(self._features.of_all(keys), self._state.levels[MIDDLE]["weights"].T)
        return said


def _parts(count: int) -> list[slice]:
    return [slice(begin, begin + ROWS) for begin in range(0, count, ROWS)]
