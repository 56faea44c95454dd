"""Sign-ins to the console: who may come with a cookie instead of a key, and until when. The cookie itself is kept as a hash only."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

APP = "palimpsest_app"
OWN = "current_setting('app.tenant', true)"  # as in migration 0003
KEY = "decode(nullif(current_setting('app.key', true), ''), 'hex')"


def upgrade() -> None:
    """Make the table, and keep tenants apart in it; a cookie's hash finds its row before anyone knows whose it is."""
    op.create_table(
        "sign_in",
        sa.Column("tenant", sa.String(length=64), nullable=False),
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("key", sa.String(length=64), nullable=False),
        sa.Column("lookup_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["tenant", "key"], ["api_key.tenant", "api_key.id"], name=op.f("fk_sign_in_key")),
        sa.PrimaryKeyConstraint("tenant", "id", name=op.f("pk_sign_in")),
        sa.UniqueConstraint("lookup_hash", name=op.f("uq_sign_in_lookup_hash")),
    )
    if op.get_bind().dialect.name == "postgresql":
        op.execute("ALTER TABLE sign_in ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
        op.execute(f"CREATE POLICY own ON sign_in TO {APP} USING (tenant = {OWN}) WITH CHECK (tenant = {OWN})")
        op.execute(f"CREATE POLICY key ON sign_in FOR SELECT TO {APP} USING (lookup_hash = {KEY})")
        op.execute(f"GRANT SELECT, INSERT, DELETE ON sign_in TO {APP}")


def downgrade() -> None:
    """Everybody is signed out."""
    op.drop_table("sign_in")
