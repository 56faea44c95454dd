"""Certificates of forgetting outlive the bank that was forgotten in."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

APP = "palimpsest_app"


def upgrade() -> None:
    with op.batch_alter_table("forget") as table:
        table.add_column(sa.Column("bank_deleted_at", sa.DateTime(timezone=True), nullable=True))
        table.drop_constraint("fk_forget_bank", type_="foreignkey")
        table.create_foreign_key(op.f("fk_forget_tenant"), "tenant", ["tenant"], ["id"])
    _postgresql(f"GRANT UPDATE (reason, bank_deleted_at) ON forget TO {APP}")


def downgrade() -> None:
    """Certificates of banks that were deleted are lost."""
    _postgresql(f"REVOKE UPDATE (reason, bank_deleted_at) ON forget FROM {APP}", "ALTER TABLE forget NO FORCE ROW LEVEL SECURITY")
    op.execute("DELETE FROM forget WHERE bank_deleted_at IS NOT NULL")
    _postgresql("ALTER TABLE forget FORCE ROW LEVEL SECURITY")
    with op.batch_alter_table("forget") as table:
        table.drop_constraint(op.f("fk_forget_tenant"), type_="foreignkey")
        table.create_foreign_key("fk_forget_bank", "bank", ["tenant", "bank"], ["tenant", "id"])
        table.drop_column("bank_deleted_at")


def _postgresql(*statements: str) -> None:
    if op.get_bind().dialect.name == "postgresql":
        for statement in statements:
            op.execute(statement)
