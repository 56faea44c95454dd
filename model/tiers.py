"""Which banks are warm, and where: on the device, on the host, or nowhere, by budgets of bytes.

    device ──lowered──▶ host ──dropped──▶ (snapshot and ledger)
       ◀────lifted────

Nothing has to be written when a bank leaves: the ledger has everything. This is the bookkeeping only: it decides, and says in `Moves` what
has changed; the caller then copies (`Slots.pack`, `Slots.load`), in the order of `Moves`, before it uses any bank that was moved. Values
are whatever the caller keeps for a bank; they are never looked into.

T1  The bytes of the banks on a tier are never above its budget.
T2  A pinned bank is neither lowered nor dropped for another one.
T3  In each tier the bank goes that was used, or came, longest ago; but first one of a tenant that has more than its share.
T4  A tenant that has more than its share takes no place from one that has not. A tenant's only bank on a tier is never too much, and
    where there is room for all, nobody's share is asked for.

Not safe for several threads: whoever asks owns it, the event loop as well as a model thread. Nothing here waits or takes long.
"""

from collections import Counter, OrderedDict
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Tier(StrEnum):
    """Where a warm bank is."""

    DEVICE = "device"
    HOST = "host"


class NoRoom(RuntimeError):
    """A bank is too large for the device, or what may leave it for this bank is too little. Nothing has changed."""


@dataclass(frozen=True, slots=True)
class Moves(Generic[Value]):
    """What has changed its place, with its value, to be carried out in this order. False if nothing has."""

    dropped: dict[str, Value] = field(default_factory=dict)  # from either tier: what it took there is free
    lowered: dict[str, Value] = field(default_factory=dict)  # from the device to the host
    lifted: dict[str, Value] = field(default_factory=dict)  # from the host to the device

    def __bool__(self) -> bool:
        return bool(self.dropped or self.lowered or self.lifted)


@dataclass(slots=True)
class _Bank(Generic[Value]):
    tenant: str
    value: Value
    bytes: dict[Tier, int]  # what it takes on each tier
    pins: int = 0


class _Shelf(Generic[Value]):
    """The banks on one tier, in the order in which they were used."""

    def __init__(self, tier: Tier, budget: int, share: float) -> None:
        self._tier, self._budget, self._cap = tier, budget, share * budget
        self.banks: OrderedDict[str, _Bank[Value]] = OrderedDict()
        self.bytes = 0
        self._bytes_of: Counter[str] = Counter()  # by tenant
        self._count_of: Counter[str] = Counter()

    def add(self, name: str, bank: _Bank[Value]) -> None:
        self.banks[name] = bank
        self._tally(bank, 1)

    def remove(self, name: str) -> _Bank[Value]:
        bank = self.banks.pop(name)
        self._tally(bank, -1)
        return bank

    def make_room(self, newcomer: _Bank[Value]) -> dict[str, _Bank[Value]]:
        """Take out the banks that have to leave for another one, in their order.

        Raises:
            NoRoom: too little may leave. Nothing has changed.
        """
        leaving: dict[str, _Bank[Value]] = {}
        order = list(self.banks)
        while self.bytes + newcomer.bytes[self._tier] > self._budget:
            name = self._first(newcomer)
            if name is None:
                for gone, bank in leaving.items():
                    self.add(gone, bank)
                for known in order:
                    self.banks.move_to_end(known)
                raise NoRoom(f"{newcomer.bytes[self._tier]} bytes find no room on the {self._tier}")
            leaving[name] = self.remove(name)
        return leaving

    def _first(self, newcomer: _Bank[Value]) -> str | None:
        """The bank that has to leave first, if any may."""
        greedy = {tenant for tenant in self._count_of if self._has_too_much(tenant, newcomer)}
        loose = (name for name, bank in self.banks.items() if not bank.pins and (not greedy or bank.tenant in greedy))
        found = next(loose, None)
        if found is None and newcomer.tenant not in greedy:  # what others have too much of is pinned
            found = next((name for name, bank in self.banks.items() if not bank.pins), None)
        return found

    def _has_too_much(self, tenant: str, newcomer: _Bank[Value]) -> bool:
        own = newcomer.tenant == tenant
        size = self._bytes_of[tenant] + own * newcomer.bytes[self._tier]
        return size > self._cap and self._count_of[tenant] + own > 1

    def _tally(self, bank: _Bank[Value], sign: int) -> None:
        size = sign * bank.bytes[self._tier]
        self.bytes += size
        self._bytes_of[bank.tenant] += size
        self._count_of[bank.tenant] += sign
        if not self._count_of[bank.tenant]:
            del self._bytes_of[bank.tenant], self._count_of[bank.tenant]


