"""Proposals: what users seem to have corrected, until somebody confirms or dismisses it."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

APP = "palimpsest_app"
OWN = "current_setting('app.tenant', true)"  # as in 0003


def upgrade() -> None:
    op.create_table(
        "proposal",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("input", sa.Text(), nullable=False),
        sa.Column("wrong", sa.Text(), nullable=False),
        sa.Column("right", sa.Text(), nullable=False),
        sa.Column("session", sa.String(length=128), nullable=True),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name="fk_proposal_bank"),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_proposal")),
        sa.UniqueConstraint("tenant", "bank", "digest", name=op.f("uq_proposal_tenant_bank_digest")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE proposal ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON proposal TO {APP} USING (tenant = {OWN}) WITH CHECK (tenant = {OWN})")
        op.execute(f"GRANT SELECT, INSERT, DELETE ON proposal TO {APP}")


def downgrade() -> None:
    op.drop_table("proposal")
