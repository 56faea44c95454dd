"""A bank's state without the rows that nothing was ever written to: how it lies on the host while others have the device.

A bank with twenty lessons is a parcel of 60 KB, not of 16 MiB. One block of memory holds it all, so that it can be pinned and sent whole.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from model.config import RecallConfig
from model.levels import Clock
from model.state import ALIGNED, Levels, State, filled, initial


@dataclass(frozen=True, slots=True)
class Parcel:
    """The rows of a state that something was written to. A value: nothing changes it."""

    config_hash: str
    levels: Levels
    clock: Clock
    watermark: int
    nbytes: int  # what it takes; pinned memory comes in powers of two

    @classmethod
    def of(cls, state: State, *, pinned: bool = False) -> "Parcel":
        """A copy of a state, wherever that is. `pinned` memory needs an accelerator."""
        parts = list(filled(state.levels))
        size = sum(_room(tensor) for _, _, tensor in parts)
        block = torch.empty(size, dtype=torch.uint8, pin_memory=pinned)
        levels: Levels = {level: {} for level in state.levels}
        begin = 0
        for level, name, tensor in parts:
            copy = block[begin : begin + tensor.nbytes].view(tensor.dtype).view(tensor.shape)
            levels[level][name] = copy.copy_(tensor)
            begin += _room(tensor)
        return cls(state.config_hash, levels, state.clock, state.watermark, cls.size_of(state, pinned=pinned))

    @staticmethod
    def size_of(state: State, *, pinned: bool = False) -> int:
        """The bytes that a parcel of the state takes."""
        size = sum(_room(tensor) for _, _, tensor in filled(state.levels))
        return 2 ** math.ceil(math.log2(size)) if pinned else size

    def state(self, config: RecallConfig) -> State:
        """The state, on the host, independent of the parcel."""
        state = initial(config)
        for level, named in self.levels.items():
            for name, tensor in named.items():
                whole = state.levels[level][name]
                if len(tensor) > len(whole):  # what grows with answers
                    state.levels[level][name] = tensor.clone()
                else:
                    whole[: len(tensor)] = tensor
        state.config_hash, state.clock, state.watermark = self.config_hash, self.clock, self.watermark
        return state


def _room(tensor: Tensor) -> int:
    return -(-tensor.nbytes // ALIGNED) * ALIGNED
