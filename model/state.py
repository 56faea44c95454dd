"""The learned state of one bank: named tensors for each level, the clock, and the lessons that the middle level has not written yet.

A state is a value: it refers to nothing outside, its digest covers every bit that an answer depends on, and copies are independent.
"""

import hashlib
import json
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import FAST, MIDDLE, RecallConfig
from model.levels import Clock

Levels = dict[str, dict[str, Tensor]]


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


def layout(config: RecallConfig) -> dict[str, dict[str, tuple[int | None, int]]]:
    """Shapes of all tensors, float32; None: a number of rows up to the middle period."""
    return {
        FAST: {"weights": (config.units, config.code_width)},
        MIDDLE: {
            "weights": (config.code_width, 2 * config.frequencies),  # features along the rows: reads are the frequent operation
            "pending_keys": (None, config.key_width),
            "pending_errors": (None, config.code_width),
        },
    }


def initial(config: RecallConfig) -> State:
    """A bank that has learned nothing."""
    levels = {
        level: {name: torch.zeros(rows or 0, columns) for name, (rows, columns) in named.items()} for level, named in layout(config).items()
    }
    return State(config.hash, levels, Clock(), 0)


def _digest_of(named: dict[str, Tensor]) -> str:
    total = hashlib.sha256()
    for name, tensor in sorted(named.items()):
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.contiguous().numpy().data)
    return total.hexdigest()
