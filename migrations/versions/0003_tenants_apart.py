"""Tenants apart: row-level security; what banks owe a consolidation; blobs that are being deleted; tombstones of erased tenants.

PostgreSQL gets two roles. The service enters a transaction as `palimpsest_app`, which sees the rows of the tenant that the transaction
names and no others, or as `palimpsest_sweeper`, which sees all tenants' jobs, blobs and idempotency keys, and nothing taught. The tables
belong to the role that migrates. It is held to these policies as well (FORCE), so that a connection without a role sees nothing either.

A later migration that changes rows says `ALTER TABLE … NO FORCE ROW LEVEL SECURITY` before and `FORCE` after, in its own transaction;
changes of the schema need nothing. A later table needs its own policies and grants, and a test finds one that has none.

Banks that are there already start without a debt: what was taught since their last consolidation was never counted by bank.
"""

import sqlalchemy as sa
from alembic import op

from service.settings import SettingsRefused

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

APP, SWEEPER = "palimpsest_app", "palimpsest_sweeper"
ALL = "SELECT, INSERT, UPDATE, DELETE"
APP_MAY = {  # what is only ever added to can only be added to, or deleted whole
    "tenant": "SELECT, INSERT, UPDATE (name), DELETE",
    "api_key": ALL,
    "audit": "SELECT, INSERT, DELETE",
    "bank": ALL,
    "session": ALL,
    "response": "SELECT, INSERT, DELETE",
    "event": "SELECT, INSERT, UPDATE (body, embedding, salt, input_hash, redacted_at), DELETE",
    "snapshot": "SELECT, INSERT, UPDATE (destroyed_at), DELETE",
    "head": "SELECT, INSERT, DELETE",
    "forget": "SELECT, INSERT, UPDATE (job), DELETE",
    "tombstone": ALL,
    "job": ALL,
    "idempotency": ALL,
    "blob": ALL,
    "erased_tenant": "SELECT, INSERT",
}
SWEEPER_MAY = {
    "tenant": "SELECT (id, name)",
    "bank": "SELECT (tenant, id, debt_tokens, debt_events, debt_since)",
    "job": "SELECT, UPDATE (status, progress, attempts, claimed_by, claim_until, result, error, updated_at, finished_at)",
    "idempotency": "SELECT (status, created_at), DELETE",
    "blob": "SELECT (tenant, sha256, state, created_at)",
    "erased_tenant": "SELECT",
}
OWN = "current_setting('app.tenant', true)"  # NULL or empty outside a tenant's transaction: no row is equal to either
KEY = "decode(nullif(current_setting('app.key', true), ''), 'hex')"
ENTER = "WITH INHERIT FALSE, SET TRUE"  # an inherited role's policies would apply to the owner, too: all tenants' jobs, without asking
REFUSED = {"42501", "42704", "22023", "42710", "23505"}  # may not; no such role, in two forms; there is one, in two forms


def upgrade() -> None:
    with op.batch_alter_table("bank") as table:
        table.add_column(sa.Column("debt_tokens", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("debt_events", sa.Integer(), server_default="0", nullable=False))
        table.add_column(sa.Column("debt_since", sa.DateTime(timezone=True), nullable=True))
    with op.batch_alter_table("blob") as table:
        table.add_column(sa.Column("birth", sa.String(length=64), server_default="0", nullable=False))
    _blob_states("'pending', 'live', 'condemned', 'deleting'")
    op.create_table(
        "erased_tenant",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.Column("erased_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_erased_tenant")),
    )
    if op.get_bind().dialect.name == "postgresql":
        _make_roles(op.get_bind())
        for name in APP_MAY:
            _protect(name)


