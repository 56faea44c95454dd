"""Alembic's entry: one history for both dialects, run by `service.store.db.migrate`."""

from alembic import context
from sqlalchemy import create_engine, pool
from sqlalchemy.engine import make_url

from service.store.tables import metadata


def run() -> None:
    """Migrate in one transaction."""
    url = make_url(context.config.attributes["url"])
    if url.get_backend_name() == "postgresql":
        url = url.set(drivername="postgresql+psycopg")
    engine = create_engine(url, poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=metadata, render_as_batch=connection.dialect.name == "sqlite")
        with context.begin_transaction():
            context.run_migrations()
    engine.dispose()


run()
