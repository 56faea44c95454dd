"""What was forgotten or quarantined since a time, found by the time: asked before every reply is kept that quotes a memory."""

from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

TABLES = ("forget", "quarantine")


def upgrade() -> None:
    for table in TABLES:
        op.create_index(op.f(f"ix_{table}_tenant_created_at"), table, ["tenant", "created_at"])


def downgrade() -> None:
    for table in TABLES:
        op.drop_index(op.f(f"ix_{table}_tenant_created_at"), table)
