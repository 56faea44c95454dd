"""The vocabulary on the wire: every request and reply of REST v1 as a frozen Struct, with the limit of each field beside it.

Requests refuse unknown fields. Text that would be stored or encoded is bounded here, and `service.api.texts` refuses what a bound
cannot say (blank text, NUL). Times are UTC and travel as RFC 3339. The engine takes and gives the same Structs, so that a framed
socket can carry them unchanged later.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

TEXT_MAX = 20_000  # characters; the encoder reads the first 256 tokens, the ledger keeps all
BATCH_MAX = 1_000

Text = Annotated[str, Meta(min_length=1, max_length=TEXT_MAX)]
Name = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Note = Annotated[str, Meta(max_length=1_000)]
Id = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9_.:@-]+$")]
Share = Annotated[float, Meta(ge=0.0, le=1.0)]
TopK = Annotated[int, Meta(ge=1, le=100)]

ForgetMode = Literal["suppress", "rebuild", "erase"]
JobKind = Literal["consolidation", "rebuild", "erase", "housekeeping"]
JobStatus = Literal["queued", "running", "succeeded", "failed", "canceled"]
SnapshotKind = Literal["genesis", "manual", "auto", "consolidation", "pre_rollback", "rollback", "rebuild"]
CorrectionStatus = Literal["active", "superseded", "rolled_back", "forgotten"]
Scope = Literal["recall:read", "corrections:write", "memory:inspect", "snapshots:read", "snapshots:write", "rollback", "forget", "erase", "admin"]


class Request(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every request body shares: unknown fields are refused."""


class Reply(Struct, frozen=True, kw_only=True):
    """What every reply shares."""


# --- shared parts


class StateRef(Reply):
    """The state that answered: the head and the last ledger seq folded into it. Send it back as `Memory-Min-State` to read your writes."""

    snapshot_id: str
    seq: int


class Usage(Reply):
    """What a call cost."""

    cpu_ms: float = 0.0
    tokens_in: int = 0
    updates: int = 0
    level_writes: int = 0


class Said(Reply):
    """What the memory says: a remembered response, or none when it abstains."""

    value: str | None
    confidence: float


class Page[Item](Reply):
    """One page of a list; pass `next_cursor` as `cursor` for the next."""

    items: list[Item]
    next_cursor: str | None = None


# --- teach


class NewCorrection(Request):
    """Teach: in the situation `input` the right answer is `right` (and was not `wrong`). `paraphrases` are asked for the receipt, not taught."""

    input: Text
    right: Text
    wrong: Text | None = None
    bank: Name | None = None
    session_id: Id | None = None
    paraphrases: Annotated[list[Text], Meta(max_length=16)] = []
    metadata: dict[str, Any] = {}


class NewCorrections(Request):
    """Up to 1,000 corrections, applied in order, all or none."""

    items: Annotated[list[NewCorrection], Meta(min_length=1, max_length=BATCH_MAX)]
    bank: Name | None = None


class BeforeAfter(Reply):
    """What the memory said to the taught input before and after the correction."""

    before: Said
    after: Said


class ParaphraseCheck(Reply):
    """How many of the client's paraphrases are answered right after the correction."""

    n: int
    fixed: int


class Receipt(Reply):
    """The proof that a correction worked."""

    item: BeforeAfter
    paraphrase: ParaphraseCheck


class Taught(Reply):
    """An acknowledged correction: its ledger row is durable and the weights answer with it."""

    id: str
    seq: int
    status: CorrectionStatus
    receipt: Receipt
    state: StateRef
    usage: Usage


class TaughtBatch(Reply):
    """Per-item results of a batch, in order."""

    items: list[Taught]
    state: StateRef
    usage: Usage


# --- recall


class RecallOptions(Request):
    """What one question and a batch of questions share."""

    bank: Name | None = None
    top_k: TopK = 1
    min_confidence: Share | None = None
    at: Id | None = None
    explain: bool = False


class RecallRequest(RecallOptions):
    """Ask the memory about one situation."""

    input: Text


class RecallBatchRequest(RecallOptions):
    """Ask about up to 1,000 situations at one state."""

    inputs: Annotated[list[Text], Meta(min_length=1, max_length=BATCH_MAX)]


class Answer(Reply):
    """A remembered response: `support` names the corrections it rests on, `level` the level that knew it."""

    value: str
    confidence: float
    support: list[str]
    level: str
    why: dict[str, Any] | None = None


