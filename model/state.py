"""The learned state of one bank: named tensors for each level, and the clock.

A state is a value: it refers to nothing outside, its digest covers every bit that an answer depends on, and copies are independent. The
one exception is a view of a slot (`model/slots.py`), whose tensors lie among those of other banks and live as long as it has the slot.

What a product reads as a whole (`HEAVY`) lies on the memory's device. The rest is bookkeeping, 8 bytes for a pair and 44 for an answer,
and lies on the host always: who is touched, said and replaced is decided there, without asking the device for one number at a time.
"""

import hashlib
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.config import FAST, MIDDLE, PLACES, SLOW, RecallConfig
from model.levels import Clock

Named = dict[str, Tensor]
Levels = dict[str, Named]

HEAVY = frozenset({"keys", "errors", "weights", "scales", "sizes"})  # on the memory's device
PAIRS = ("keys", "errors", "rates", "answers")  # of the fast level: one row for each pair of the window
WORD = 8  # numbers in 8 bits that are read at once: rows of them have a multiple of it, zeros beyond
ALIGNED = 64  # bytes: as torch allocates; where a tensor lies must not choose between kernels that round differently


class Form(NamedTuple):
    """What a tensor must be: two dimensions; rows None: one for each distinct answer that was taught."""

    rows: int | None
    columns: int
    dtype: torch.dtype = torch.float32


class Berth(NamedTuple):
    """Where a view's heavy tensors lie: row `slot` of each of `stacks`."""

    stacks: Levels
    slot: int


@dataclass(slots=True)
class State:
    """Tensors by level and name (`layout`), clock, and `watermark`, the seq of the last lesson folded (0: none)."""

    config_hash: str
    levels: Levels
    clock: Clock
    watermark: int
    berth: Berth | None = field(default=None, compare=False, repr=False)  # of a view of a slot

    def clone(self) -> "State":
        """An independent copy, on the same devices."""
        copied = {level: {name: tensor.clone() for name, tensor in named.items()} for level, named in self.levels.items()}
        return State(self.config_hash, copied, self.clock, self.watermark)

    def to(self, device: torch.device | str) -> "State":
        """An independent copy with its heavy tensors on `device`."""
        copied = {
            level: {name: tensor.to(device if name in HEAVY else "cpu", copy=True) for name, tensor in named.items()}
            for level, named in self.levels.items()
        }
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
    """The forms of all tensors. Fast: `window.py` and, from `last` on, `succession.py`. Middle: `wide.py`. Slow: `slow.py`."""
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
        MIDDLE: {
            "weights": Form(config.code_width, 2 * config.frequencies),  # features along the rows: reads are the frequent operation
            "taken": Form(1, 1, torch.int64),
        },
        SLOW: {
            "turn": Form(config.key_width, config.key_width),
            "keys": Form(config.places, -(-config.key_width // WORD) * WORD, torch.int8),
            "scales": Form(config.places, 1),
            "errors": Form(config.places // block_of(config) * config.code_width, block_of(config), torch.int8),
            "sizes": Form(config.places, 1),
            "held": Form(1, 3, torch.int64),
        },
    }


def block_of(config: RecallConfig) -> int:
    """Places of the slow level whose errors lie together."""
    return min(config.places, PLACES)


def initial(config: RecallConfig, device: torch.device | str = "cpu") -> State:
    """A bank that has learned nothing, its heavy tensors on `device`."""
    levels = {
        level: {
            name: zeros(form.rows or 0, form.columns, dtype=form.dtype, device=device if name in HEAVY else "cpu")
            for name, form in named.items()
        }
        for level, named in layout(config).items()
    }
    return State(config.hash, levels, Clock(), 0)


def zeros(*shape: int, dtype: torch.dtype, device: torch.device | str = "cpu") -> Tensor:
    """Zeros. On the host they take no memory before they are written to: most banks fill a small part of their window."""
    if torch.device(device).type != "cpu":
        return torch.zeros(*shape, dtype=dtype, device=device)
    size = math.prod(shape) * dtype.itemsize
    raw = np.zeros(size + ALIGNED, np.uint8)  # the kernel's zero pages, where torch.zeros would write every byte
    begin = -raw.ctypes.data % ALIGNED
    return torch.from_numpy(raw[begin : begin + size]).view(dtype).view(shape)


def filled(levels: Levels) -> Iterator[tuple[str, str, Tensor]]:
    """Level, name and tensor (a view) without the rows that nothing was ever written to. All others are zero."""
    taken = int(levels[FAST]["marks"][0, 0])
    held, block = int(levels[SLOW]["held"][0, 0]), levels[SLOW]["errors"].shape[1]
    rows = {(FAST, name): taken for name in PAIRS} | {(SLOW, name): held for name in ("keys", "scales", "sizes")}
    rows[SLOW, "errors"] = -(-held // block) * levels[FAST]["errors"].shape[1]
    empty = {MIDDLE: not levels[MIDDLE]["taken"][0, 0], SLOW: not held}
    for level, named in levels.items():
        for name, tensor in named.items():
            whole = len(tensor) if name in {"held", "taken"} or not empty.get(level, False) else 0
            yield level, name, tensor[: rows.get((level, name), whole)]


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
    if handed <= taken and not _within(levels[MIDDLE]["taken"], handed, sys.maxsize):
        yield f"middle.taken is less than the {handed} pairs that were handed on"
    held = levels[SLOW]["held"]
    if not _within(held[:, :1], 0, config.places + 1) or bool((held < 0).any()):
        yield f"slow.held is not a number of its {config.places} places, and a clock"
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
        total.update(tensor.cpu().contiguous().numpy().data)
    return total.hexdigest()
