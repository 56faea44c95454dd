"""Slots: room for the states of many banks in stacked tensors, so that one kernel can compute for all of them (`model/stacked.py`).

Every tensor of fixed size has a stack `[count, …]`, heavy ones on the device, bookkeeping on the host. What grows with distinct answers
(`codes`, `kin`, `evidence`, 44 bytes for each) stays with its bank: it lies on the host, no kernel reads it, and a bank that knows 30
answers need not pay for 30,000. A slot's state is a view: whatever works on a state works on it, in place.

Only rows that something was written to are copied or made zero, so moving a bank costs what it has learned. A slot that was given back
holds nothing of its bank.
"""

import torch

from model.config import RecallConfig
from model.levels import Clock
from model.parcel import Parcel
from model.state import ALIGNED, HEAVY, Berth, Levels, State, filled, initial, layout, zeros

GIVEN_BACK = "none: its slot was given back"


class NoSlot(RuntimeError):
    """Every slot is taken."""


class Slots:
    """`count` slots on `device`. Not for two threads at once."""

    def __init__(self, config: RecallConfig, count: int, device: torch.device | str = "cpu") -> None:
        self._config, self._hash, self.count, self.device = config, config.hash, count, torch.device(device)
        self._layout = layout(config)
        self._stacks: Levels = {
            level: {
                name: _stack(count, form.rows, form.columns, form.dtype, self.device if name in HEAVY else torch.device("cpu"))
                for name, form in named.items()
                if form.rows is not None
            }
            for level, named in self._layout.items()
        }
        self._free = list(range(count))[::-1]
        self._taken: dict[int, State] = {}

    def __len__(self) -> int:
        return len(self._taken)

    @property
    def free(self) -> int:
        """Slots that can be taken."""
        return len(self._free)

    @property
    def nbytes(self) -> int:
        """Bytes of all stacks, on the device and on the host, and of what the banks in them keep for their answers."""
        answers = sum(state.nbytes for state in self._taken.values()) - len(self._taken) * sum(bytes_of_slot(self._config))
        return sum(stack.untyped_storage().nbytes() for named in self._stacks.values() for stack in named.values()) + answers

    def take(self) -> int:
        """A slot, whose state has learned nothing.

        Raises:
            NoSlot: all are taken.
        """
        if not self._free:
            raise NoSlot(f"all {self.count} slots are taken")
        slot = self._free.pop()
        levels: Levels = {
            level: {
                name: zeros(0, form.columns, dtype=form.dtype) if form.rows is None else self._stacks[level][name][slot]
                for name, form in named.items()
            }
            for level, named in self._layout.items()
        }
        self._taken[slot] = State(self._hash, levels, Clock(), 0, Berth(self._stacks, slot))
        return slot

    def give_back(self, slot: int) -> None:
        """The slot may be taken by another bank. Its state can no longer be used.

        Raises:
            KeyError: it is not taken.
        """
        state = self._taken.pop(slot)
        _clear(state)
        state.levels, state.config_hash, state.berth = {}, GIVEN_BACK, None  # who still has the view shall not write to the next bank
        self._free.append(slot)

    def view(self, slot: int) -> State:
        """The state in a slot, always the same object: what is done to it is done in the slot.

        Raises:
            KeyError: it is not taken.
        """
        return self._taken[slot]

    def load(self, slot: int, state: State | Parcel) -> State:
        """Make the slot's state equal to `state`, and give its view.

        Raises:
            KeyError: the slot is not taken.
            ValueError: the state has another configuration.
        """
        if state.config_hash != self._hash:
            raise ValueError(f"the state has configuration {state.config_hash[:12]}, these slots are for {self._hash[:12]}")
        target = self._taken[slot]
        _clear(target)
        for level, name, tensor in filled(state.levels):
            if name in self._stacks[level]:
                target.levels[level][name][: len(tensor)].copy_(tensor, non_blocking=True)  # of pinned memory: beside the host's work
            else:
                target.levels[level][name] = tensor.clone()
        target.clock, target.watermark = state.clock, state.watermark
        return target

    def save(self, slot: int) -> State:
        """An independent copy on the host of the state in a slot.

        Raises:
            KeyError: the slot is not taken.
        """
        state = self._taken[slot]
        copy = initial(self._config)
        for level, name, tensor in filled(state.levels):
            if name in self._stacks[level]:
                copy.levels[level][name][: len(tensor)] = tensor
            else:
                copy.levels[level][name] = tensor.clone()
        copy.clock, copy.watermark = state.clock, state.watermark
        return copy

    def pack(self, slot: int) -> Parcel:
        """The state in a slot without its empty rows, on the host; in pinned memory if the slot is on an accelerator.

        Raises:
            KeyError: the slot is not taken.
        """
        return Parcel.of(self._taken[slot], pinned=self.device.type == "cuda")


def bytes_of_slot(config: RecallConfig) -> tuple[int, int]:
    """Bytes of a slot on the device and, beside it, on the host."""
    device = host = 0
    for named in layout(config).values():
        for name, form in named.items():
            size = (form.rows or 0) * form.columns * form.dtype.itemsize
            device, host = (device + size, host) if name in HEAVY else (device, host + size)
    return device, host


def _stack(count: int, rows: int, columns: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    """(count, rows, columns) zeros, each of the `count` aligned as a tensor of its own would be."""
    unit = ALIGNED // dtype.itemsize
    stride = -(-rows * columns // unit) * unit
    return zeros(count, stride, dtype=dtype, device=device).as_strided((count, rows, columns), (stride, columns, 1))


def _clear(state: State) -> None:
    """Zero in every row that something was written to, and no answers."""
    for level, name, tensor in filled(state.levels):
        if state.berth is not None and name in state.berth.stacks[level]:
            tensor.zero_()
        else:
            state.levels[level][name] = tensor[:0].clone()
    state.clock, state.watermark = Clock(), 0
