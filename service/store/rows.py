"""What the store's functions take and give: frozen Structs, one for each kind of row."""

from datetime import datetime
from typing import Any

from msgspec import Struct

from service.store.lineage import Spans
from service.wire import LevelBlob

__all__ = [
    "AuditRow",
    "BankRow",
    "BranchRow",
    "BundleRow",
    "ChangeRow",
    "DeliveryRow",
    "Draft",
    "DueBank",
    "EventRow",
    "ForgetRow",
    "HeadMove",
    "HeadRow",
    "JobRow",
    "KeyRow",
    "LessonRow",
    "LevelBlob",
    "QuarantineRow",
    "ResponseRow",
    "SameInputRow",
    "SignInRow",
    "SnapshotDraft",
    "SnapshotRow",
    "SupportRow",
    "TombstoneRow",
    "WebhookRow",
]


class Row(Struct, frozen=True, kw_only=True):
    """What all rows share."""


class KeyRow(Row, frozen=True, kw_only=True):
    """An API key without its secret."""

    id: str
    tenant: str
    name: str
    prefix: str
    scopes: tuple[str, ...]
    banks: tuple[str, ...] | None
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    rate: float | None = None


class SignInRow(Row, frozen=True, kw_only=True):
    """A sign-in to the console, without its cookie: which key it stands for."""

    id: str
    tenant: str
    key: str
    expires_at: datetime


class AuditRow(Row, frozen=True, kw_only=True):
    """One entry of the audit log."""

    id: str
    actor: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    created_at: datetime
    seq: int
    prev_hash: str
    hash: str


class BankRow(Row, frozen=True, kw_only=True):
    """A bank; `head` is the id of the snapshot that its newest head names (empty while it is being created)."""

    id: str
    tenant: str
    name: str
    epoch: int
    owner: str | None
    seq: int
    last_hash: str
    config_hash: str
    encoder_digest: str
    head_version: int
    head: str
    created_at: datetime
    debt_tokens: int = 0  # of what was learned and no consolidation has covered
    debt_events: int = 0
    responses: int = 0  # ordinals of responses given out so far
    branch_of: str | None = None  # the bank that it is a branch of


class DueBank(Row, frozen=True, kw_only=True):
    """A bank that a consolidation is due for: what it owes, and since when."""

    tenant: str
    id: str
    tokens: int
    events: int
    since: datetime


class Draft(Row, frozen=True, kw_only=True):
    """A correction that is about to be appended; `embedding` is 384 little-endian float32, and `words` that of the answer's own words."""

    id: str
    session_id: str | None
    input: str
    wrong: str | None
    right: str
    metadata: dict[str, Any]
    embedding: bytes
    tokens: int
    words: bytes | None = None
    taught_by: str | None = None


class EventRow(Row, frozen=True, kw_only=True):
    """A ledger row; texts, metadata, embedding and response are None once it is redacted. `words`: the embedding of its response."""

    id: str
    bank: str
    seq: int
    epoch: int
    kind: str
    session_id: str | None
    response: int | None
    input: str | None
    wrong: str | None
    right: str | None
    metadata: dict[str, Any] | None
    embedding: bytes | None
    tokens: int
    content_hash: str
    prev_hash: str
    hash: str
    created_at: datetime
    redacted_at: datetime | None
    words: bytes | None = None
    taught_by: str | None = None


class LessonRow(Row, frozen=True, kw_only=True):
    """What folding an event needs."""

    seq: int
    embedding: bytes
    tokens: int
    response: int
    right: str
    words: bytes | None = None


class SupportRow(Row, frozen=True, kw_only=True):
    """A correction that says a response."""

    seq: int
    id: str
    embedding: bytes
    input: str


class SameInputRow(Row, frozen=True, kw_only=True):
    """A correction of an input, in its words."""

    seq: int
    id: str
    response: int


class ResponseRow(Row, frozen=True, kw_only=True):
    """A distinct right answer of a bank."""

    ordinal: int
    text: str


