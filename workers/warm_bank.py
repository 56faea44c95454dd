"""A warm bank: what a process keeps in memory of one bank, and the small caches beside it."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from model import Parcel
from service.store.rows import BankRow, SupportRow
from workers.view import View

Name = TypeVar("Name")
Value = TypeVar("Value")

TEXTS = 4_096  # response texts kept beside a warm bank
SUPPORTS = 128  # responses whose newest corrections are kept beside a warm bank


class Kept(OrderedDict[Name, Value]):
    """A small cache that forgets what was used longest ago."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def recent(self, name: Name) -> Value | None:
        """The value, now the most recently used; None if it is not here."""
        if name not in self:
            return None
        self.move_to_end(name)
        return self[name]

    def keep(self, name: Name, value: Value) -> None:
        """Keep the value; the least recently used goes when there are too many."""
        self[name] = value
        self.move_to_end(name)
        while len(self) > self.size:
            self.popitem(last=False)


class Supports:
    """The newest corrections that say a response, for some responses. Rows that were read before a change are not kept after it."""

    def __init__(self) -> None:
        self._rows: Kept[int, list[SupportRow]] = Kept(SUPPORTS)
        self.changes = 0

    def recent(self, response: int) -> list[SupportRow] | None:
        """The rows, None if they are not here."""
        return self._rows.recent(response)

    def keep(self, response: int, rows: list[SupportRow], changes: int) -> None:
        """Keep rows that were read when there had been so many `changes`."""
        if changes == self.changes:
            self._rows.keep(response, rows)

    def drop(self, response: int) -> None:
        """A correction that says `response` came or went."""
        self.changes += 1
        self._rows.pop(response, None)

    def clear(self) -> None:
        """Other corrections support the answers now."""
        self.changes += 1
        self._rows.clear()


@dataclass(slots=True, eq=False)
class WarmBank:
    """One bank in memory. Its view is the same as long as it lives; a bank that gets another view becomes another `WarmBank`.

    Where the view's state lies is the business of `workers.slotting` alone: `ready` and `users` belong to the event loop, `slot`, `parcel`
    and the state to the model thread. The state may be touched by those only who use the bank (`WarmBanks.using`, `WarmBanks.lock`).
    """

    row: BankRow  # as it was acquired: id, tenant, epoch
    head_version: int
    view: View
    saved_seq: int  # the newest position that a snapshot covers
    base_snapshot: str  # where the load began, for the log and the tests
    texts: Kept[int, str] = field(default_factory=lambda: Kept(TEXTS))
    supports: Supports = field(default_factory=Supports)
    ready: bool = False  # whether the state is where a question can be answered
    users: int = 0
    slot: int | None = None
    parcel: Parcel | None = None  # the state of a bank that is on the host
