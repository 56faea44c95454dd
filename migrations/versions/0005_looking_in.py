"""Looking in: what is searched and counted of each event, drifts between automatic snapshots, saved probes.

Events that are there already are looked up like new ones; what the memory said before they were taught nobody wrote down.
"""

import unicodedata
from collections.abc import Iterator
from datetime import UTC
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

APP = "palimpsest_app"
OWN = "current_setting('app.tenant', true)"
APP_MAY = {
    "lookup": "SELECT, INSERT, UPDATE (text, said_before, surprise), DELETE",
    "drift": "SELECT, INSERT, DELETE",
    "probe_set": "SELECT, INSERT, UPDATE (probes), DELETE",
}
PAGE = 500


def upgrade() -> None:
    lookup = op.create_table(
        "lookup",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("said_before", sa.String(length=8), nullable=True),
        sa.Column("surprise", sa.Float(), nullable=True),
        sa.CheckConstraint("said_before IN ('right', 'wrong', 'nothing')", name=op.f("ck_lookup_said_before")),
        sa.ForeignKeyConstraint(["tenant", "bank", "seq"], ["event.tenant", "event.bank", "event.seq"], name=op.f("fk_lookup_event")),
        sa.PrimaryKeyConstraint("tenant", "bank", "seq", name=op.f("pk_lookup")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "drift",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("snapshot", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("levels", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "snapshot"], ["snapshot.tenant", "snapshot.id"], name=op.f("fk_drift_snapshot")),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name=op.f("fk_drift_bank")),
        sa.PrimaryKeyConstraint("tenant", "snapshot", name=op.f("pk_drift")),
    )
    op.create_index(op.f("ix_drift_tenant_bank_created_at"), "drift", ["tenant", "bank", "created_at"])
    op.create_table(
        "probe_set",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("probes", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name=op.f("fk_probe_set_bank")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_probe_set")),
        sa.UniqueConstraint("tenant", "bank", "name", name=op.f("uq_probe_set_tenant_bank_name")),
    )
    postgresql = op.get_bind().dialect.name == "postgresql"
    if postgresql:
        for table in ("bank", "event"):
            op.execute(f"ALTER TABLE {table} NO FORCE ROW LEVEL SECURITY")
    for rows in _events(op.get_bind()):
        op.bulk_insert(lookup, rows)
    if postgresql:
        for table in ("bank", "event"):
            op.execute(f"ALTER TABLE {table} FORCE ROW LEVEL SECURITY")
        for name, may in APP_MAY.items():
            op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY own ON {name} TO {APP} USING (tenant = {OWN}) WITH CHECK (tenant = {OWN})")
            op.execute(f"GRANT {may} ON {name} TO {APP}")


def downgrade() -> None:
    for name in reversed(APP_MAY):
        op.drop_table(name)


def _events(connection: sa.Connection) -> Iterator[list[dict[str, Any]]]:
    """Rows of the new table for the events that there are, in pages."""
    banks = connection.execute(sa.text("SELECT tenant, id FROM bank ORDER BY tenant, id")).all()
    columns = [sa.column(name) for name in ("seq", "body")] + [sa.column("created_at", sa.DateTime(timezone=True))]
    table = sa.table("event", sa.column("tenant"), sa.column("bank"), *columns)
    for tenant, bank in banks:
        after = 0
        mine = sa.select(*columns).select_from(table).where(table.c.tenant == tenant, table.c.bank == bank).order_by(table.c.seq)
        while found := connection.execute(mine.where(table.c.seq > after).limit(PAGE)).all():
            after = found[-1].seq
            yield [
                {
                    "tenant": tenant,
                    "bank": bank,
                    "seq": row.seq,
                    "at": int((row.created_at if row.created_at.tzinfo else row.created_at.replace(tzinfo=UTC)).timestamp()),
                    "text": _searched(row.body),
                }
                for row in found
            ]


def _searched(body: bytes | None) -> str | None:
    try:
        told = msgspec.msgpack.decode(body or b"", type=dict[str, Any])
    except msgspec.MsgspecError:
        return None  # redacted
    texts = [told.get("input"), told.get("right"), told.get("wrong"), *_strings(told.get("metadata"))]
    return unicodedata.normalize("NFKC", "\n".join(text for text in texts if text)).casefold()


def _strings(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif value is not None:
        yield str(value)
