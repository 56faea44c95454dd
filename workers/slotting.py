"""Where the states of warm banks lie: in a slot, or in a parcel on the host, as `model.tiers` decides.

Decisions are made on the event loop, at once; the model thread carries them out in their order, since it alone touches states. So a slot
that one move gives back is free for the next, and a parcel is packed before it is unpacked.

S1  A bank that is used (`enter` to `leave`) stays where it is.
S2  A bank that was replaced or dropped keeps its slot until its last user has left; new users get the other one.
S3  Nobody waits for a slot. A bank that finds none, since all are used, is served outside the slots, from a state of its own; it
    counts in no tier and is gone when its last user has left. There are never more of them than requests in flight.
S4  Nothing is written when a bank leaves: the ledger has everything.
"""

import asyncio
import contextlib
from dataclasses import dataclass

import structlog

from model import Parcel, Recall, Slots
from model.slots import bytes_of_slot
from model.tiers import Moves, NoRoom, Tier, Tiers
from workers.threads import OwnThread
from workers.warm_bank import WarmBank

SPARE = 4  # slots above the budget, for banks that take the place of one that is still used (S2)
COLD = "cold"
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Budget:
    """What warm banks may take; see `service.settings` for the meaning of each."""

    warm_bytes: int
    host_bytes: int
    tenant_share: float


