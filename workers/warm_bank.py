"""A warm bank: one bank in memory, with what is kept beside its state so that an answer needs no database.

It stays the same object wherever its state lies: in a slot on the device, in memory of its own, or packed on the host.
"""

import asyncio
import sys
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar

from model import Parcel
from model.tiers import Tier
from service.store.appending import Tail
from service.store.rows import BankRow, SupportRow
from workers.view import View

Name = TypeVar("Name")
Value = TypeVar("Value")

TEXTS = 4_096  # response texts kept beside a warm bank
SUPPORTS = 8 * 2**20  # bytes of corrections kept beside a warm bank, the newest of each of some responses
ROW = 256  # bytes of a correction there, beside its key and its text
BESIDE = 8_192  # bytes of a bank's rows and objects, whatever it has learned
ENTRY = 224  # bytes of a response in the code book's index


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
        self._rows: OrderedDict[int, list[SupportRow]] = OrderedDict()  # least recently used first
        self._bytes = 0
        self.changes = 0

    def recent(self, response: int) -> list[SupportRow] | None:
        """The rows, None if they are not here."""
        if response in self._rows:
            self._rows.move_to_end(response)
        return self._rows.get(response)

    def keep(self, response: int, rows: list[SupportRow], changes: int) -> None:
        """Keep rows that were read when there had been so many `changes`."""
        if changes == self.changes:
            self._put(response, rows)

    def add(self, response: int, row: SupportRow, most: int, *, alone: bool) -> None:
        """A correction that says `response` came, the newest of `most` to keep; `alone`: there is no other. Else those must be here."""
        self.changes += 1
        known = [] if alone else self._rows.get(response)
        if known is not None:
            self._put(response, [row, *known][:most])

    def clear(self) -> None:
        """Other corrections support the answers now."""
        self.changes += 1
        self._rows.clear()
        self._bytes = 0

    def _put(self, response: int, rows: list[SupportRow]) -> None:
        self._bytes += _bytes(rows) - _bytes(self._rows.pop(response, []))
        self._rows[response] = rows
        while self._bytes > SUPPORTS:
            self._bytes -= _bytes(self._rows.popitem(last=False)[1])


@dataclass(slots=True)
class Pages:
    """The newest corrections of each response as the ledger has them, whatever a view holds of them: for views that are compared.

    `below`: a position above those of all these views.
    """

    below: int
    rows: dict[int, list[SupportRow]] = field(default_factory=dict)


def _bytes(rows: list[SupportRow]) -> int:
    return sum(ROW + len(row.embedding) + len(row.input) for row in rows)


@dataclass(slots=True, eq=False)
class WarmBank:
    """One bank in memory. Its view may be asked and changed by whoever was given it, until that one leaves it (`workers/warm.py`)."""

    row: BankRow  # as it was acquired: id, tenant, epoch
    head_version: int
    view: View
    saved_seq: int  # the newest position that a snapshot covers
    base_snapshot: str  # where the load began, for the log and the tests
    texts: Kept[int, str] = field(default_factory=lambda: Kept(TEXTS))
    supports: Supports = field(default_factory=Supports)
    pages: Pages | None = None  # of who compares it with another view of the bank
    users: int = 0  # who was given it and has not left
    ready: bool = True  # whether its view can be used once `arriving` has ended; if not, it is packed
    arriving: "asyncio.Future[None] | None" = None  # its way to where it can be used
    packed: int = 0  # bytes of its parcel, when it was measured last
    measured: tuple[int, int, int] = (-1, 0, 0)  # and its extent then
    place: int | Parcel | None = None  # its slot, its parcel, or None: a state of its own. Only the model thread looks there
    tail: Tail = field(default=None)  # type: ignore[assignment]  # where its ledger ends; as the row has it unless given

    def __post_init__(self) -> None:
        """A bank that was read just now ends where its row says."""
        self.tail = self.tail or Tail.of(self.row)

    @property
    def tier(self) -> Tier:
        """Where it is, or is going."""
        return Tier.DEVICE if self.ready else Tier.HOST

    @property
    def stand(self) -> tuple[int, int, Tail]:
        """Epoch, head's version and end of its ledger, as its owner believes: with the same, its ledger has the same rows."""
        return self.row.epoch, self.head_version, self.tail

    @property
    def extent(self) -> tuple[int, int, int]:
        """What its bytes depend on: what it has learned, what was forgotten, what it has said."""
        return self.view.seq, self.row.epoch, len(self.texts)

    def beside(self) -> int:
        """The bytes that it takes on the host beside its parcel. The supports are left behind when it goes there."""
        view = self.view
        told = sum(sys.getsizeof(text) for text in self.texts.values()) + ENTRY * len(view.book) + view.book.nbytes
        admitted = view.counts.nbytes + sum(keys.nbytes for keys in view.forgotten.values()) + sys.getsizeof(view.gone)
        return BESIDE + told + admitted
