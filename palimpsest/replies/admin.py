"""What is answered about banks, keys, jobs and the service itself."""

from datetime import datetime
from typing import Any

from palimpsest.replies.parts import Reply, StateRef


class Bank(Reply, frozen=True, kw_only=True):
    """A bank; `etag` names its head, `branch_of` the bank that it is a branch of."""

    id: str
    name: str
    seq: int
    head: str
    etag: str
    encoder_digest: str
    config_hash: str
    created_at: datetime
    branch_of: str | None = None


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
    """A new key. `key` is its secret, told this once."""

    id: str
    key: str | None
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    expires_at: datetime | None
    rate: float | None


class RotatedKey(Reply, frozen=True, kw_only=True):
    """A key's successor; `replaces` works until `replaced_until`. `key` is its secret, told this once."""

    id: str
    key: str | None
    prefix: str
    scopes: list[str]
    banks: list[str] | None
    rate: float | None
    expires_at: datetime | None
    replaces: str
    replaced_until: datetime


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


class Language(Reply, frozen=True, kw_only=True):
    """A bank's language model: the digest of what it has learned, the turns in it, where it slept, its size, and the model's own digest.

    `unavailable` says why what is None cannot be told now.
    """

    digest: str | None
    turns: int
    sleeps: list[int]
    bytes: int | None
    model: str | None
    unavailable: str | None = None


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
    language: Language | None = None  # null in a bank that no conversation was learned in


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


class Component(Reply, frozen=True, kw_only=True):
    """Health of one part."""

    name: str
    ok: bool
    detail: str = ""


class Health(Reply, frozen=True, kw_only=True):
    """Whether the first recall would be served warm, and the parts."""

    ready: bool
    components: list[Component]