class Recalled(Reply):
    """Answers, best first; empty when the memory abstains."""

    id: str
    answers: list[Answer]
    abstained: bool
    state: StateRef
    usage: Usage


class RecalledItem(Reply):
    """One result of a recall batch."""

    answers: list[Answer]
    abstained: bool


class RecalledBatch(Reply):
    """Results in the order of the inputs."""

    id: str
    results: list[RecalledItem]
    state: StateRef
    usage: Usage


# --- the ledger


class Correction(Reply):
    """A correction as the ledger holds it; text fields are null once erased."""

    id: str
    seq: int
    status: CorrectionStatus
    input: str | None
    right: str | None
    wrong: str | None
    session_id: str | None
    metadata: dict[str, Any]
    created_at: datetime


class EventRow(Reply):
    """One ledger row: its place in the hash chain and what it says; text fields are null once erased."""

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


# --- banks, keys


class NewBank(Request):
    """Create a bank: one weight lineage."""

    name: Name


class Bank(Reply):
    """A bank. `etag` names its head and is what `If-Match` takes."""

    id: str
    name: str
    seq: int
    head: str
    etag: str
    encoder_digest: str
    config_hash: str
    created_at: datetime


class NewKey(Request):
    """Mint a key; `banks` pins it to bank ids."""

    name: Name
    scopes: Annotated[list[Scope], Meta(min_length=1, max_length=16)]
    banks: Annotated[list[Id], Meta(min_length=1, max_length=100)] | None = None
    expires_at: datetime | None = None


class Key(Reply):
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


class MintedKey(Reply):
    """A new key; `key` is shown this once."""

    id: str
    key: str
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    expires_at: datetime | None


class WhoAmI(Reply):
    """The tenant and the rights of the key that asks."""

    tenant: str
    key_id: str
    scopes: list[str]
    banks: list[str] | None


# --- memory, snapshots, head


class Level(Reply):
    """One level: how often it changes, how large it is, and the digest of its weights."""

    name: str
    period_tokens: int | None
    bytes: int
    norm: float
    digest: str


class Memory(Reply):
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


class NewSnapshot(Request):
    """Take a snapshot of the bank as it is now."""

    bank: Name | None = None
    label: Name | None = None
    note: Note | None = None
    pin: bool = False


class LevelBlob(Reply):
    """Where a level of a snapshot is stored: its content address."""

    name: str
    sha256: str
    bytes: int


class Snapshot(Reply):
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


class RollbackRequest(Request):
    """Move the head to the behaviour of snapshot `to`. `dry_run` only tells which answers would flip."""

    to: Id
    bank: Name | None = None
    dry_run: bool = False
    keep: Literal["none"] = "none"
    reason: Note | None = None


class Flip(Reply):
    """A probe whose answer differs between two states. Probes are inputs of the bank's own corrections."""

    correction: str
    input: str
    before: Said
    after: Said


class RolledBack(Reply):
    """The new head, the snapshot taken before the move, and the probes whose answer changes. Ids are null in a dry run."""

    head: str | None
    pre_rollback: str | None
    flips: list[Flip]
    probes: int
    dry_run: bool
    state: StateRef


class ForgetRequest(Request):
    """Forget corrections: `suppress` (in this request), `rebuild` (exact, by a job), `erase` (exact, text redacted, tainted snapshots destroyed)."""

    corrections: Annotated[list[Id], Meta(min_length=1, max_length=BATCH_MAX)]
    mode: ForgetMode
    bank: Name | None = None
    reason: Note | None = None


class Forgotten(Reply):
    """The forget is effective now; `job_id` names the rebuild that makes the weights exact (null for suppress)."""

    id: str
    effective_now: bool
    mode: ForgetMode
    corrections: list[str]
    job_id: str | None


# --- jobs


class NewConsolidation(Request):
    """Start a consolidation of a bank; a queued one is reused."""

    bank: Name | None = None


class JobStarted(Reply):
    """A job was queued, or an equal queued one found."""

    job_id: str
    deduplicated: bool = False


class Job(Reply):
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


class Component(Reply):
    """Health of one part."""

    name: str
    ok: bool
    detail: str = ""


class Health(Reply):
    """Readiness and its parts."""

    ready: bool
    components: list[Component]


class Problem(Reply):
    """RFC 9457 problem details with our stable `code`."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    code: str
    request_id: str
    errors: list[dict[str, str]]
