"""What governance says: forgetting with previews and certificates, quarantine, the audit's chain, webhooks, changes, rotated keys."""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, field

from service.wire.parts import BATCH_MAX, ChangeKind, ForgetMode, Id, Name, Note, Reply, Request, Source, StateRef
from service.wire.versions import Flip

WEEK_S = 604_800


class ForgetRequest(Request, frozen=True, kw_only=True):
    """Forget corrections: `suppress` (in this request), `rebuild` (exact, by a job), `erase` (exact, texts and old snapshots destroyed).

    Name `corrections` or a `source`. `dry_run` only tells what would be forgotten, and gives a `confirm_token` for just that.
    """

    mode: ForgetMode
    corrections: Annotated[list[Id], Meta(min_length=1, max_length=BATCH_MAX)] | None = None
    source: Source | None = None
    bank: Name | None = None
    reason: Note | None = None
    dry_run: bool = False
    confirm_token: Annotated[str, Meta(min_length=1, max_length=200)] | None = None


class Forgotten(Reply, frozen=True, kw_only=True):
    """The forget is effective now; `job_id` names the rebuild that makes the weights exact (null for suppress).

    Of a dry run: `id` is null, `flips` are the probes whose answer would change at once, `probes` of `probes_of` corrections were asked,
    and `confirm_token` is good until `confirm_until`.
    """

    id: str | None
    effective_now: bool
    mode: ForgetMode
    corrections: list[str]
    job_id: str | None
    dry_run: bool = False
    flips: list[Flip] = field(default_factory=list)
    probes: int = 0
    probes_of: int = 0
    confirm_token: str | None = None
    confirm_until: datetime | None = None


class ForgetPreview(Reply, frozen=True, kw_only=True):
    """Which of so many probes would be answered otherwise at once, at a state; of how many corrections they are a sample."""

    flips: list[Flip]
    probes: int
    state: StateRef
    probes_of: int = 0


class Membership(Reply, frozen=True, kw_only=True):
    """A forgotten correction, asked at its own input: it passes unless it speaks for an answer itself.

    `answered`: its response is still the answer there; `support` are the others that say so.
    """

    correction: str
    in_weights: bool
    answered: bool
    support: list[str]
    passed: bool


class CertifiedLanguage(Reply, frozen=True, kw_only=True):
    """The weights of the bank's language model with and without; `unavailable` says why one of the digests could not be taken."""

    digest_before: str | None
    digest_after: str | None
    unavailable: str | None


class CertifiedWeights(Reply, frozen=True, kw_only=True):
    """The weights with and without, at the ledger position `seq`; `snapshot` is the head that was made without.

    `language`: null where nobody had talked to the bank.
    """

    digest_before: str | None
    digest_after: str | None
    seq: int
    snapshot: str | None
    language: CertifiedLanguage | None = None


class Removed(Reply, frozen=True, kw_only=True):
    """What was taken away, and where."""

    tombstones: int
    redacted_events: int = 0
    responses: int = 0
    stored_replies: int = 0
    exports: list[str] = field(default_factory=list)
    snapshots: list[str] = field(default_factory=list)
    blobs: list[str] = field(default_factory=list)


class Unreached(Reply, frozen=True, kw_only=True):
    """A place that this service cannot reach into, and what to do about it."""

    place: str
    advice: str


class Certificate(Reply, frozen=True, kw_only=True):
    """What a forget has done so far: ids, digests and times only. `complete` once everything in it is done.

    It outlives its bank: from `bank_deleted_at` on nothing of that is there, whatever the mode.
    """

    id: str
    bank: str
    mode: ForgetMode
    complete: bool
    passed: bool | None
    corrections: list[str]
    requested_by: str
    requested_at: datetime
    completed_at: datetime | None
    job_id: str | None
    weights: CertifiedWeights | None
    removed: Removed
    membership: list[Membership]
    unreached: list[Unreached]
    bank_deleted_at: datetime | None = None


class NewQuarantine(Request, frozen=True, kw_only=True):
    """Hold corrections out of the memory until that is lifted: name `corrections` or a `source`, which teaches nothing meanwhile."""

    corrections: Annotated[list[Id], Meta(min_length=1, max_length=BATCH_MAX)] | None = None
    source: Source | None = None
    bank: Name | None = None
    reason: Note | None = None


class Quarantine(Reply, frozen=True, kw_only=True):
    """A quarantine; `corrections` is how many it held when it was set, `job_id` the job that makes the weights follow."""

    id: str
    bank: str
    source: dict[str, Any]
    corrections: int
    reason: str | None
    job_id: str | None
    created_by: str
    created_at: datetime
    lifted_by: str | None
    lifted_at: datetime | None


class AuditEntry(Reply, frozen=True, kw_only=True):
    """Who changed what in which request, at its place in the tenant's hash chain."""

    id: str
    seq: int
    actor: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    prev_hash: str
    hash: str
    created_at: datetime


class BrokenEntry(Reply, frozen=True, kw_only=True):
    """The first entry that does not hold: it was changed, or is missing (then nobody knows its id)."""

    seq: int
    id: str | None
    why: Literal["changed", "missing"]


class AuditVerified(Reply, frozen=True, kw_only=True):
    """Whether the chain holds: so many entries do, up to the one with `hash`."""

    ok: bool
    entries: int
    hash: str
    broken: BrokenEntry | None


class NewWebhook(Request, frozen=True, kw_only=True):
    """Tell an https address of changes of the whole tenant."""

    url: Annotated[str, Meta(min_length=1, max_length=2_048)]
    events: Annotated[list[ChangeKind], Meta(min_length=1, max_length=20)]


class Webhook(Reply, frozen=True, kw_only=True):
    """A webhook without its secret."""

    id: str
    url: str
    events: list[str]
    created_by: str
    created_at: datetime


class MadeWebhook(Reply, frozen=True, kw_only=True):
    """A new webhook; `secret` is shown this once, and null when the reply is repeated for an Idempotency-Key."""

    id: str
    url: str
    events: list[str]
    secret: str | None
    created_by: str
    created_at: datetime


class Delivery(Reply, frozen=True, kw_only=True):
    """One change on its way to one webhook. `answered` is the status of the last answer, `error` why there was none."""

    id: str
    webhook: str
    change: str
    event: str
    status: Literal["pending", "delivered", "failed"]
    attempts: int
    due_at: datetime | None
    answered: int | None
    error: str | None
    created_at: datetime
    updated_at: datetime


class Change(Reply, frozen=True, kw_only=True):
    """Something that happened: what a webhook is sent and the feed tells. Ids and states only."""

    id: str
    event: ChangeKind
    bank: str
    data: dict[str, Any]
    created_at: datetime


class RotateKey(Request, frozen=True, kw_only=True):
    """Give a key a successor with the same rights; the old one ends after `overlap_s`."""

    overlap_s: Annotated[int, Meta(ge=0, le=WEEK_S)] = 86_400


class RotatedKey(Reply, frozen=True, kw_only=True):
    """The successor; `key` is shown this once, and null when the reply is repeated for an Idempotency-Key."""

    id: str
    key: str | None
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    rate: float | None
    expires_at: datetime | None
    replaces: str
    replaced_until: datetime
