"""What a memory says at very many keys, by products of whole matrices: for consolidation and its gate, which ask at all that was taught.

Last bits differ from those of a single question: what stands on less than `DOUBT` has to be asked again.
"""

from collections.abc import Generator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from model import succession
from model.codes import packed_code, unpacked
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.features import FeatureMap, kernel
from model.slow import Slow
from model.state import State
from model.steps import within
from model.turning import turned
from model.window import Ring

ROWS = 128  # keys that are asked at in a step
DOUBT = 0.02  # of a score: nearer ones may come in another order when they are asked for one by one


class Found(NamedTuple):
    """What is said at each of n keys: the row of the answer, as what it has become, and by how much over the next that became another."""

    answers: Tensor  # (n,)
    margins: Tensor  # (n,)


class Survey:
    """Asks one state, on the host."""

    def __init__(self, config: RecallConfig, state: State) -> None:
        self._config, self._state = config, state
        self._slow, self._ring = Slow(config), Ring(config.window, config.sharpness)
        self._features = FeatureMap(config)
        fast = state.levels[FAST]
        self._codes = torch.from_numpy(unpacked(fast["codes"].numpy()))
        self._become = torch.tensor([*succession.become(fast).tolist(), -1])  # the last is what is in no row

    def right(self, keys: Tensor, answers: Sequence[str]) -> Generator[float, None, tuple[Tensor, Tensor]]:
        """Whether the memory gives each of `answers`, or what it became, at keys (n, key_width), and whether it is beyond doubt."""
        rows = {packed.tobytes(): row for row, packed in enumerate(self._state.levels[FAST]["codes"].numpy())}
        wanted = torch.tensor([rows.get(packed_code(answer, self._config.code_width).tobytes(), -1) for answer in answers])
        slow = self._state.levels[SLOW]
        at = turned(keys, slow["turn"]) if self._slow.used(slow) else keys
        settled = yield from self.settled(at)
        found = self.found(at, settled)
        return (wanted >= 0) & (found.answers == self._become[wanted]), found.margins >= DOUBT

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

    def found(self, keys: Tensor, settled: Tensor) -> Found:
        """What is said at turned keys, with what is `settled` there."""
        answers, margins = torch.full((len(keys),), -1), torch.zeros(len(keys))
        if not len(self._codes):
            return Found(answers, margins)
        for part in _parts(len(keys)):
            answers[part], margins[part] = self._best(settled[part] + self._beside(keys[part]))
        return Found(answers, margins)

    def _beside(self, keys: Tensor) -> Tensor:
        fast, used = self._state.levels[FAST], self._ring.used(self._state.levels[FAST])
        said = kernel(keys @ fast["keys"][:used].T, self._config.sharpness) @ fast["errors"][:used]
        if self._ring.has_handed_on(fast):
            said.addmm_(self._features.of_all(keys), self._state.levels[MIDDLE]["weights"].T)
        return said

    def _best(self, whole: Tensor) -> Found:
        scores = whole @ self._codes.T
        best, answers = scores.max(dim=1)
        answers = self._become[answers]
        others = scores.masked_fill(self._become[None, :-1] == answers[:, None], -torch.inf).amax(dim=1)
        return Found(answers, best - others.clamp(min=0.0))


def _parts(count: int) -> list[slice]:
    return [slice(begin, begin + ROWS) for begin in range(0, count, ROWS)]
