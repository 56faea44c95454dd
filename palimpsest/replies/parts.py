"""What several replies share."""

from typing import Generic, TypeVar

from msgspec import Struct

Item = TypeVar("Item")


class Reply(Struct, frozen=True, kw_only=True):
    """What every reply shares: it cannot be changed, and fields that are not known are passed over."""


class StateRef(Reply, frozen=True, kw_only=True):
    """Which state of a bank answered: its head and the last ledger position in it."""

    snapshot_id: str
    seq: int


class Usage(Reply, frozen=True, kw_only=True):
    """What a call cost."""

    cpu_ms: float = 0.0
    tokens_in: int = 0
    updates: int = 0
    level_writes: int = 0


class Said(Reply, frozen=True, kw_only=True):
    """What the memory says: a remembered answer, or None when it abstains."""

    value: str | None
    confidence: float


class Page(Reply, Generic[Item], frozen=True, kw_only=True):
    """One page of a list; None as cursor ends it."""

    items: list[Item]
    next_cursor: str | None = None