def downgrade() -> None:
    """The roles stay: other databases of the server may use them, and a role without grants can do nothing here."""
    if op.get_bind().dialect.name == "postgresql":
        for name in APP_MAY:
            _unprotect(name)
        op.execute(f"REVOKE USAGE ON SCHEMA {_schema(op.get_bind())} FROM {APP}, {SWEEPER}")
    op.drop_table("erased_tenant")
    op.execute("UPDATE blob SET state = 'condemned' WHERE state = 'deleting'")
    _blob_states("'pending', 'live', 'condemned'")
    with op.batch_alter_table("blob") as table:
        table.drop_column("birth")
    with op.batch_alter_table("bank") as table:
        for name in ("debt_since", "debt_events", "debt_tokens"):
            table.drop_column(name)


def _blob_states(states: str) -> None:
    with op.batch_alter_table("blob") as table:
        table.drop_constraint(op.f("ck_blob_state"), type_="check")
        table.create_check_constraint(op.f("ck_blob_state"), f"state IN ({states})")


def _protect(name: str) -> None:
    column = "id" if name in ("tenant", "erased_tenant") else "tenant"
    op.execute(f"ALTER TABLE {name} ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    op.execute(f"CREATE POLICY own ON {name} TO {APP} USING ({column} = {OWN}) WITH CHECK ({column} = {OWN})")
    op.execute(f"GRANT {APP_MAY[name]} ON {name} TO {APP}")
    if name == "api_key":  # who sends a key is not known yet: the row tells
        op.execute(f"CREATE POLICY key ON {name} FOR SELECT TO {APP} USING (lookup_hash = {KEY})")
    if name in SWEEPER_MAY:
        op.execute(f"CREATE POLICY sweep ON {name} TO {SWEEPER} USING (true) WITH CHECK (true)")
        op.execute(f"GRANT {SWEEPER_MAY[name]} ON {name} TO {SWEEPER}")


def _unprotect(name: str) -> None:
    for policy in ("own", "key", "sweep"):
        op.execute(f"DROP POLICY IF EXISTS {policy} ON {name}")
    op.execute(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY, DISABLE ROW LEVEL SECURITY")
    op.execute(f"REVOKE ALL ON {name} FROM {APP}, {SWEEPER}")


def _make_roles(connection: sa.Connection) -> None:
    """Both roles, for the migrating role to enter; another database of the server may have them, or be making them at this moment.

    Raises:
        SettingsRefused: the migrating role may not; the message has the statements for one who may.
    """
    for role in (APP, SWEEPER):
        if not _allowed(connection, f"SET LOCAL ROLE {role}"):
            _allowed(connection, f"CREATE ROLE {role} NOLOGIN")
            _allowed(connection, f"GRANT {role} TO CURRENT_USER {ENTER}")
    closed = [role for role in (APP, SWEEPER) if not _allowed(connection, f"SET LOCAL ROLE {role}")]
    if closed:
        raise SettingsRefused(_advice(connection, closed))
    op.execute(f"GRANT USAGE ON SCHEMA {_schema(connection)} TO {APP}, {SWEEPER}")


def _advice(connection: sa.Connection, closed: list[str]) -> str:
    query = sa.text("SELECT rolname FROM pg_roles WHERE rolname = ANY(:names)")
    there = set(connection.execute(query, {"names": closed}).scalars())
    mine = connection.execute(sa.text("SELECT quote_ident(current_user)")).scalar()
    needed = [f"CREATE ROLE {role} NOLOGIN;" for role in closed if role not in there]
    needed.append(f"GRANT {', '.join(closed)} TO {mine} {ENTER};")
    return (
        f"the role {mine} of PALIMPSEST_DATABASE may not make or enter the roles that keep tenants apart;"
        f" run once as a superuser, then start again: {' '.join(needed)}"
    )


def _allowed(connection: sa.Connection, statement: str) -> bool:
    """Whether the statement is taken; what it did to the session's role is undone."""
    try:
        with connection.begin_nested() as point:
            connection.exec_driver_sql(statement)
            if statement.startswith("SET"):
                point.rollback()
    except sa.exc.DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) not in REFUSED:
            raise
        return False
    return True


def _schema(connection: sa.Connection) -> str:
    return str(connection.execute(sa.text("SELECT quote_ident(current_schema())")).scalar())
