"""What admins say: banks, keys, memory, snapshots, forgetting, jobs, health, problems."""

from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta

from service.wire.language import Language
from service.wire.parts import (
    Id,
    JobKind,
    JobStatus,
    Name,
    Note,
    Reply,
    Request,
    Scope,
    SnapshotKind,
    StateRef,
)


class NewBank(Request, frozen=True, kw_only=True):
    """Create a bank: one weight lineage."""

    name: Name


class Bank(Reply, frozen=True, kw_only=True):
    """A bank. `etag` names its head and is what `If-Match` takes; `branch_of` is the bank that it is a branch of."""

    id: str
    name: str
    seq: int
    head: str
    etag: str
    encoder_digest: str
    config_hash: str
    created_at: datetime
    branch_of: str | None = None


class NewKey(Request, frozen=True, kw_only=True):
    """Mint a key; `banks` pins it to bank ids, `rate` lets it make so many requests a second."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=16)]
    banks: Annotated[list[Id], Meta(min_length=1, max_length=100)] | None = None
    expires_at: Annotated[datetime, Meta(tz=True)] | None = None
    rate: Annotated[float, Meta(gt=0, le=1_000_000)] | None = None


class Key(Reply, frozen=True, kw_only=True):
    """A key without its secret."""

    id: str
    name: str
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rate: float | None


class MintedKey(Reply, frozen=True, kw_only=True):
    """A new key; `key` is shown this once, and null when the reply is repeated for an Idempotency-Key."""

    id: str
    key: str | None
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    expires_at: datetime | None
    rate: float | None


class WhoAmI(Reply, frozen=True, kw_only=True):
    """The tenant and the rights of the key that asks."""

    tenant: str
    key_id: str
    scopes: list[str]
    banks: list[str] | None


class Level(Reply, frozen=True, kw_only=True):
    """One level: how often it changes, how large it is, and the digest of its weights."""

    name: str
    period_tokens: int | None
    bytes: int
    norm: float
    digest: str


class Memory(Reply, frozen=True, kw_only=True):
    """Summary of a bank's learned state. `digest` covers weights, clocks and counters at `state.seq`; not ids, names or seq numbers."""

    bank: str
    digest: str
    state: StateRef
    levels: list[Level]
    clock_tokens: int
    events: int
    corrections: int
    responses: int
    forgotten: int
    rebuild_pending: bool
    bytes: int
    config_hash: str
    encoder_digest: str
    language: Language | None = None  # null in a bank that no conversation was learned in


class NewSnapshot(Request, frozen=True, kw_only=True):
    """Take a snapshot of the bank as it is now."""

    bank: Name | None = None
    label: Name | None = None
    note: Note | None = None
    pin: bool = False


class LevelBlob(Reply, frozen=True, kw_only=True):
    """Where a level of a snapshot is stored: its content address."""

    name: str
    sha256: str
    bytes: int


class Snapshot(Reply, frozen=True, kw_only=True):
    """An immutable saved state; `seq` is the ledger position it covers, `corrections` how many events are in its weights."""

    id: str
    parent: str | None
    kind: SnapshotKind
    seq: int
    corrections: int
    digest: str
    levels: list[LevelBlob]
    label: str | None
    note: str | None
    pinned: bool
    tainted_by: list[str]
    config_hash: str
    is_head: bool
    created_by: str
    created_at: datetime


class NewConsolidation(Request, frozen=True, kw_only=True):
    """Start a consolidation of a bank; a queued one is reused."""

    bank: Name | None = None


class JobStarted(Reply, frozen=True, kw_only=True):
    """A job was queued, or an equal queued one found."""

    job_id: str
    deduplicated: bool = False


class Job(Reply, frozen=True, kw_only=True):
    """A job: progress in 0..1, result or error when it ended."""

    id: str
    kind: JobKind
    bank: str | None
    status: JobStatus
    progress: float
    attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None


class Component(Reply, frozen=True, kw_only=True):
    """Health of one part."""

    name: str
    ok: bool
    detail: str = ""


class Health(Reply, frozen=True, kw_only=True):
    """Readiness and its parts."""

    ready: bool
    components: list[Component]


class Problem(Reply, frozen=True, kw_only=True):
    """RFC 9457 problem details with our stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[dict[str, str]]
