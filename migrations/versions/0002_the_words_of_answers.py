"""The words of answers: an embedding beside each response.

Responses that are there already get none: the weights that hold their events were folded without it.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    with op.batch_alter_table("response") as table:
        table.add_column(sa.Column("embedding", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    """Take the column away; weights that were folded with it are not those that a fold gives then."""
    with op.batch_alter_table("response") as table:
        table.drop_column("embedding")
