"""Versions: who taught a correction, imported snapshots, bundles on their way out of the service or into it, and branches.

Corrections from before this have no key: what they were taught by was never kept.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

APP, SWEEPER = "palimpsest_app", "palimpsest_sweeper"
OWN = "current_setting('app.tenant', true)"  # as in 0003
KINDS = "'genesis', 'manual', 'auto', 'consolidation', 'pre_rollback', 'rollback', 'rebuild'"


def upgrade() -> None:
    with op.batch_alter_table("event") as table:
        table.add_column(sa.Column("taught_by", sa.String(length=64), nullable=True))
    _snapshot_kinds(f"{KINDS}, 'import'")
    op.create_table(
        "bundle",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("spans", sa.JSON(), nullable=False),
        sa.Column("manifest", sa.LargeBinary(), nullable=False),
        sa.Column("bytes", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name=op.f("fk_bundle_bank")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_bundle")),
    )
    op.create_index(op.f("ix_bundle_created_at"), "bundle", ["created_at"])
    op.create_table(
        "bundle_part",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("place", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["tenant", "bundle"], ["bundle.tenant", "bundle.id"], name=op.f("fk_bundle_part_bundle"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("tenant", "bundle", "place", name=op.f("pk_bundle_part")),
    )
    op.create_table(
        "branch",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("bank", sa.String(length=64), nullable=False),
        sa.Column("spans", sa.JSON(), nullable=False),
        sa.Column("created_by", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "id"], ["bank.tenant", "bank.id"], name=op.f("fk_branch_itself")),
        sa.ForeignKeyConstraint(["tenant", "bank"], ["bank.tenant", "bank.id"], name=op.f("fk_branch_bank")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_branch")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute(f"GRANT UPDATE (label, note, pinned) ON snapshot TO {APP}")
        for name in ("bundle", "bundle_part", "branch"):
            op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
            op.execute(f"CREATE POLICY own ON {name} TO {APP} USING (tenant = {OWN}) WITH CHECK (tenant = {OWN})")
            op.execute(f"GRANT SELECT, INSERT, DELETE ON {name} TO {APP}")
        op.execute(f"CREATE POLICY sweep ON bundle TO {SWEEPER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT SELECT (created_at), DELETE ON bundle TO {SWEEPER}")  # its parts go with it


def downgrade() -> None:
    """An imported snapshot becomes a manual one: its weights stay what they are. A branch becomes a bank like any other."""
    op.drop_table("branch")
    op.drop_table("bundle_part")
    op.drop_table("bundle")
    _postgresql("ALTER TABLE snapshot NO FORCE ROW LEVEL SECURITY")
    op.execute("UPDATE snapshot SET kind = 'manual' WHERE kind = 'import'")
    _postgresql("ALTER TABLE snapshot FORCE ROW LEVEL SECURITY", f"REVOKE UPDATE (label, note, pinned) ON snapshot FROM {APP}")
    _snapshot_kinds(KINDS)
    with op.batch_alter_table("event") as table:
        table.drop_column("taught_by")


def _snapshot_kinds(kinds: str) -> None:
    with op.batch_alter_table("snapshot") as table:
        table.drop_constraint(op.f("ck_snapshot_kind"), type_="check")
        table.create_check_constraint(op.f("ck_snapshot_kind"), f"kind IN ({kinds})")


def _postgresql(*statements: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in statements:
            op.execute(statement)
