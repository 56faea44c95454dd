"""All tables. The tenant leads every key and index, so that no statement can forget it and a partition by tenant stays possible.

`event` is append-only but for redaction; `head` rows are never changed, `snapshot` rows only by destruction and in what people say about
them (label, note, pin). Digests are 64 hex digits.

Every table, one that is added later too, needs row-level security and grants for the roles of PostgreSQL: see migration 0003.
"""

from typing import Any

from sqlalchemy import (
    JSON,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

from service.store.columns import UtcTime, metadata
from service.store.columns import bank_of as _bank_of
from service.store.columns import id_column as _id
from service.store.governance_tables import change, delivery, proposal, quarantine, quarantined, trail, webhook
from service.store.inspection_tables import drift, lookup, probe_set

__all__ = [
    "UtcTime",
    "api_key",
    "audit",
    "bank",
    "blob",
    "change",
    "delivery",
    "drift",
    "erased_tenant",
    "event",
    "forget",
    "head",
    "idempotency",
    "job",
    "lookup",
    "metadata",
    "probe_set",
    "proposal",
    "quarantine",
    "quarantined",
    "response",
    "session",
    "snapshot",
    "tenant",
    "tombstone",
    "trail",
    "webhook",
]


def _where(condition: str) -> dict[str, Any]:
    """Of an index: of which rows."""
    return {"sqlite_where": text(condition), "postgresql_where": text(condition)}


tenant = Table(
    "tenant",
    metadata,
    _id("id", primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
)

api_key = Table(
    "api_key",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    Column("name", String(128), nullable=False),
    Column("prefix", String(32), nullable=False),
    Column("lookup_hash", LargeBinary(32), nullable=False, unique=True),
    Column("scopes", JSON, nullable=False),
    Column("banks", JSON(none_as_null=True)),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime),
    Column("revoked_at", UtcTime),
    Column("last_used_at", UtcTime),
    Column("rate", Float),  # requests a second of this key; NULL: the tenant's limits alone
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

sign_in = Table(  # to the console: a cookie that stands for a key until it expires, or the key ends
    "sign_in",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    _id("key"),
    Column("lookup_hash", LargeBinary(32), nullable=False, unique=True),
    Column("created_at", UtcTime, nullable=False),
    Column("expires_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "key"], ["api_key.tenant", "api_key.id"], name="fk_sign_in_key"),
)

bank = Table(
    "bank",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    Column("name", String(128), nullable=False),
    Column("epoch", Integer, nullable=False),
    Column("owner", String(128)),
    Column("seq", Integer, nullable=False),
    Column("last_hash", String(64), nullable=False),
    Column("responses", Integer, nullable=False),  # ordinals given out so far; never reused
    Column("config_hash", String(64), nullable=False),
    Column("encoder_digest", String(64), nullable=False),
    Column("head_version", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("debt_tokens", Integer, nullable=False, server_default="0"),  # learned and not covered by a consolidation, as are the next two
    Column("debt_events", Integer, nullable=False, server_default="0"),
    Column("debt_since", UtcTime),  # when the first of these was taught; NULL: nothing was
    UniqueConstraint("tenant", "name"),
    CheckConstraint("seq >= 0 AND epoch >= 0 AND head_version >= 0", name="counters"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

session = Table(
    "session",
    metadata,
    _id("tenant", primary_key=True),
    _id("bank", primary_key=True),
    Column("id", String(128), primary_key=True),
    Column("created_at", UtcTime, nullable=False),
    Column("last_used_at", UtcTime, nullable=False),
    _bank_of("session"),
)

response = Table(
    "response",
    metadata,
    _id("tenant", primary_key=True),
    _id("bank", primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("text", Text, nullable=False),
    Column("text_hash", LargeBinary(32), nullable=False),
    Column("embedding", LargeBinary),  # of the answer's own words, as they were when it was first given; NULL: they are not taught
    UniqueConstraint("tenant", "bank", "text_hash"),
    _bank_of("response"),
)

event = Table(
    "event",
    metadata,
    _id("tenant", primary_key=True),
    _id("bank", primary_key=True),
    Column("seq", Integer, primary_key=True),
    _id("id", unique=True),
    Column("epoch", Integer, nullable=False),
    Column("kind", String(32), nullable=False),
    Column("session", String(128)),
    Column("response", Integer),
    Column("body", LargeBinary),  # msgpack, see ledger.py; NULL once redacted, as are the next three and the hashes
    Column("embedding", LargeBinary),
    Column("salt", LargeBinary(16)),
    Column("input_hash", LargeBinary(16)),
    Column("tokens", Integer, nullable=False),
    Column("content_hash", String(64), nullable=False),
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("redacted_at", UtcTime),
    Column("taught_by", String(64)),  # the key that taught it; NULL: taught before keys were noted
    Column("words_hash", LargeBinary(16)),  # of the input's words; NULL: taught before words were compared
    CheckConstraint("kind IN ('correction', 'turn')", name="kind"),
    CheckConstraint("redacted_at IS NOT NULL OR (body IS NOT NULL AND embedding IS NOT NULL AND salt IS NOT NULL)", name="whole"),
    CheckConstraint("redacted_at IS NULL OR (body IS NULL AND embedding IS NULL AND salt IS NULL)", name="redacted"),
    Index(None, "tenant", "bank", "response", "seq"),
    Index(None, "tenant", "bank", "input_hash", "seq"),
    Index("ix_event_words", "tenant", "bank", "words_hash", "seq", **_where("words_hash IS NOT NULL")),
    Index("ix_event_turns", "tenant", "bank", "seq", **_where("kind = 'turn'")),
    _bank_of("event"),
)

snapshot = Table(
    "snapshot",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    _id("bank"),
    Column("kind", String(16), nullable=False),
    Column("parent", String(64)),
    Column("seq", Integer, nullable=False),
    Column("spans", JSON, nullable=False),
    Column("digest", String(64), nullable=False),
    Column("config_hash", String(64), nullable=False),
    Column("clock", JSON, nullable=False),
    Column("levels", JSON, nullable=False),
    Column("label", String(128)),
    Column("note", Text),
    Column("pinned", Boolean, nullable=False),
    Column("created_by", String(64), nullable=False),
    Column("gate", JSON(none_as_null=True)),
    Column("ordinal", Integer, nullable=False),  # order of commits in the bank
    Column("created_at", UtcTime, nullable=False),
    Column("destroyed_at", UtcTime),
    Column("held", JSON(none_as_null=True)),  # spans of events that were quarantined when it was folded; NULL: none
    Column("sleeps", JSON(none_as_null=True)),  # positions at which the bank's language model has slept; NULL: none
    Column("heard", JSON(none_as_null=True)),  # spans of the events in the level `language`; NULL: it has none
    CheckConstraint(
        "kind IN ('genesis', 'manual', 'auto', 'consolidation', 'pre_rollback', 'rollback', 'rebuild', 'import')",
        name="kind",
    ),
    UniqueConstraint("tenant", "bank", "ordinal"),
    _bank_of("snapshot"),
)

head = Table(
    "head",
    metadata,
    _id("tenant", primary_key=True),
    _id("bank", primary_key=True),
    Column("version", Integer, primary_key=True),
    _id("snapshot"),
    Column("moved_by", String(64), nullable=False),
    Column("reason", Text, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "snapshot"], ["snapshot.tenant", "snapshot.id"], name="fk_head_snapshot"),
    _bank_of("head"),
)

forget = Table(
    "forget",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    _id("bank"),
    Column("mode", String(16), nullable=False),
    Column("reason", Text),
    Column("seqs", JSON, nullable=False),
    Column("event_ids", JSON, nullable=False),
    Column("job", String(64)),
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("certificate", JSON(none_as_null=True)),  # what its job has done so far, ids and digests only
    Column("bank_deleted_at", UtcTime),  # the row stays when its bank is deleted: it is the certificate
    CheckConstraint("mode IN ('suppress', 'rebuild', 'erase')", name="mode"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
    Index(None, "tenant", "created_at"),
)

tombstone = Table(
    "tombstone",
    metadata,
    _id("tenant", primary_key=True),
    _id("bank", primary_key=True),
    Column("seq", Integer, primary_key=True),
    _id("event_id"),
    Column("response", Integer, nullable=False),
    _id("forget"),
    Column("mode", String(16), nullable=False),
    Column("exact", Boolean, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name="fk_tombstone_event"),
)

job = Table(
    "job",
    metadata,
    _id("id", primary_key=True),
    _id("tenant"),
    Column("kind", String(32), nullable=False),
    Column("bank", String(64)),
    Column("status", String(16), nullable=False),
    Column("payload", JSON, nullable=False),
    Column("dedupe", String(128)),
    Column("progress", Float, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("claimed_by", String(64)),
    Column("claim_until", UtcTime),
    Column("result", JSON(none_as_null=True)),
    Column("error", JSON(none_as_null=True)),
    Column("created_at", UtcTime, nullable=False),
    Column("updated_at", UtcTime, nullable=False),
    Column("finished_at", UtcTime),
    CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')", name="status"),
    Index(
        "uq_job_dedupe",
        "tenant",
        "dedupe",
        unique=True,
        sqlite_where=text("status IN ('queued', 'running')"),
        postgresql_where=text("status IN ('queued', 'running')"),
    ),
    Index(None, "status", "created_at"),
    Index(None, "tenant", "bank", "id"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

idempotency = Table(
    "idempotency",
    metadata,
    _id("tenant", primary_key=True),
    Column("key", String(200), primary_key=True),
    Column("request_hash", LargeBinary(32), nullable=False),
    Column("status", String(16), nullable=False),
    Column("lease_until", UtcTime),
    Column("bank", String(64)),
    Column("first_seq", Integer),
    Column("last_seq", Integer),
    Column("reply_status", Integer),
    Column("reply", LargeBinary),
    Column("created_at", UtcTime, nullable=False),
    CheckConstraint("status IN ('pending', 'committed', 'done')", name="status"),
    Index(None, "created_at"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

audit = Table(
    "audit",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    Column("actor", String(64), nullable=False),
    Column("request_id", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("target", String(128), nullable=False),
    Column("detail", JSON, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Column("seq", Integer, nullable=False),  # place in the tenant's hash chain, see audit.py
    Column("prev_hash", String(64), nullable=False),
    Column("hash", String(64), nullable=False),
    UniqueConstraint("tenant", "seq"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

blob = Table(
    "blob",
    metadata,
    _id("tenant", primary_key=True),
    Column("sha256", String(64), primary_key=True),
    Column("bytes", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcTime, nullable=False),  # when it was last staged, or its deletion began
    Column("birth", String(64), nullable=False, server_default="0"),  # another after each deletion: what was staged before does not count
    CheckConstraint("state IN ('pending', 'live', 'condemned', 'deleting')", name="state"),
    ForeignKeyConstraint(["tenant"], ["tenant.id"]),
)

bundle = Table(  # a snapshot on its way out of the service or into it; gone after a day, or with an erasure that concerns it
    "bundle",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),
    _id("bank"),
    Column("spans", JSON, nullable=False),  # every event of which anything is in it
    Column("manifest", LargeBinary, nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("created_at", UtcTime, nullable=False),
    Index(None, "created_at"),
    _bank_of("bundle"),
)

bundle_part = Table(
    "bundle_part",
    metadata,
    _id("tenant", primary_key=True),
    _id("bundle", primary_key=True),
    Column("place", Integer, primary_key=True),
    Column("data", LargeBinary, nullable=False),
    ForeignKeyConstraint(["tenant", "bundle"], ["bundle.tenant", "bundle.id"], name="fk_bundle_part_bundle", ondelete="CASCADE"),
)

branch = Table(  # a bank that began with corrections of another one
    "branch",
    metadata,
    _id("tenant", primary_key=True),
    _id("id", primary_key=True),  # the bank that the branch is
    _id("bank"),  # the one that it was made from
    Column("spans", JSON, nullable=False),  # the events of that one which it began with: its own first events, in their order
    Column("created_by", String(64), nullable=False),
    Column("created_at", UtcTime, nullable=False),
    ForeignKeyConstraint(["tenant", "id"], ["bank.tenant", "bank.id"], name="fk_branch_itself"),
    _bank_of("branch"),
)

erased_tenant = Table(  # all that is kept of an erased tenant: that there was one of this id
    "erased_tenant",
    metadata,
    _id("id", primary_key=True),
    Column("erased_at", UtcTime, nullable=False),
)
