"""Alembic's entry: one history for both dialects, run by `service.store.schema.migrate`.

One transaction on both dialects, behind a lock: a process that is killed half way leaves the schema as it was, and of processes that
start together one migrates while the others wait.
"""

from alembic import context
from sqlalchemy import Connection, create_engine, pool
from sqlalchemy.engine import make_url

from service.store.tables import metadata

LOCK = 0x70616C696D  # any number that nobody else uses for an advisory lock in this database
WAIT_S = 60  # for another process that migrates


def run() -> None:
    """Migrate in one transaction."""
    url = make_url(context.config.attributes["url"])
    sqlite = url.get_backend_name() == "sqlite"
    if not sqlite:
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=pool.NullPool, connect_args={"timeout": WAIT_S} if sqlite else {})
    with engine.connect() as connection:
        _begin(connection)
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=sqlite, transactional_ddl=True)
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    engine.dispose()


def _begin(connection: Connection) -> None:
    if connection.dialect.name == "sqlite":
        connection.connection.driver_connection.isolation_level = None  # the driver would commit each CREATE TABLE by itself
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    else:
        connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({LOCK})")


run()
