"""The schema's versions: brought up at every start, taken back by hand, looked up by the doctor and by processes that wait for it."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from service.store.failures import translated

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; safe to call at every start.

    Raises:
        StorageFull, Capacity: the database cannot be written or reached; the schema is as it was.
    """
    with translated():
        command.upgrade(_alembic(url), revision)


def downgrade(url: str, revision: str) -> None:
    """Take the schema back to `revision`, for tests and for a retreat from an upgrade."""
    command.downgrade(_alembic(url), revision)


def current_revision(url: str) -> str | None:
    """The schema's revision, None for an empty database."""
    engine = create_engine(_sync(url))
    try:
        with engine.connect() as connection:
            return MigrationContext.configure(connection).get_current_revision()
    finally:
        engine.dispose()


def newest_revision() -> str:
    """The schema's revision that this version of the code works on."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None, "there is a first migration"
    return head


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = _sync(url)
    return config


def _sync(url: str) -> str:
    return url.replace("sqlite+aiosqlite", "sqlite")
