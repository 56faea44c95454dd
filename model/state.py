"""The learned state of one bank: named tensors for each level, and the clock.

A state is a value: it refers to nothing outside, its digest covers every bit that an answer depends on, and copies are independent.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from model.config import FAST, MIDDLE, RecallConfig
from model.levels import Clock

Named = dict[str, Tensor]
Levels = dict[str, Named]


class Form(NamedTuple):
    """What a tensor must be: two dimensions; rows None: one for each distinct answer that was taught."""

    rows: int | None
    columns: int
    dtype: torch.dtype = torch.float32


@dataclass(slots=True)
class State:
    """Tensors by level and name (`layout`), clock, and `watermark`, the seq of the last lesson folded (0: none)."""

    config_hash: str
    levels: Levels
    clock: Clock
    watermark: int

    def clone(self) -> "State":
        """An independent copy."""
        copied = {level: {name: tensor.clone() for name, tensor in named.items()} for level, named in self.levels.items()}
        return State(self.config_hash, copied, self.clock, self.watermark)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(tensor.nbytes for named in self.levels.values() for tensor in named.values())

    def level_digests(self) -> dict[str, str]:
        """SHA-256 of each level's tensors, hex."""
        return {level: _digest_of(named) for level, named in sorted(self.levels.items())}

    def digest(self) -> str:
        """SHA-256 over configuration, clock and every level, hex. Not over the watermark: where a history is numbered is no part of it."""
        whole = {"config": self.config_hash, "clock": self.clock.as_dict(), "levels": self.level_digests()}
        return hashlib.sha256(json.dumps(whole, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def layout(config: RecallConfig) -> dict[str, dict[str, Form]]:
    """The forms of all tensors. Fast: `model/window.py` and, from `last` on, `model/succession.py`."""
    return {
        FAST: {
            "keys": Form(config.window, config.key_width),
            "errors": Form(config.window, config.code_width),
            "rates": Form(config.window, 1),
            "answers": Form(config.window, 1, torch.int32),
            "marks": Form(1, 2, torch.int64),
            "last": Form(1, 1, torch.int32),
            "codes": Form(None, config.code_width // 8, torch.uint8),
            "kin": Form(None, 2, torch.int32),
            "evidence": Form(None, 1),
        },
        MIDDLE: {"weights": Form(config.code_width, 2 * config.frequencies)},  # features along the rows: reads are the frequent operation
    }


def initial(config: RecallConfig) -> State:
    """A bank that has learned nothing."""
    levels = {
        level: {name: torch.zeros(form.rows or 0, form.columns, dtype=form.dtype) for name, form in named.items()}
        for level, named in layout(config).items()
    }
    return State(config.hash, levels, Clock(), 0)


def contradictions(config: RecallConfig, levels: Levels) -> Iterator[str]:
    """What tensors of the right forms say that no memory can hold: numbers that are not finite, indices that lead nowhere."""
    for level, named in levels.items():
        for name, tensor in named.items():
            if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
                yield f"{level}.{name} has numbers that are not finite"
    fast = levels[FAST]
    known = len(fast["codes"])
    taken, handed = (int(mark) for mark in fast["marks"][0])
    if not 0 <= handed <= taken <= handed + config.window - 2:  # the next lesson may bring two
        yield f"fast.marks are {taken} and {handed}: no window of {config.window} pairs has taken and handed on so many"
    elif taken > 0 and not _within(fast["answers"], 0, known):
        yield f"fast.answers point outside the {known} answers"
    if not _within(fast["last"], 0, max(known, 1)):
        yield f"fast.last points outside the {known} answers"
    if bool((fast["rates"] < 0.0).any()):
        yield "fast.rates are below zero"
    if not _within(fast["kin"], -1, known):
        yield f"fast.kin points outside the {known} answers"
    elif _circular(fast["kin"][:, 1].tolist()):
        yield "fast.kin has answers that replace each other in a circle"


def _within(indices: Tensor, low: int, high: int) -> bool:
    return bool(((indices >= low) & (indices < high)).all())


def _circular(successors: list[int]) -> bool:
    safe: set[int] = set()
    for start in range(len(successors)):
        path, at = set(), start
        while at >= 0 and at not in safe:
            if at in path:
                return True
            path.add(at)
            at = successors[at]
        safe |= path
    return False


def _digest_of(named: Named) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.contiguous().numpy().data)
    return total.hexdigest()
