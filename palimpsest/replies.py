"""What the service answers, as values. Fields that a newer service adds are ignored; words that it may add to are plain `str`."""

from datetime import datetime
from typing import Any, Generic, TypeVar

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


class BeforeAfter(Reply, frozen=True, kw_only=True):
    """What the memory said to the taught input before and after the correction."""

    before: Said
    after: Said


class ParaphraseCheck(Reply, frozen=True, kw_only=True):
    """How many of the given paraphrases are answered right after the correction."""

    n: int
    fixed: int


class Receipt(Reply, frozen=True, kw_only=True):
    """The proof that a correction worked."""

    item: BeforeAfter
    paraphrase: ParaphraseCheck


class Taught(Reply, frozen=True, kw_only=True):
    """An acknowledged correction: durable, and in the weights."""

    id: str
    seq: int
    status: str
    receipt: Receipt
    state: StateRef
    usage: Usage


class TaughtBatch(Reply, frozen=True, kw_only=True):
    """Results of a batch, in order."""

    items: list[Taught]
    state: StateRef
    usage: Usage


class Answer(Reply, frozen=True, kw_only=True):
    """A remembered answer: `support` names the corrections it rests on, `level` the level that knew it, `why` explains on request."""

    value: str
    confidence: float
    support: list[str]
    level: str
    why: dict[str, Any] | None = None


class RecalledItem(Reply, frozen=True, kw_only=True):
    """Answers to one input, best first. When the memory abstains they are empty, or guesses if `min_confidence` was 0."""

    answers: list[Answer]
    abstained: bool

    @property
    def value(self) -> str | None:
        """The best answer; None when the memory abstains."""
        return None if self.abstained or not self.answers else self.answers[0].value


class Recalled(RecalledItem, frozen=True, kw_only=True):
    """Answers to one input, and the state that gave them."""

    id: str
    state: StateRef
    usage: Usage


class RecalledBatch(Reply, frozen=True, kw_only=True):
    """Results in the order of the inputs, all of one state."""

    id: str
    results: list[RecalledItem]
    state: StateRef
    usage: Usage


class Correction(Reply, frozen=True, kw_only=True):
    """A correction as the ledger holds it; texts are None once erased."""

    id: str
    seq: int
    status: str
    input: str | None
    right: str | None
    wrong: str | None
    session_id: str | None
    metadata: dict[str, Any]
    created_at: datetime


class EventRow(Reply, frozen=True, kw_only=True):
    """One row of the ledger with its place in the hash chain; texts are None once erased."""

    id: str
    seq: int
    kind: str
    epoch: int
    session_id: str | None
    input: str | None
    right: str | None
    wrong: str | None
    tokens: int
    prev_hash: str
    hash: str
    created_at: datetime
    redacted_at: datetime | None


class Warmth(Reply, frozen=True, kw_only=True):
    """Whether a bank was in memory, and how long its load took or when to try again."""

    warm: bool
    eta_ms: float


class SessionInfo(Reply, frozen=True, kw_only=True):
    """A session, open until `expires_at` unless it is used before then. `bank` is an id."""

    id: str
    bank: str
    created_at: datetime
    last_used_at: datetime
    expires_at: datetime


class OpenedSession(SessionInfo, frozen=True, kw_only=True):
    """A session that was just opened: where its bank stands, and whether it is in memory."""

    state: StateRef | None
    warm: bool
    eta_ms: float


class Bank(Reply, frozen=True, kw_only=True):
    """A bank; `etag` names its head."""

    id: str
    name: str
    seq: int
    head: str
    etag: str
    encoder_digest: str
    config_hash: str
    created_at: datetime


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


class MintedKey(Reply, frozen=True, kw_only=True):
    """A new key. `key` is its secret, told this once."""

    id: str
    key: str | None
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    expires_at: datetime | None


class WhoAmI(Reply, frozen=True, kw_only=True):
    """The tenant and the rights of the key that asks."""

    tenant: str
    key_id: str
    scopes: list[str]
    banks: list[str] | None


class Level(Reply, frozen=True, kw_only=True):
    """One level: how often it changes, how large it is, the digest of its weights."""

    name: str
    period_tokens: int | None
    bytes: int
    norm: float
    digest: str


class Memory(Reply, frozen=True, kw_only=True):
    """What a bank has learned, as a whole; `digest` covers all of it at `state.seq`."""

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


class LevelBlob(Reply, frozen=True, kw_only=True):
    """The content address of a snapshot's level."""

    name: str
    sha256: str
    bytes: int


class Snapshot(Reply, frozen=True, kw_only=True):
    """An immutable saved state; `tainted_by` names forgotten corrections that it still holds."""

    id: str
    parent: str | None
    kind: str
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


class Flip(Reply, frozen=True, kw_only=True):
    """A taught input whose answer differs between two states."""

    correction: str
    input: str
    before: Said
    after: Said


class RolledBack(Reply, frozen=True, kw_only=True):
    """The new head, the snapshot that undoes the rollback, and the answers that change. Ids are None in a dry run."""

    head: str | None
    pre_rollback: str | None
    flips: list[Flip]
    probes: int
    dry_run: bool
    state: StateRef


class Forgotten(Reply, frozen=True, kw_only=True):
    """A forget, effective already; `job_id` names the job that makes the weights exact (None for `suppress`)."""

    id: str
    effective_now: bool
    mode: str
    corrections: list[str]
    job_id: str | None


class JobStarted(Reply, frozen=True, kw_only=True):
    """A job was queued, or one like it found."""

    job_id: str
    deduplicated: bool = False


class Job(Reply, frozen=True, kw_only=True):
    """A job: progress from 0 to 1, result or error when it ended."""

    id: str
    kind: str
    bank: str | None
    status: str
    progress: float
    attempts: int
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ("succeeded", "failed", "canceled")


class AuditEntry(Reply, frozen=True, kw_only=True):
    """Who changed what in which request."""

    id: str
    actor: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    created_at: datetime


class Component(Reply, frozen=True, kw_only=True):
    """Health of one part."""

    name: str
    ok: bool
    detail: str = ""


class Health(Reply, frozen=True, kw_only=True):
    """Whether the first recall would be served warm, and the parts."""

    ready: bool
    components: list[Component]


class Page(Reply, Generic[Item], frozen=True, kw_only=True):
    """One page of a list; None as cursor ends it."""

    items: list[Item]
    next_cursor: str | None = None
