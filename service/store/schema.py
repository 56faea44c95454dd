"""The schema's versions: brought up at every start, taken back by hand, looked up by the doctor and by processes that wait for it."""

import contextlib
import os
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, make_url

from service.store.failures import translated

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; safe to call at every start.

    Raises:
        StorageFull, Capacity: the database cannot be written or reached; the schema is as it was.
    """
    with translated():
        _make_private(url)
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


def unsafe_settings(url: str) -> list[str]:
    """The settings of the database, `name = value`, by which it acknowledges commits that its disk does not have yet."""
    if make_url(url).get_backend_name() == "sqlite":
        return []
    engine = create_engine(_sync(url))
    try:
        with engine.connect() as connection:
            said = {name: str(connection.exec_driver_sql(f"SHOW {name}").scalar()) for name in ("synchronous_commit", "fsync")}
    finally:
        engine.dispose()
    return [f"{name} = {value}" for name, value in said.items() if value == "off"]


def newest_revision() -> str:
    """The schema's revision that this version of the code works on."""
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None, "there is a first migration"
    return head


def _make_private(url: str) -> None:
    """Make the file of an SQLite database, if it is not there, so that its user alone can read it: what belongs to it takes its mode.

    The process's umask may be that of a program which has the service in itself, and is not ours to set.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        with contextlib.suppress(OSError):  # what keeps it from being made, the database itself is going to tell
            os.close(os.open(parsed.database, os.O_RDWR | os.O_CREAT, 0o600))


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = _sync(url)
    return config


def _sync(url: str) -> str:
    return url.replace("sqlite+aiosqlite", "sqlite")
