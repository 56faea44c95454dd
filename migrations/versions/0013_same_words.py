"""Corrections of inputs in the same words are found by one hash. Those that are there already have none, and are found by their letters."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("event", sa.Column("words_hash", sa.LargeBinary(length=16), nullable=True))
    hashed = sa.text("words_hash IS NOT NULL")
    op.create_index("ix_event_words", "event", ["tenant", "bank", "words_hash", "seq"], sqlite_where=hashed, postgresql_where=hashed)
    if op.get_bind().dialect.name == "postgresql":
        op.execute("GRANT UPDATE (words_hash) ON event TO palimpsest_app")  # which is taken away with the text


def downgrade() -> None:
    op.drop_index("ix_event_words", "event")
    op.execute("ALTER TABLE event DROP COLUMN words_hash")  # not by a copy of the table: others refer to it
