"""The database: engines for both dialects, and transactions.

- A write is one transaction. On SQLite it begins with BEGIN IMMEDIATE behind a lock of this process: with the driver's own late
  begin, concurrent read-modify-writes lose updates without an error.
- SQLite is opened with WAL, synchronous=FULL (a commit that was acknowledged is on the disk) and secure_delete (erased text is
  overwritten).
- On PostgreSQL every transaction says for which tenant it is, and row-level security holds it to that (migration 0003), whatever a
  statement forgets. Only `sweep` sees rows of all tenants: those about jobs, blobs and replies, none with a memory's text or weights.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Select, event, exc
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.engine import make_url
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service import tracing
from service.errors import Capacity
from service.store.asking import WORD, Answering, Asking, Lines, OneFile, Rows, Values, local
from service.store.failures import CommitUnknown, translated
from service.store.prepared import PLANNED_ONCE, Connection
from service.store.sending import Senders
from service.store.telling import Message, OneWriter
from service.tracing import Stage

T = TypeVar("T")

APP, SWEEPER = "palimpsest_app", "palimpsest_sweeper"  # roles; migration 0003 makes them
OPTIONS = f"-c role={APP} -c statement_timeout=30000 -c idle_in_transaction_session_timeout=60000"
COMPACT_MS = 200  # how long emptying the write-ahead log waits for readers; its job tries again
BUSY_MS = 5_000  # how long a SQLite statement waits for another process
POOL = 10  # connections to PostgreSQL; SQLite readers too
WAIT_S = 10.0  # for a free connection or the writer's turn, then 503
BLOBS_S = 600  # longer than any work at blobs: afterwards the server takes a process that said nothing for dead
PRAGMAS = ("journal_mode=WAL", "synchronous=FULL", f"busy_timeout={BUSY_MS}", "foreign_keys=ON", "secure_delete=ON")


class Database:
    """Connections and transactions of one database."""

    def __init__(self, url: str, *, stage: Stage = tracing.span) -> None:
        self.dialect = make_url(url).get_backend_name()
        self._stage, self._told = stage, {"db.system.name": self.dialect}
        self._engine = _open(url)
        self._writer = asyncio.Lock() if self.dialect == "sqlite" else None
        self._at_blobs = asyncio.Lock()
        self._short = _short(url)
        self._file = OneWriter(make_url(url).database or "", _prepare) if self.dialect == "sqlite" else None
        self._senders = Senders(partial(_connect, url, OPTIONS))

    def write(self, tenant: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction of a tenant that may write: committed and durable when the block ends, rolled back when it raises.

        Raises:
            StorageFull, Capacity: nothing was kept. NotFound: nothing was kept, since the bank or the tenant of a row is gone.
            CommitUnknown: the connection broke inside the commit.
        """
        return self._staged("write", self._write(local("app.tenant", tenant)))

    def read(self, tenant: str) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction of a tenant that only reads, at one consistent state."""
        return self._staged("read", self._read(local("app.tenant", tenant)))

    def read_key(self, lookup_hash: bytes) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction that reads the API key of this hash, before anyone knows whose it is, and nothing else."""
        return self._staged("read", self._read(local("app.key", lookup_hash.hex())))

    def asking(self, tenant: str) -> Asking:
        """For single statements of a tenant that only read, each in a transaction of its own; raises as `read`."""

        async def answer(statement: Select[Any], values: Values) -> Rows:
            with translated(), self._stage("question", "client", self._told):
                return await self._short.ask(tenant, statement, values)

        return Asking(answer)

    async def at_once(self, tenant: str, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives of the connection of one transaction as of `write`, which it may wait for and for nothing else.

        On SQLite a tenth of `write`'s price: all of it is run in one go, in a thread. Raises as `write`, and what `work` raises.
        """
        if self._file is None:
            async with self.write(tenant) as connection:
                return await work(connection)
        return await self._in_one_go(partial(self._file.tell, work))

    async def send(self, tenant: str, message: Message, *, durable: bool = True) -> list[Any]:
        """The rows of the last of some statements, none of which depends on another's: one transaction of the tenant in one go.

        One that is not `durable` may be lost with the server, together with all that was committed after it.

        Raises:
            StorageFull, Capacity, NotFound: as `write`. CommitUnknown: the connection broke before the answer came. psycopg.Error: others.
        """
        if self._file is not None:
            return await self._in_one_go(partial(self._file.send, message, durable=durable))
        with translated(), self._stage("write_transaction", "client", self._told):
            return await self._senders.tell(tenant, message, durable=durable)

    def sweep(self) -> AbstractAsyncContextManager[AsyncConnection]:
        """One transaction over all tenants' jobs, blobs and idempotency keys, that may write; raises as `write`."""
        return self._staged("write", self._write(f"SET LOCAL ROLE {SWEEPER}"))

    @contextlib.asynccontextmanager
    async def at_blobs(self, tenant: str, *, alone: bool = False) -> AsyncIterator[None]:
        """Whoever writes or deletes blobs of the tenant does it inside; of this process one at a time, and none beside one that is `alone`.

        So who is alone knows that all that is half done was left by a process that died. Begin no such block inside a transaction. The
        lock goes with the process that held it. A SQLite file has one process, and what comes beside it for a moment is not kept out.

        Raises:
            Capacity: somebody is at them for too long.
        """
        async with self._at_blobs:
            if self.dialect == "sqlite":
                yield
                return
            with translated():
                connection = await self._begun(_blobs_lock(tenant, alone=alone))
            try:
                yield
            finally:
                try:
                    with contextlib.suppress(exc.DBAPIError):
                        await connection.rollback()
                finally:
                    await connection.close()

    async def ping(self) -> None:
        """Ask the database for nothing; raises `Capacity` when it cannot be reached."""
        with translated():
            connection = await self._begun("BEGIN")
            await connection.rollback()
            await connection.close()

    def _staged(self, what: str, transaction: AbstractAsyncContextManager[AsyncConnection]) -> AbstractAsyncContextManager[AsyncConnection]:
        return tracing.around(transaction, self._stage(f"{what}_transaction", "client", self._told))

    @contextlib.asynccontextmanager
    async def _write(self, whose: str) -> AsyncIterator[AsyncConnection]:
        async with self._turn():
            with translated():
                connection = await self._begun("BEGIN IMMEDIATE" if self.dialect == "sqlite" else f"BEGIN; {whose}")
            try:
                with translated():
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
    async def _read(self, whose: str) -> AsyncIterator[AsyncConnection]:
        with translated():
            begin = "BEGIN" if self.dialect == "sqlite" else f"BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; {whose}"
            connection = await self._begun(begin)
            try:
                yield connection
            finally:
                try:
                    await connection.rollback()
                finally:
                    await connection.close()

    async def _begun(self, statement: str) -> AsyncConnection:
        """A connection in a transaction that was begun with one round trip. One that the server has closed meanwhile is replaced."""
        for last in (False, True):
            connection = await self._engine.connect()
            try:
                await connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
            except BaseException as error:
                await connection.close()
                if last or not (isinstance(error, exc.DBAPIError) and error.connection_invalidated):
                    raise
            else:
                return connection
        raise AssertionError("the second try returns or raises")

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
        await self._short.close()
        await self._senders.close()
        if self._file is not None:
            await self._file.close()
        await self._engine.dispose()

    async def _in_one_go(self, tell: Callable[[], Coroutine[Any, Any, T]]) -> T:
        with self._stage("write_transaction", "client", self._told):
            async with self._turn():
                with translated():
                    return await tell()

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


def _blobs_lock(tenant: str, *, alone: bool) -> str:
    """The statements that begin a transaction which holds the tenant's blobs."""
    if not WORD.fullmatch(tenant):
        raise ValueError(f"no tenant can be {tenant!r}")
    lock = "pg_advisory_xact_lock" if alone else "pg_advisory_xact_lock_shared"
    patient = f"SET LOCAL idle_in_transaction_session_timeout = '{BLOBS_S}s'"
    return f"BEGIN; {patient}; SELECT {lock}(hashtextextended('blobs of {tenant}', 0))"


def make_url_safe(url: str) -> str:
    """The URL as it may be shown: without its password."""
    return make_url(url).render_as_string(hide_password=True)


def _open(url: str) -> AsyncEngine:
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return create_async_engine(
            parsed.set(drivername="postgresql+psycopg"),
            pool_size=POOL,
            max_overflow=0,
            pool_timeout=WAIT_S,
            isolation_level="AUTOCOMMIT",  # we say BEGIN ourselves, in one message with what has to follow it
            connect_args={"options": OPTIONS},
        )
    engine = create_async_engine(
        parsed.set(drivername="sqlite+aiosqlite"),
        pool_size=POOL,
        max_overflow=0,
        pool_timeout=WAIT_S,
        pool_reset_on_return=None,  # every transaction is ended above; one more rollback is one more trip to the driver's thread
    )

    event.listen(engine.sync_engine, "connect", lambda connection, _: _prepare(connection))
    return engine


def _prepare(connection: Any) -> None:  # noqa: ANN401 (the driver's, or a guise of it)
    connection.isolation_level = None  # we say BEGIN ourselves
    cursor = connection.cursor()
    for pragma in PRAGMAS:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _short(url: str) -> Answering:
    """Who answers short questions."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "postgresql":
        return Lines(partial(_connect, url, f"{OPTIONS} -c default_transaction_read_only=on"))
    return OneFile(parsed.database or "", BUSY_MS)


async def _connect(url: str, options: str) -> Connection:
    """A connection of its own to where the engine's go, which keeps its plans."""
    args, kwargs = dialect().create_connect_args(make_url(url))  # type: ignore[no-untyped-call]
    own = {"autocommit": True, "options": f"{options} {PLANNED_ONCE}", "prepare_threshold": None}  # what is prepared is ours to say
    return await Connection.connect(*args, **kwargs | own)