class Slotting:
    """The warm banks of a process and where they are. Its methods belong to the event loop."""

    def __init__(self, recall: Recall, thread: OwnThread, budget: Budget) -> None:
        self._recall, self._thread, self._slot_bytes = recall, thread, sum(bytes_of_slot(recall.config))
        self.size = max(1, budget.warm_bytes // self._slot_bytes)  # banks on the device
        self._slots = Slots(recall.config, self.size + SPARE, recall.device)
        self._free = self._slots.count  # when all that was decided is carried out
        self._tiers = Tiers[WarmBank](self.size * self._slot_bytes, budget.host_bytes, share=budget.tenant_share)
        self._outside: dict[str, WarmBank] = {}  # S3

    def __len__(self) -> int:
        return len(self._tiers) + len(self._outside)

    def bytes(self, tier: Tier) -> int:
        """What the banks on a tier take."""
        return self._tiers.bytes(tier)

    def all(self) -> list[WarmBank]:
        """The warm banks; in each tier the one that was used longest ago first."""
        return [*self._tiers.values(), *self._outside.values()]

    def peek(self, bank_id: str) -> WarmBank | None:
        """The bank if it is warm; now the most recently used where it is."""
        return self._tiers.get(bank_id) or self._outside.get(bank_id)

    def enter(self, warm: WarmBank) -> None:
        """One more uses the bank (S1), until as many `leave`."""
        warm.users += 1
        if warm.users == 1 and self._is_kept(warm):
            self._tiers.pin(warm.row.id)

    def leave(self, warm: WarmBank) -> None:
        """One less uses the bank."""
        warm.users -= 1
        if warm.users:
            return
        if self._is_kept(warm):
            self._tiers.unpin(warm.row.id)
            return
        if self._outside.get(warm.row.id) is warm:
            del self._outside[warm.row.id]
        self._release(warm)

    async def place(self, warm: WarmBank) -> bool:
        """Keep a bank whose state is its own from now on, instead of the one of that name. The caller uses it already.

        False, and the bank is not warm, if there is no memory for its state.
        """
        self.drop(warm.row.id)
        try:
            size = self._parcel_bytes(warm)
            moves = self._tiers.put(warm.row.tenant, warm.row.id, warm, device_bytes=self._slot_bytes, host_bytes=size)
            self._tiers.pin(warm.row.id)
        except NoRoom:
            moves = Moves()
        return await self._arrive(warm, moves)

    async def lift(self, warm: WarmBank) -> bool:
        """Make a warm bank ready that is on the host. The caller uses it already. False as for `place`."""
        try:
            moves = self._tiers.lift(warm.row.id)
        except NoRoom:
            moves = Moves()
            self._tiers.drop(warm.row.id)  # its parcel is unpacked: what is learned outside the slots must not be lost to it
        return await self._arrive(warm, moves)

    def measure(self, warm: WarmBank) -> None:
        """The bank has learned: see what it would take on the host. The caller uses it, and nobody changes it."""
        if warm.ready and self._is_kept(warm):
            size = self._parcel_bytes(warm)
            self._tiers.put(warm.row.tenant, warm.row.id, warm, device_bytes=self._slot_bytes, host_bytes=size)  # where it is already

    def drop(self, bank_id: str) -> None:
        """Forget the bank, used or not: it is no longer what the ledger says (S2)."""
        warm = self._tiers.drop(bank_id) or self._outside.pop(bank_id, None)
        if warm is not None and not warm.users:
            self._release(warm)

    # --- inside

    def _is_kept(self, warm: WarmBank) -> bool:
        return self._tiers.peek(warm.row.id) is warm

    def _parcel_bytes(self, warm: WarmBank) -> int:
        return Parcel.size_of(warm.view.state, pinned=self._slots.device.type == "cuda")

    def _release(self, warm: WarmBank) -> None:
        """Give back the slot of a bank that nobody uses, if it has one."""
        has_slot, warm.ready = warm.ready and warm.slot is not None, False
        if has_slot:
            self._free += 1
            with contextlib.suppress(RuntimeError):  # at the service's end all slots go at once
                self._thread.hand_over(self._vacate, warm)

    async def _arrive(self, warm: WarmBank, moves: Moves[WarmBank]) -> bool:
        """Carry out the moves and make the bank ready: in a slot if it is on the device and one is free, else outside."""
        lowered, dropped = list(moves.lowered.values()), [bank for bank in moves.dropped.values() if bank.ready]
        for bank in (*lowered, *dropped):
            bank.ready = False
        self._free += len(lowered) + len(dropped)
        slotted = self._is_kept(warm) and self._free > 0
        if slotted:
            self._free -= 1
        else:
            self._tiers.drop(warm.row.id)
            self._outside[warm.row.id] = warm
        try:
            await _to_its_end(asyncio.wrap_future(self._thread.hand_over(self._carry, lowered, dropped, warm, slotted)))
        except BaseException as error:
            if isinstance(error, asyncio.CancelledError) and (warm.slot is not None) == slotted:
                warm.ready = True  # who wanted it has left; it was carried out all the same
                raise
            self._free += slotted
            if self.peek(warm.row.id) is warm:
                self.drop(warm.row.id)
            if isinstance(error, RuntimeError | ValueError):
                log.error("bank not placed", action="place", bank=warm.row.id, error=type(error).__qualname__)
                return False
            raise
        warm.ready = True
        return True

    # --- on the model thread

    def _carry(self, lowered: list[WarmBank], dropped: list[WarmBank], warm: WarmBank, slotted: bool) -> None:
        for bank in lowered:
            self._pack(bank)
        for bank in (*lowered, *dropped):
            self._vacate(bank)
        held = warm.parcel or warm.view.state
        if slotted:
            slot = self._slots.take()
            try:
                warm.view.state = self._slots.load(slot, held)
            except BaseException:
                self._slots.give_back(slot)
                raise
            warm.slot = slot
        elif isinstance(held, Parcel):
            state = held.state(self._recall.config)
            warm.view.state = state if self._recall.device.type == "cpu" else state.to(self._recall.device)
        warm.parcel = None

    def _pack(self, bank: WarmBank) -> None:
        if bank.slot is None:
            raise AssertionError(f"bank {bank.row.id} is lowered and has no slot")
        try:
            bank.parcel = self._slots.pack(bank.slot)
        except RuntimeError as error:  # no memory: it cannot be lifted again, and is loaded anew
            log.error("bank not packed", action="pack", bank=bank.row.id, error=type(error).__qualname__)

    def _vacate(self, bank: WarmBank) -> None:
        slot, bank.slot = bank.slot, None
        if slot is not None:
            self._slots.give_back(slot)


async def _to_its_end(work: asyncio.Future[None]) -> None:
    """Wait for work that has begun even when the waiting one is cancelled; it is cancelled afterwards."""
    cancelled = False
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            cancelled = True
    await work
    if cancelled:
        raise asyncio.CancelledError
