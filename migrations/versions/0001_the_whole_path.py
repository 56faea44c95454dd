"""The whole path: tenants, keys, banks, the ledger, snapshots, heads, tombstones, jobs, idempotency, audit, blobs."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

OPEN = "status IN ('queued', 'running')"


def upgrade() -> None:
    op.create_table(
        "tenant",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "api_key",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("prefix", sa.String(length=32), nullable=False),
        sa.Column("lookup_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("scopes", sa.JSON(), nullable=False),
        sa.Column("banks", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("revoked_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_api_key_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_api_key")),
        sa.UniqueConstraint("lookup_hash", name=op.f("uq_api_key_lookup_hash")),
    )
    op.create_table(
        "audit",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("request_id", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("target", sa.String(length=128), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_audit_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_audit")),
    )
    op.create_table(
        "bank",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("owner", sa.String(length=128), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("last_hash", sa.String(length=64), nullable=False),
        sa.Column("responses", sa.Integer(), nullable=False),
        sa.Column("config_hash", sa.String(length=64), nullable=False),
        sa.Column("encoder_digest", sa.String(length=64), nullable=False),
        sa.Column("head_version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("seq >= 0 AND epoch >= 0 AND head_version >= 0", name=op.f("ck_bank_counters")),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_bank_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_bank")),
        sa.UniqueConstraint("tenant", "name", name=op.f("uq_bank_tenant_name")),
    )
    op.create_table(
        "blob",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("state IN ('pending', 'live', 'condemned')", name=op.f("ck_blob_state")),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_blob_tenant")),
        sa.PrimaryKeyConstraint("tenant", "sha256", name=op.f("pk_blob")),
    )
    op.create_table(
        "idempotency",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=200), nullable=False),
        sa.Column("request_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("lease_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("bank", sa.String(length=64), nullable=True),
        sa.Column("first_seq", sa.Integer(), nullable=True),
        sa.Column("last_seq", sa.Integer(), nullable=True),
        sa.Column("reply_status", sa.Integer(), nullable=True),
        sa.Column("reply", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("status IN ('pending', 'committed', 'done')", name=op.f("ck_idempotency_status")),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_idempotency_tenant")),
        sa.PrimaryKeyConstraint("tenant", "key", name=op.f("pk_idempotency")),
    )
    op.create_index(op.f("ix_idempotency_created_at"), "idempotency", ["created_at"], unique=False)
    op.create_table(
        "job",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("payload", sa.JSON(), nullable=False),
        sa.Column("dedupe", sa.String(length=128), nullable=True),
        sa.Column("progress", sa.Float(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("claimed_by", sa.String(length=64), nullable=True),
        sa.Column("claim_until", sa.DateTime(timezone=True), nullable=True),
        sa.Column("result", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("error", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')", name=op.f("ck_job_status")),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_job_tenant")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_job")),
    )
    op.create_index(op.f("ix_job_status_created_at"), "job", ["status", "created_at"], unique=False)
    op.create_index(op.f("ix_job_tenant_bank_id"), "job", ["tenant", "bank", "id"], unique=False)
    op.create_index("uq_job_dedupe", "job", ["tenant", "dedupe"], unique=True, sqlite_where=sa.text(OPEN), postgresql_where=sa.text(OPEN))
    op.create_table(
        "event",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("epoch", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("session", sa.String(length=128), nullable=True),
        sa.Column("response", sa.Integer(), nullable=True),
        sa.Column("body", sa.LargeBinary(), nullable=True),
        sa.Column("embedding", sa.LargeBinary(), nullable=True),
        sa.Column("salt", sa.LargeBinary(length=16), nullable=True),
        sa.Column("input_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("tokens", sa.Integer(), nullable=False),
        sa.Column("content_hash", sa.String(length=64), nullable=False),
        sa.Column("prev_hash", sa.String(length=64), nullable=False),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("redacted_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint("kind IN ('correction')", name=op.f("ck_event_kind")),
        sa.CheckConstraint(
            "redacted_at IS NOT NULL OR (body IS NOT NULL AND embedding IS NOT NULL AND salt IS NOT NULL)", name=op.f("ck_event_whole")
        ),
        sa.CheckConstraint("redacted_at IS NULL OR (body IS NULL AND embedding IS NULL AND salt IS NULL)", name=op.f("ck_event_redacted")),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_event_bank"),
        sa.PrimaryKeyConstraint("tenant", "bank", "seq", name=op.f("pk_event")),
        sa.UniqueConstraint("id", name=op.f("uq_event_id")),
    )
    op.create_index(op.f("ix_event_tenant_bank_input_hash_seq"), "event", ["tenant", "bank", "input_hash", "seq"], unique=False)
    op.create_index(op.f("ix_event_tenant_bank_response_seq"), "event", ["tenant", "bank", "response", "seq"], unique=False)
    op.create_table(
        "forget",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("seqs", sa.JSON(), nullable=False),
        sa.Column("event_ids", sa.JSON(), nullable=False),
        sa.Column("job", sa.String(length=64), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("mode IN ('suppress', 'rebuild', 'erase')", name=op.f("ck_forget_mode")),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_forget_bank"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_forget")),
    )
    op.create_table(
        "response",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column("text_hash", sa.LargeBinary(length=32), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_response_bank"),
        sa.PrimaryKeyConstraint("tenant", "bank", "ordinal", name=op.f("pk_response")),
        sa.UniqueConstraint("tenant", "bank", "text_hash", name=op.f("uq_response_tenant_bank_text_hash")),
    )
    op.create_table(
        "session",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=128), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_session_bank"),
        sa.PrimaryKeyConstraint("tenant", "bank", "id", name=op.f("pk_session")),
    )
    op.create_table(
        "snapshot",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("parent", sa.String(length=64), nullable=True),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("spans", sa.JSON(), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("config_hash", sa.String(length=64), nullable=False),
        sa.Column("clock", sa.JSON(), nullable=False),
        sa.Column("levels", sa.JSON(), nullable=False),
        sa.Column("label", sa.String(length=128), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("pinned", sa.Boolean(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("gate", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("ordinal", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("destroyed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('genesis', 'manual', 'auto', 'consolidation', 'pre_rollback', 'rollback', 'rebuild')", name=op.f("ck_snapshot_kind")
        ),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_snapshot_bank"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_snapshot")),
        sa.UniqueConstraint("tenant", "bank", "ordinal", name=op.f("uq_snapshot_tenant_bank_ordinal")),
    )
    op.create_table(
        "head",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("snapshot", sa.String(length=64), nullable=False),
        sa.Column("moved_by", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_head_bank"),
        sa.ForeignKeyConstraint(["tenant", "snapshot"], ["snapshot.tenant", "snapshot.id"], name="fk_head_snapshot"),
        sa.PrimaryKeyConstraint("tenant", "bank", "version", name=op.f("pk_head")),
    )
    op.create_table(
        "tombstone",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("event_id", sa.String(length=64), nullable=False),
        sa.Column("response", sa.Integer(), nullable=False),
        sa.Column("forget", sa.String(length=64), nullable=False),
        sa.Column("mode", sa.String(length=16), nullable=False),
        sa.Column("exact", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name="fk_tombstone_event"),
        sa.PrimaryKeyConstraint("tenant", "bank", "seq", name=op.f("pk_tombstone")),
    )


def downgrade() -> None:
    op.drop_table("tombstone")
    op.drop_table("head")
    op.drop_table("snapshot")
    op.drop_table("session")
    op.drop_table("response")
    op.drop_table("forget")
    op.drop_index(op.f("ix_event_tenant_bank_response_seq"), table_name="event")
    op.drop_index(op.f("ix_event_tenant_bank_input_hash_seq"), table_name="event")
    op.drop_table("event")
    op.drop_index("uq_job_dedupe", table_name="job", sqlite_where=sa.text(OPEN), postgresql_where=sa.text(OPEN))
    op.drop_index(op.f("ix_job_tenant_bank_id"), table_name="job")
    op.drop_index(op.f("ix_job_status_created_at"), table_name="job")
    op.drop_table("job")
    op.drop_index(op.f("ix_idempotency_created_at"), table_name="idempotency")
    op.drop_table("idempotency")
    op.drop_table("blob")
    op.drop_table("bank")
    op.drop_table("audit")
    op.drop_table("api_key")
    op.drop_table("tenant")
