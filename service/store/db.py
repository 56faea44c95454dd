"""The database: engines for both dialects, transactions, and the one place where a driver's error becomes one of ours.

- A write is one transaction. On SQLite it begins with BEGIN IMMEDIATE behind a lock of this process: with the driver's own late
  begin, concurrent read-modify-writes lose updates without an error.
- SQLite is opened with WAL, synchronous=FULL (a commit that was acknowledged is on the disk) and secure_delete (erased text is
  overwritten).
"""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, event, exc
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import Capacity, PalimpsestError, StorageFull

MIGRATIONS = Path(__file__).resolve().parents[2] / "migrations"
COMPACT_MS = 200  # how long emptying the write-ahead log waits for readers; its job tries again
BUSY_MS = 5_000  # how long a SQLite statement waits for another process
POOL = 10  # connections to PostgreSQL; SQLite readers too
WAIT_S = 10.0  # for a free connection or the writer's turn, then 503
FULL = ("database or disk is full", "disk I/O error", "No space left on device", "could not extend file", "File too large")
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "secure_delete=ON")


class CommitUnknown(PalimpsestError):
    """It is unknown whether the write was kept; read the bank's events, or send it again with the same Idempotency-Key."""

    status = 503
    code = "capacity"


class Database:
    """Connections and transactions of one database."""

    def __init__(self, url: str) -> None:
        self.dialect = make_url(url).get_backend_name()
        self._engine = _open(url)
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None

    @contextlib.asynccontextmanager
    async def write(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that may write: committed and durable when the block ends, rolled back when it raises.

        Raises:
            StorageFull: nothing was kept. Capacity: nothing was kept. CommitUnknown: the connection broke inside the commit.
        """
        async with self._turn():
            with _translated():
                connection = await self._engine.connect()
            try:
                with _translated():
                    if self.dialect == "sqlite":
                        await connection.exec_driver_sql("BEGIN IMMEDIATE")
                    yield connection
                    try:
                        await connection.commit()
                    except (exc.InterfaceError, exc.OperationalError) as error:
                        if error.connection_invalidated:
                            raise CommitUnknown() from error
                        raise
            except BaseException:
                with contextlib.suppress(exc.DBAPIError):
                    await connection.rollback()
                raise
            finally:
                await connection.close()

    @contextlib.asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """One transaction that only reads, at one consistent state."""
        with _translated():
            async with self._engine.connect() as connection:
                if self.dialect == "sqlite":
                    await connection.exec_driver_sql("BEGIN")
                else:
                    await connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
                try:
                    yield connection
                finally:
                    await connection.rollback()

    async def compact(self) -> None:
        """Move what is in SQLite's write-ahead log into the file and empty the log, so that erased text is in neither.

        Raises:
            Capacity: somebody reads the file, a backup perhaps, and the log could not be emptied.
        """
        if self.dialect == "sqlite":
            async with self._turn(), self._engine.connect() as connection:
                await connection.exec_driver_sql(f"PRAGMA busy_timeout={COMPACT_MS}")  # other writers wait for this
                try:
                    busy = (await connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")).scalar()
                finally:
                    await connection.exec_driver_sql(f"PRAGMA busy_timeout={BUSY_MS}")
            if busy:
                raise Capacity("the write-ahead log is being read and cannot be emptied", retry_after_s=5)

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        if self._writer is None:
            yield
            return
        try:
            await asyncio.wait_for(self._writer.acquire(), WAIT_S)
        except TimeoutError:
            raise Capacity("the database is busy", retry_after_s=1) from None
        try:
            yield
        finally:
            self._writer.release()


def migrate(url: str, revision: str = "head") -> None:
    """Bring the schema to `revision`; safe to call at every start.

    Raises:
        StorageFull, Capacity: the database cannot be written or reached; the schema is as it was.
    """
    with _translated():
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


def _alembic(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.set_main_option("path_separator", "os")
    config.attributes["url"] = _sync(url)
    return config


def _sync(url: str) -> str:
    return url.replace("sqlite+aiosqlite", "sqlite")


def _open(url: str) -> AsyncEngine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        options = "-c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000"
        return create_async_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=WAIT_S,
            pool_pre_ping=True,
            connect_args={"options": options},
        )
    engine = create_async_engine(
        parsed.set(drivername="sqlite+aiosqlite"),
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=WAIT_S,
        pool_reset_on_return=None,  # every transaction is ended above; one more rollback is one more trip to the driver's thread
    )

    @event.listens_for(engine.sync_engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        for pragma in PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    return engine


@contextlib.contextmanager
def _translated():  # type: ignore[no-untyped-def]  # noqa: ANN202
    try:
        yield
    except exc.TimeoutError as error:
        raise Capacity("the database is busy", retry_after_s=1) from error
    except (exc.OperationalError, exc.InternalError, exc.InterfaceError) as error:
        said = str(error.orig)
        if any(sign in said for sign in FULL):
            raise StorageFull() from error
        why = type(error.orig).__name__
        raise Capacity(f"the database cannot be used now ({why}); see that it runs and can be reached", retry_after_s=1) from error
