"""Slotting: carries out on the model thread what was decided about warm banks, between slots, parcels and memory of their own.

Whoever decides hands the work over at once, and the thread works in that order: so what was handed over for a bank before it moves meets
it where it was, and what comes afterwards where it is. A state has no slot where none is free, as for the moment in which a bank that was
replaced is still being read.
"""

from collections.abc import Iterable

import torch

from model import Parcel, Recall, Slots, State
from model.levels import Clock
from model.slots import bytes_of_slot
from model.tiers import Moves
from workers.warm_bank import WarmBank

ROOM = 2**30  # bytes for slots on a CPU, unless the settings say how many
FREE_SHARE = 0.7  # on an accelerator: of what is free there; the rest is for folds, copies and kernels
PACKED = State("none: it was packed", {}, Clock(), 0)  # what the view of a packed bank has: of no use, loudly


class Slotting:
    """Slots for `room` bytes on the memory's device. All but `bytes` and `pinned` is for the model thread."""

    def __init__(self, recall: Recall, room: int) -> None:
        self.bytes = bytes_on_device(recall)  # of a slot
        self.pinned = recall.device.type == "cuda"
        self._recall, self.slots = recall, Slots(recall.config, room // self.bytes, recall.device)

    def carry_out(self, moves: Moves[WarmBank], arrived: Iterable[WarmBank]) -> None:
        """Take out what leaves, then take in what was lifted, and what has `arrived` with a state of its own."""
        for warm in moves.dropped.values():
            self.give_up(warm)
        for warm in moves.lowered.values():
            self.pack(warm)
        for warm in (*moves.lifted.values(), *arrived):
            self.settle(warm)

    def settle(self, warm: WarmBank) -> None:
        """Give the bank a slot; a state of its own where none is free."""
        if isinstance(warm.place, int):
            return
        if not self.slots.free:
            self.stand(warm)
            return
        slot = self.slots.take()
        try:
            state = self.slots.load(slot, warm.view.state if warm.place is None else warm.place)
        except BaseException:
            self.slots.give_back(slot)
            raise
        warm.view.state, warm.place = state, slot

    def stand(self, warm: WarmBank) -> None:
        """Unpack the bank outside the slots."""
        if isinstance(warm.place, Parcel):
            warm.view.state = self._recall.brought(warm.place.state(self._recall.config))
            warm.place = None

    def pack(self, warm: WarmBank) -> None:
        """Keep the bank's state as a parcel on the host; its view cannot be used."""
        if isinstance(warm.place, Parcel):
            return
        parcel = Parcel.of(warm.view.state, pinned=self.pinned)
        self.give_up(warm)
        warm.view.state, warm.place = PACKED, parcel

    def give_up(self, warm: WarmBank) -> None:
        """Nobody uses the bank any more: its slot is free."""
        if isinstance(warm.place, int):
            self.slots.give_back(warm.place)
        warm.place = None


def bytes_on_device(recall: Recall) -> int:
    """What a slot takes of the memory that is counted: of the device's, which on a CPU is also that of its bookkeeping."""
    device, host = bytes_of_slot(recall.config)
    return device + host if recall.device.type == "cpu" else device


def room_on(device: torch.device) -> int:
    """Bytes for slots on a device where the settings do not say how many."""
    if device.type == "cpu":
        return ROOM
    free, _ = torch.cuda.mem_get_info(device)
    return int(FREE_SHARE * free)
