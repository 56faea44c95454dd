"""Governance: quarantine, certificates, the audit's hash chain, webhooks and the change feed, rates of keys.

The audit that is there already is chained in the order it was written in.
"""

import hashlib
import json
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APP, SWEEPER = "palimpsest_app", "palimpsest_sweeper"
OWN = "current_setting('app.tenant', true)"
APP_MAY = {
    "quarantine": "SELECT, INSERT, UPDATE (job, lifted_by, lifted_at), DELETE",
    "quarantined": "SELECT, INSERT, DELETE",
    "trail": "SELECT, INSERT, UPDATE (audit_seq, audit_hash, changes), DELETE",
    "change": "SELECT, INSERT, UPDATE (position), DELETE",
    "webhook": "SELECT, INSERT, DELETE",
    "delivery": "SELECT, INSERT, UPDATE (status, attempts, due_at, answered, error, updated_at), DELETE",
}
SWEEPER_MAY = {
    "change": "SELECT (tenant, position, created_at)",
    "delivery": "SELECT (tenant, id, status, due_at)",
}
MORE_GRANTS = {"forget": "UPDATE (certificate)"}
TIME = sa.DateTime(timezone=True)


def upgrade() -> None:
    for table, column in _added():
        with op.batch_alter_table(table) as batch:
            batch.add_column(column)
    op.create_table(
        "trail",
        _id("tenant"),
        sa.Column("audit_seq", sa.Integer(), nullable=False),
        sa.Column("audit_hash", sa.String(length=64), nullable=False),
        sa.Column("changes", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_trail_tenant")),
        sa.PrimaryKeyConstraint("tenant", name=op.f("pk_trail")),
    )
    _chain(op.get_bind())
    with op.batch_alter_table("audit") as batch:
        for name, kind in (("seq", sa.Integer()), ("prev_hash", sa.String(length=64)), ("hash", sa.String(length=64))):
            batch.alter_column(name, existing_type=kind, nullable=False)
        batch.create_unique_constraint(op.f("uq_audit_tenant_seq"), ["tenant", "seq"])
    _make_quarantine()
    _make_changes()
    if op.get_bind().dialect.name == "postgresql":
        for name, may in APP_MAY.items():
            op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY own ON {name} TO {APP} USING (tenant = {OWN}) WITH CHECK (tenant = {OWN})")
            op.execute(f"GRANT {may} ON {name} TO {APP}")
        for name, may in SWEEPER_MAY.items():
            op.execute(f"CREATE POLICY sweep ON {name} TO {SWEEPER} USING (true) WITH CHECK (true)")
            op.execute(f"GRANT {may} ON {name} TO {SWEEPER}")
        for name, may in MORE_GRANTS.items():
            op.execute(f"GRANT {may} ON {name} TO {APP}")


def downgrade() -> None:
    """What is quarantined answers again where the weights hold it still; where they do not, it is as if it had been rolled back."""
    for name in ("delivery", "webhook", "change", "quarantined", "quarantine", "trail"):
        op.drop_table(name)
    with op.batch_alter_table("audit") as batch:
        batch.drop_constraint(op.f("uq_audit_tenant_seq"), type_="unique")
    for table, column in reversed(_added()):
        with op.batch_alter_table(table) as batch:
            batch.drop_column(column.name)


def _added() -> list[tuple[str, sa.Column[Any]]]:
    return [
        ("api_key", sa.Column("rate", sa.Float(), nullable=True)),
        ("snapshot", sa.Column("held", sa.JSON(none_as_null=True), nullable=True)),
        ("forget", sa.Column("certificate", sa.JSON(none_as_null=True), nullable=True)),
        ("audit", sa.Column("seq", sa.Integer(), nullable=True)),
        ("audit", sa.Column("prev_hash", sa.String(length=64), nullable=True)),
        ("audit", sa.Column("hash", sa.String(length=64), nullable=True)),
    ]


def _make_quarantine() -> None:
    op.create_table(
        "quarantine",
        _id("tenant"),
        _id("id"),
        _id("bank"),
        sa.Column("source", sa.JSON(), nullable=False),
        sa.Column("session", sa.String(length=128), nullable=True),
        sa.Column("key", sa.String(length=64), nullable=True),
        sa.Column("corrections", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("job", sa.String(length=64), nullable=True),
        _id("created_by"),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("lifted_by", sa.String(length=64), nullable=True),
        sa.Column("lifted_at", TIME, nullable=True),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_quarantine_bank"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_quarantine")),
    )
    op.create_table(
        "quarantined",
        _id("tenant"),
        _id("bank"),
        sa.Column("seq", sa.Integer(), nullable=False),
        _id("quarantine"),
        sa.ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name="fk_quarantined_event"),
        sa.ForeignKeyConstraint(["tenant", "quarantine"], ["quarantine.tenant", "quarantine.id"], name="fk_quarantined_quarantine"),
        sa.PrimaryKeyConstraint("tenant", "bank", "seq", "quarantine", name=op.f("pk_quarantined")),
    )