class Tiers(Generic[Value]):
    """The warm banks, within `device_bytes` and `host_bytes`. `share` of a tier is what one tenant may have of it while others want it."""

    def __init__(self, device_bytes: int, host_bytes: int, *, share: float = 1.0) -> None:
        self._shelves = {
            Tier.DEVICE: _Shelf[Value](Tier.DEVICE, device_bytes, share),
            Tier.HOST: _Shelf[Value](Tier.HOST, host_bytes, share),
        }
        self._where: dict[str, Tier] = {}

    def __len__(self) -> int:
        return len(self._where)

    def where(self, bank: str) -> Tier | None:
        """The tier of a bank; None if it is not warm."""
        return self._where.get(bank)

    def bytes(self, tier: Tier) -> int:
        """What the banks on a tier take."""
        return self._shelves[tier].bytes

    def peek(self, bank: str) -> Value | None:
        """The value of a bank, wherever it is, without using it; None if it is not warm."""
        return None if bank not in self._where else self._at(bank).banks[bank].value

    def get(self, bank: str) -> Value | None:
        """The value of a bank, wherever it is, now the most recently used there; None if it is not warm."""
        if bank not in self._where:
            return None
        shelf = self._at(bank)
        shelf.banks.move_to_end(bank)
        return shelf.banks[bank].value

    def values(self) -> list[Value]:
        """The values of all warm banks: the host's, then the device's, in each the one that was used longest ago first."""
        return [bank.value for tier in (Tier.HOST, Tier.DEVICE) for bank in self._shelves[tier].banks.values()]

    def put(self, tenant: str, bank: str, value: Value, *, device_bytes: int, host_bytes: int) -> Moves[Value]:
        """A bank is on the device from now on, with what it takes there and would take on the host. One that was warm is replaced.

        Raises:
            NoRoom: see there. One that was warm stays as it was.
        """
        known = self._where.get(bank)
        old = self._shelves[known].banks[bank] if known else None
        new = _Bank(tenant, value, {Tier.DEVICE: device_bytes, Tier.HOST: host_bytes}, old.pins if old else 0)
        return self._arrive(bank, new)

    def keep(self, tenant: str, bank: str, value: Value, *, device_bytes: int, host_bytes: int) -> Moves[Value]:
        """A bank is on the host from now on, or dropped where that has no room for it. One that was warm is replaced."""
        self.drop(bank)
        self._where[bank] = Tier.HOST
        moves: Moves[Value] = Moves()
        self._lower(bank, _Bank(tenant, value, {Tier.DEVICE: device_bytes, Tier.HOST: host_bytes}), moves)
        return moves

    def resize(self, bank: str, host_bytes: int) -> Moves[Value]:
        """What a warm bank takes on the host, or would take there, is another now. If it is there it was used, and is dropped where it is
        too much.

        Raises:
            KeyError: it is not warm.
        """
        known, tier = self._at(bank).remove(bank), self._where[bank]
        known.bytes[Tier.HOST] = host_bytes
        moves: Moves[Value] = Moves()
        if tier is Tier.DEVICE:
            self._shelves[tier].add(bank, known)
        else:
            self._lower(bank, known, moves)
            moves.lowered.pop(bank, None)  # it has not moved
        return moves

    def lift(self, bank: str) -> Moves[Value]:
        """A warm bank is on the device from now on, the most recently used.

        Raises:
            KeyError: it is not warm.
            NoRoom: see there. The bank stays where it is.
        """
        known = self._at(bank).banks[bank]
        if self._where[bank] is Tier.DEVICE:
            self.get(bank)
            return Moves()
        moves = self._arrive(bank, known)
        return Moves(moves.dropped, moves.lowered, {bank: known.value})

    def pin(self, bank: str) -> None:
        """Keep a warm bank where it is, until as many `unpin`.

        Raises:
            KeyError: it is not warm.
        """
        self._at(bank).banks[bank].pins += 1

    def unpin(self, bank: str) -> None:
        """Take a pin back. A bank that was dropped since, and put again, has none."""
        if bank in self._where:
            held = self._at(bank).banks[bank]
            held.pins = max(0, held.pins - 1)

    def drop(self, bank: str) -> Value | None:
        """Forget a bank, pinned or not: it is no longer what the ledger says. Its value, None if it was not warm."""
        if bank not in self._where:
            return None
        value = self._at(bank).remove(bank).value
        del self._where[bank]
        return value

    def _at(self, bank: str) -> _Shelf[Value]:
        return self._shelves[self._where[bank]]

    def _arrive(self, name: str, bank: _Bank[Value]) -> Moves[Value]:
        """Bring a bank to the device; those that leave it go to the host as far as there is room."""
        device, before = self._shelves[Tier.DEVICE], self._where.get(name)
        old = self._at(name).remove(name) if before else None
        try:
            leaving = device.make_room(bank)
        except NoRoom:
            if before and old:
                self._shelves[before].add(name, old)  # as if just used: it was asked for
            raise
        device.add(name, bank)
        self._where[name] = Tier.DEVICE
        moves: Moves[Value] = Moves()
        for gone, each in leaving.items():
            self._lower(gone, each, moves)
        return moves

    def _lower(self, name: str, bank: _Bank[Value], moves: Moves[Value]) -> None:
        host = self._shelves[Tier.HOST]
        try:
            leaving = host.make_room(bank)
        except NoRoom:
            moves.dropped[name] = bank.value
            del self._where[name]
            return
        for gone, each in leaving.items():
            moves.dropped[gone] = each.value
            moves.lowered.pop(gone, None)  # came a moment ago: the host is small
            del self._where[gone]
        host.add(name, bank)
        moves.lowered[name] = bank.value
        self._where[name] = Tier.HOST
