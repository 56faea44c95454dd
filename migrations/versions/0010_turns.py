"""Turns of conversations in the ledger, and where a bank's language model has slept."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    _event_kinds("'correction', 'turn'")
    turns = sa.text("kind = 'turn'")
    op.create_index("ix_event_turns", "event", ["tenant", "bank", "seq"], sqlite_where=turns, postgresql_where=turns)
    with op.batch_alter_table("snapshot") as table:
        table.add_column(sa.Column("sleeps", sa.JSON(none_as_null=True), nullable=True))
        table.add_column(sa.Column("heard", sa.JSON(none_as_null=True), nullable=True))


def downgrade() -> None:
    """Only without turns: an older version could neither fold them nor leave them out of the hash chain."""
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE event NO FORCE ROW LEVEL SECURITY")
    if op.get_bind().execute(sa.text("SELECT 1 FROM event WHERE kind = 'turn' LIMIT 1")).first() is not None:
        raise RuntimeError("there are turns of conversations in the ledger; delete the banks that have them before going back")
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE event FORCE ROW LEVEL SECURITY")
    with op.batch_alter_table("snapshot") as table:
        table.drop_column("heard")
        table.drop_column("sleeps")
    op.drop_index("ix_event_turns", "event")
    _event_kinds("'correction'")


def _event_kinds(kinds: str) -> None:
    with op.batch_alter_table("event") as table:
        table.drop_constraint(op.f("ck_event_kind"), type_="check")
        table.create_check_constraint(op.f("ck_event_kind"), f"kind IN ({kinds})")
