"""What every request and reply shares: field types with their limits, and the parts that several replies carry."""

from typing import Annotated, Generic, Literal, TypeVar

from msgspec import Meta, Struct

Item = TypeVar("Item")

TEXT_MAX = 20_000  # characters; the encoder reads the first 256 tokens, the ledger keeps all
BATCH_MAX = 1_000

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_MAX)]
# in Name and Id: `$` alone would let a final newline through
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]
Note = Annotated[str, Meta(max_length=1_000)]
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:@-]+$(?!\n)")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
TopK = Annotated[int, Meta(ge=1, le=100)]

ForgetMode = Literal["suppress", "rebuild", "erase"]
JobKind = Literal["consolidation", "rebuild", "erase", "export", "bisection", "preparation"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "canceled"]
SnapshotKind = Literal["genesis", "manual", "auto", "consolidation", "pre_rollback", "rollback", "rebuild", "import"]
CorrectionStatus = Literal["active", "superseded", "rolled_back", "quarantined", "forgotten"]
ChangeKind = Literal[
    "correction.created",
    "snapshot.created",
    "consolidation.gate_failed",
    "consolidation.promoted",
    "rollback.done",
    "forget.completed",
]
Scope = Literal[
    "recall:read",
    "corrections:write",
    "memory:inspect",
    "snapshots:read",
    "snapshots:write",
    "rollback",
    "forget",
    "erase",
    "admin",
]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request body shares: unknown fields are refused."""


class Source(Request, frozen=True, kw_only=True):
    """All corrections of a bank that were taught in one session, or with one key: name one of the two."""

    session_id: Id | None = None
    key_id: Id | None = None


class Reply(Struct, frozen=True, kw_only=True):
    """What every reply shares."""


class StateRef(Reply, frozen=True, kw_only=True):
    """The state that answered: the head and the last ledger seq folded into it. Send it back as `Memory-Min-State` to read your writes."""

    snapshot_id: str
    seq: int


class Usage(Reply, frozen=True, kw_only=True):
    """What a call cost."""

    cpu_ms: float = 0.0
    tokens_in: int = 0
    updates: int = 0
    level_writes: int = 0


class Said(Reply, frozen=True, kw_only=True):
    """What the memory says: a remembered response, or none when it abstains."""

    value: str | None
    confidence: float


class Page(Reply, Generic[Item], frozen=True, kw_only=True):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[Item]
    next_cursor: str | None = None
