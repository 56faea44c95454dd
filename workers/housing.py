"""Housing: where each warm bank is, by budgets of bytes, and who keeps it there.

The event loop decides (`model/tiers.py`), the model thread moves (`workers/slotting.py`). What holds them together:

- Who uses a bank is counted, and a bank that is used keeps its place. One that is replaced or dropped meanwhile is no longer found, but
  its slot is given back only when the last of them has left.
- What was decided is handed to the model thread at once. It works in order, so reads and lessons that were handed over before a bank
  moves are done before; those that come later wait until the bank has arrived.
- Where everything on the device is in use, a bank has a state outside the slots as long as it is used itself. Room is never an error.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import ParamSpec

import structlog

from model import Parcel, Recall
from model.tiers import Moves, NoRoom, Tier, Tiers
from service.telemetry import places
from workers.slotting import Slotting
from workers.threads import OwnThread
from workers.warm_bank import WarmBank

P = ParamSpec("P")
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Room:
    """Bytes for warm banks on the device and on the host, and the part of each that a tenant may have while others want it."""

    device_bytes: int
    host_bytes: int
    tenant_share: float


class Housing:
    """The banks in memory. For the event loop; what it decides is carried out on `thread`."""

    def __init__(self, recall: Recall, thread: OwnThread, room: Room) -> None:
        self._thread, self.slotting = thread, Slotting(recall, room.device_bytes)
        self._tiers: Tiers[WarmBank] = Tiers(room.device_bytes, room.host_bytes, share=room.tenant_share)
        self._outside: dict[str, WarmBank] = {}  # in use, and no room on the device

    def __len__(self) -> int:
        return len(self._tiers) + len(self._outside)

    def bytes(self, tier: Tier) -> int:
        """What the banks of a tier take."""
        outside = len(self._outside) * self.slotting.bytes if tier is Tier.DEVICE else 0
        return self._tiers.bytes(tier) + outside

    def peek(self, bank_id: str) -> WarmBank | None:
        """The bank if it is warm; its view may be packed."""
        return self._tiers.peek(bank_id) or self._outside.get(bank_id)

    def all(self) -> list[WarmBank]:
        """The warm banks, in each tier the least recently used first."""
        return [*self._tiers.values(), *self._outside.values()]

    def enter(self, warm: WarmBank) -> None:
        """Somebody uses the bank from now on: it keeps its place until as many have left it."""
        warm.users += 1
        if self._tiers.peek(warm.row.id) is warm:
            self._tiers.get(warm.row.id)
            if warm.users == 1:
                self._tiers.pin(warm.row.id)

    def leave(self, warm: WarmBank) -> None:
        """Somebody does not use the bank any more."""
        warm.users -= 1
        if warm.users or self._thread.closed:
            return
        bank_id = warm.row.id
        if self._tiers.peek(bank_id) is warm:
            self._tiers.unpin(bank_id)
            if warm.ready and warm.measured != warm.extent:
                self._tiers.resize(bank_id, self._measured(warm))
            self._settle(warm)
        elif self._outside.get(bank_id) is warm:
            del self._outside[bank_id]
            self.arrive(warm)
        else:  # it was replaced or dropped
            self._thread.hand_over(self.slotting.give_up, warm)
            for other in self._tiers.values():
                self._settle(other)

    async def in_place(self, warm: WarmBank) -> None:
        """Bring a bank that is in use to where its view can be used."""
        if not warm.ready:
            self._lift(warm)
        if warm.arriving is not None:
            await asyncio.shield(warm.arriving)  # a caller that leaves stops nobody's move

    def arrive(self, warm: WarmBank) -> None:
        """Take in a bank that has a state of its own."""
        row = warm.row
        try:
            moves = self._tiers.put(row.tenant, row.id, warm, device_bytes=self.slotting.bytes, host_bytes=self._measured(warm))
        except NoRoom:
            if warm.users:
                self._outside[row.id] = warm
            else:
                self.keep(warm)
            return
        if warm.users:
            self._tiers.pin(row.id)
        self._carry_out(moves, warm)

    def keep(self, warm: WarmBank) -> None:
        """Take in a bank on the host, where nobody uses it."""
        row = warm.row
        self._carry_out(self._tiers.keep(row.tenant, row.id, warm, device_bytes=self.slotting.bytes, host_bytes=self._measured(warm)))

    def replace(self, warm: WarmBank) -> None:
        """From now on the bank is this, whose state is its own; it is where the old one was. The caller holds the lock."""
        on_host = self._tiers.where(warm.row.id) is Tier.HOST
        self.drop(warm.row.id)
        if on_host:
            self.keep(warm)
        else:
            self.arrive(warm)

    def resized(self, warm: WarmBank) -> None:
        """What is kept of the bank was changed by somebody who need not have its state."""
        if self._tiers.peek(warm.row.id) is warm:
            self._carry_out(self._tiers.resize(warm.row.id, warm.packed + warm.beside()))

    def drop(self, bank_id: str) -> None:
        """Forget what is in memory; the next use folds the ledger again."""
        warm = self._tiers.drop(bank_id) or self._outside.pop(bank_id, None)
        if warm is not None and not warm.users and not self._thread.closed:
            self._thread.hand_over(self.slotting.give_up, warm)

    # --- inside

    def _lift(self, warm: WarmBank) -> None:
        warm.ready = True
        if self._tiers.peek(warm.row.id) is warm:
            try:
                self._carry_out(self._tiers.lift(warm.row.id))
                return
            except NoRoom:
                self._tiers.drop(warm.row.id)
                self._outside[warm.row.id] = warm
        self._move([warm], self.slotting.stand, warm)  # also where it was dropped since it was found

    def _settle(self, warm: WarmBank) -> None:
        """Give the bank a slot if there was none when it came, unless it is in use: whoever leaves it does so then."""
        if warm.ready and not warm.users and (warm.place is None or warm.arriving is not None):
            self._move([warm], self.slotting.settle, warm)

    def _measured(self, warm: WarmBank) -> int:
        """The bytes that the bank takes on the host, or would take."""
        if warm.ready and warm.arriving is None:  # nobody else looks at its state now
            warm.packed = Parcel.size_of(warm.view.state, pinned=self.slotting.pinned)
            warm.measured = warm.extent
        return warm.packed + warm.beside()

    def _carry_out(self, moves: Moves[WarmBank], *arrived: WarmBank) -> None:
        for name in [name for name, warm in moves.dropped.items() if warm.users]:
            del moves.dropped[name]  # it has outgrown the host while somebody comes to use it: as if it had been replaced
        for warm in moves.lowered.values():
            warm.ready = False
            warm.supports.clear()  # these rows may be more than all else of it, and are one look into the ledger
        if moves or arrived:
            self._move([*moves.lowered.values(), *moves.lifted.values(), *arrived], self.slotting.carry_out, moves, arrived)

    def _move(self, moved: Sequence[WarmBank], work: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Have the model thread move banks, after all that it was told before."""
        future = asyncio.wrap_future(self._thread.hand_over(work, *args, **kwargs))
        for warm in moved:
            warm.arriving = future if warm.ready else None
        future.add_done_callback(partial(self._moved, moved))

    def _moved(self, moved: Sequence[WarmBank], future: "asyncio.Future[None]") -> None:
        error = None if future.cancelled() else future.exception()
        if error is None:
            for warm in moved:
                warm.arriving = None if warm.arriving is future else warm.arriving
            return
        log.error(
            "banks not moved", action="move", banks=[warm.row.id for warm in moved], error=type(error).__qualname__, places=places(error)
        )
        for warm in moved:  # whoever waits for one of them is told; the next use loads it
            if self.peek(warm.row.id) is warm:
                self.drop(warm.row.id)
