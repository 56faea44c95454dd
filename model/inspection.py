"""What can be said of a state without asking it anything: how large its levels' weights are, how far from another's, how full.

The weights of a level are what its products read: the tensors of `HEAVY`; of the slow level the numbers that its 8 bits stand for, and its
turn of the keys. The books kept beside them are none.
"""

import math
from collections.abc import Iterator

from torch import Tensor

from model import wide
from model.config import FAST, MIDDLE, SLOW, RecallConfig
from model.state import HEAVY, Levels, Named, State

PIECE = 1 << 17  # numbers that are looked at at once: as doubles they stay in a processor's cache


def norms(levels: Levels) -> dict[str, float]:
    """The L2 norm of each level's weights."""
    return {level: math.sqrt(sum(_square(piece) for piece in _pieces(_weights(named)))) for level, named in levels.items()}


def drifts(now: State, then: State) -> dict[str, float]:
    """How far each level's weights are from those of another state: ‖a − b‖ / max(‖a‖, ‖b‖); 0 for equal ones, 1 against none at all.

    Both states are of one configuration.
    """
    found = {}
    for level, named in now.levels.items():
        apart = mine = yours = 0.0
        for here, there in zip(_pieces(_weights(named)), _pieces(_weights(then.levels[level])), strict=True):
            apart, mine, yours = apart + _square(here - there), mine + _square(here), yours + _square(there)
        size = max(mine, yours)
        found[level] = math.sqrt(apart / size) if size else 0.0
    return found


def held(state: State) -> dict[str, int]:
    """How many pairs each level holds: fast those of its window, middle all that it was given to speak for, slow its places."""
    taken, handed = state.levels[FAST]["marks"][0].tolist()
    return {FAST: taken - handed, MIDDLE: wide.taken(state.levels[MIDDLE]), SLOW: int(state.levels[SLOW]["held"][0, 0])}


def capacity(config: RecallConfig) -> dict[str, int]:
    """How many pairs each level can keep apart: places of the window, features of the wide weights. More than that blur in the latter."""
    return {FAST: config.window, MIDDLE: 2 * config.frequencies, SLOW: config.places}


def _weights(named: Named) -> dict[str, Tensor]:
    if "turn" not in named:
        return {name: tensor for name, tensor in named.items() if name in HEAVY}
    size = named["errors"].shape[1]  # places of a block
    sizes = named["sizes"].view(-1, 1, size)
    errors = named["errors"].view(len(sizes), -1, size).double()  # (blocks, code_width, places of a block)
    return {"turn": named["turn"], "keys": named["keys"].double() * named["scales"], "errors": errors * sizes}


def _pieces(weights: dict[str, Tensor]) -> Iterator[Tensor]:
    for name in sorted(weights):
        flat = weights[name].reshape(-1)
        for start in range(0, len(flat), PIECE):
            yield flat[start : start + PIECE].double()


def _square(numbers: Tensor) -> float:
    return float(numbers.square().sum())