def _make_changes() -> None:
    op.create_table(
        "change",
        _id("tenant"),
        _id("id"),
        sa.Column("position", sa.Integer(), nullable=True),
        _id("kind"),
        _id("bank"),
        sa.Column("data", sa.JSON(), nullable=False),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_change_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_change")),
        sa.UniqueConstraint("tenant", "position", name=op.f("uq_change_tenant_position")),
    )
    op.create_table(
        "webhook",
        _id("tenant"),
        _id("id"),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("events", sa.JSON(), nullable=False),
        _id("created_by"),
        sa.Column("created_at", TIME, nullable=False),
        sa.ForeignKeyConstraint(["tenant"], ["tenant.id"], name=op.f("fk_webhook_tenant")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_webhook")),
    )
    op.create_table(
        "delivery",
        _id("tenant"),
        _id("id"),
        _id("webhook"),
        _id("change"),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("due_at", TIME, nullable=False),
        sa.Column("answered", sa.Integer(), nullable=True),
        sa.Column("error", sa.String(length=128), nullable=True),
        sa.Column("created_at", TIME, nullable=False),
        sa.Column("updated_at", TIME, nullable=False),
        sa.CheckConstraint("status IN ('pending', 'delivered', 'failed')", name=op.f("ck_delivery_status")),
        sa.ForeignKeyConstraint(["tenant", "webhook"], ["webhook.tenant", "webhook.id"], name="fk_delivery_webhook"),
        sa.ForeignKeyConstraint(["tenant", "change"], ["change.tenant", "change.id"], name="fk_delivery_change"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_delivery")),
    )
    op.create_index(op.f("ix_delivery_status_due_at"), "delivery", ["status", "due_at"])
    op.create_index(op.f("ix_delivery_tenant_webhook_id"), "delivery", ["tenant", "webhook", "id"])


def _id(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.String(length=64), nullable=False)


def _chain(connection: sa.Connection) -> None:
    """Give the entries that are there their places and hashes, as `service.store.audit` gives them to new ones."""
    if connection.dialect.name == "postgresql":
        for name in ("audit", "tenant"):
            op.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY")
    ends: dict[str, tuple[int, str]] = {}
    chained = []
    for row in _entries(connection):
        seq, prev = ends.get(row["tenant"], (0, ""))
        told = [seq + 1, row["id"], row["actor"], row["request_id"], row["action"], row["target"], row["detail"]]
        at = row["created_at"] if row["created_at"].tzinfo else row["created_at"].replace(tzinfo=UTC)
        told.append(at.astimezone(UTC).isoformat(timespec="microseconds"))
        whole = hashlib.sha256(prev.encode() + json.dumps(told, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
        chained.append({"t": row["tenant"], "i": row["id"], "seq": seq + 1, "prev": prev, "hash": whole})
        ends[row["tenant"]] = (seq + 1, whole)
    for entry in chained:
        connection.execute(sa.text("UPDATE audit SET seq = :seq, prev_hash = :prev, hash = :hash WHERE tenant = :t AND id = :i"), entry)
    for tenant in connection.execute(sa.text("SELECT id FROM tenant")).scalars().all():
        seq, whole = ends.get(tenant, (0, ""))
        values = {"t": tenant, "seq": seq, "hash": whole}
        connection.execute(sa.text("INSERT INTO trail (tenant, audit_seq, audit_hash, changes) VALUES (:t, :seq, :hash, 0)"), values)
    if connection.dialect.name == "postgresql":
        for name in ("audit", "tenant"):
            op.execute(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY")


def _entries(connection: sa.Connection) -> Iterator[dict[str, Any]]:
    columns = ("tenant", "id", "actor", "request_id", "action", "target", "detail", "created_at")
    kinds = {"detail": sa.JSON(), "created_at": sa.DateTime(timezone=True)}
    table = sa.table("audit", *(sa.column(name, kinds.get(name, sa.String())) for name in columns))
    for row in connection.execute(sa.select(table).order_by(table.c.tenant, table.c.created_at, table.c.id)).all():
        yield dict(row._mapping)
