"""The sweeper sees how much a bank was taught: a young one is due for a consolidation when it owes a good part of that."""

from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT SELECT (seq) ON bank TO palimpsest_sweeper")


def downgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute("REVOKE SELECT (seq) ON bank FROM palimpsest_sweeper")