class SnapshotDraft(Row, frozen=True, kw_only=True):
    """A snapshot that is about to be committed."""

    id: str
    kind: str
    parent: str | None
    seq: int
    spans: Spans
    digest: str
    config_hash: str
    clock: dict[str, int]
    levels: tuple[LevelBlob, ...]
    label: str | None
    note: str | None
    pinned: bool
    created_by: str
    gate: dict[str, Any] | None
    held: Spans = ()  # events that belong to it and were quarantined when it was folded
    sleeps: tuple[int, ...] = ()  # positions at which its language model has slept: what was said up to there was consolidated
    heard: Spans = ()  # the events in its level `language`, where it has one


class SnapshotRow(SnapshotDraft, frozen=True, kw_only=True):
    """A committed snapshot; `destroyed_at` is set once its weights are gone."""

    bank: str
    created_at: datetime
    destroyed_at: datetime | None


class BundleRow(Row, frozen=True, kw_only=True):
    """A bundle; `spans` are the events of which anything is in it."""

    id: str
    bank: str
    spans: Spans
    manifest: bytes
    bytes: int
    created_at: datetime


class BranchRow(Row, frozen=True, kw_only=True):
    """A branch: the bank `id`, which began with the events `spans` of the bank `bank`."""

    id: str
    bank: str
    name: str
    spans: Spans
    created_by: str
    created_at: datetime


class HeadMove(Row, frozen=True, kw_only=True):
    """A compare-and-swap of a bank's head."""

    expected_version: int
    moved_by: str
    reason: str


class HeadRow(Row, frozen=True, kw_only=True):
    """One entry of a bank's head history."""

    bank: str
    version: int
    snapshot: str
    moved_by: str
    reason: str
    created_at: datetime


class TombstoneRow(Row, frozen=True, kw_only=True):
    """The mark of a forgotten event; `exact` ones must leave the weights, others are only hidden."""

    seq: int
    event_id: str
    response: int
    forget_id: str
    mode: str
    exact: bool
    embedding: bytes | None
    created_at: datetime


class ForgetRow(Row, frozen=True, kw_only=True):
    """One forget request."""

    id: str
    bank: str
    mode: str
    reason: str | None
    seqs: tuple[int, ...]
    event_ids: tuple[str, ...]
    job_id: str | None
    created_by: str
    created_at: datetime
    certificate: dict[str, Any] | None = None
    bank_deleted_at: datetime | None = None

    @property
    def certificate_so_far(self) -> dict[str, Any]:
        """What its job has certified by now."""
        return self.certificate or {}


class QuarantineRow(Row, frozen=True, kw_only=True):
    """One quarantine; `corrections` is how many it held when it was set."""

    id: str
    bank: str
    source: dict[str, Any]
    session: str | None
    key: str | None
    corrections: int
    reason: str | None
    job_id: str | None
    created_by: str
    created_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None


class ChangeRow(Row, frozen=True, kw_only=True):
    """Something that happened, at its place in the tenant's feed."""

    id: str
    position: int
    kind: str
    bank: str
    data: dict[str, Any]
    created_at: datetime


class WebhookRow(Row, frozen=True, kw_only=True):
    """An address that is told of changes."""

    id: str
    url: str
    events: tuple[str, ...]
    created_by: str
    created_at: datetime


class DeliveryRow(Row, frozen=True, kw_only=True):
    """One change on its way to one address."""

    id: str
    webhook: str
    change: str
    kind: str
    status: str
    attempts: int
    due_at: datetime
    answered: int | None
    error: str | None
    created_at: datetime
    updated_at: datetime


class JobRow(Row, frozen=True, kw_only=True):
    """A job."""

    id: str
    tenant: str
    kind: str
    bank: str | None
    status: str
    payload: dict[str, Any]
    progress: float
    attempts: int
    claimed_by: str | None
    claim_until: datetime | None
    result: dict[str, Any] | None
    error: dict[str, Any] | None
    created_at: datetime
    updated_at: datetime
    finished_at: datetime | None
