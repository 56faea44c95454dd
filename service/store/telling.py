"""Short changes: a transaction for the price of one call into SQLite, or of one message to PostgreSQL and one back.

A transaction of `Database.write` costs a trip to the driver for each of its statements, and SQLAlchemy's work around it; all of that lies
between a correction and its answer.

- Of a SQLite file (`OneWriter`) the whole transaction is run in one go on a thread of its own, over a connection of its own. Its statements
  are SQLAlchemy's, compiled once. The work is a coroutine like any other of the store, so there is one text of each change; it may wait
  for nothing but its connection, which never makes it wait.
- To PostgreSQL (`Senders`) the statements are sent together; the server makes one transaction of them and has committed it when it answers.
  So none of them can depend on what another one gave: what has to hold is said in their conditions.
"""

import asyncio
import contextlib
import contextvars
import functools
import select
import sqlite3
from collections import namedtuple
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy import Executable, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

from service.errors import Capacity
from service.store.asking import WORD
from service.store.failures import CommitUnknown

T = TypeVar("T")

SENDERS = 6  # connections to PostgreSQL: writers of as many banks do not wait for each other
WAIT_S = 10.0  # for a free connection, and for a new one
ANSWER_S = 40.0  # longer than any statement may take; then the connection is given up
STATEMENTS = 256  # compiled ones that are kept; those of the store are constants of its modules
DIALECT = sqlite.dialect(paramstyle="named")
TENANT = "SELECT set_config('app.tenant', %s, true)"

Values = Mapping[str, Any]
Message = Sequence[tuple[str, Values]]  # statements with their values


class Found:
    """What a statement gave: its rows, or how many it has changed."""

    def __init__(self, said: "_Said", cursor: sqlite3.Cursor) -> None:
        self._rows = said.rows(cursor) if cursor.description else []
        self.rowcount = cursor.rowcount

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)

    def all(self) -> list[Any]:
        """All rows."""
        return self._rows

    def first(self) -> Any:  # noqa: ANN401 (a row)
        """The first row, None if there is none."""
        return self._rows[0] if self._rows else None

    def scalar(self) -> Any:  # noqa: ANN401 (a value)
        """The first value of the first row, None if there is none."""
        return self._rows[0][0] if self._rows else None


class Plain:
    """A connection to a SQLite file that runs SQLAlchemy's statements."""

    dialect = DIALECT

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    async def execute(self, statement: Executable, values: Values | Sequence[Values] | None = None) -> Found:
        """As a connection of SQLAlchemy does; an empty sequence of values is none. What the driver raises comes as SQLAlchemy's."""
        many = [values] if isinstance(values, Mapping) else list(values or [{}])
        said = _compiled(statement, tuple(many[0]))
        try:
            if len(many) == 1:
                return Found(said, self._connection.execute(said.text, said.bound(many[0])))
            return Found(said, self._connection.executemany(said.text, map(said.bound, many)))
        except sqlite3.IntegrityError as error:  # without the values: an error is shown where a text must not be
            raise exc.IntegrityError(said.text, None, error) from error
        except sqlite3.OperationalError as error:
            raise exc.OperationalError(said.text, None, error) from error


class OneWriter:
    """A connection to a SQLite file for short changes. `prepare` is what every connection to it begins with."""

    def __init__(self, path: str, prepare: Callable[[sqlite3.Connection], None]) -> None:
        self._path, self._prepare = path, prepare
        self._thread = ThreadPoolExecutor(1, "telling")
        self._connection: sqlite3.Connection | None = None

    async def tell(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        """What `work` gives of a connection: one transaction, committed and durable, or nothing of it kept.

        Raises:
            exc.DBAPIError, sqlite3.Error: nothing was kept. Whatever `work` raises.
        """
        inside = contextvars.copy_context().run  # who asks is known in the thread, too
        done = asyncio.get_running_loop().run_in_executor(self._thread, inside, self._told, work)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:  # whoever comes next must not find a writer inside
            await asyncio.wait([done])
            done.exception()
            raise

    async def close(self) -> None:
        """End the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    def _told(self, work: Callable[[Any], Coroutine[Any, Any, T]]) -> T:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None)
            self._prepare(connection)
            self._connection = connection
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            result = _at_once(work(Plain(connection)))
            connection.execute("COMMIT")
        except BaseException:
            with contextlib.suppress(sqlite3.OperationalError):
                if connection.in_transaction:  # after a full disk SQLite may have ended it itself
                    connection.execute("ROLLBACK")
            raise
        return result

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class Senders:
    """A few connections to PostgreSQL for short changes, opened when they are needed."""

    def __init__(self, connect: Callable[[], Awaitable[psycopg.AsyncConnection]]) -> None:
        self._connect = connect
        self._idle: list[psycopg.AsyncConnection] = []
        self._free = asyncio.Semaphore(SENDERS)

    async def tell(self, tenant: str, message: Message) -> list[tuple[Any, ...]]:
        """The rows of the last statement of a message, whose transaction is the tenant's.

        Raises:
            CommitUnknown: the connection broke before the answer came. psycopg.Error: nothing was kept.
        """
        if not WORD.fullmatch(tenant):
            raise ValueError(f"no tenant can be {tenant!r}")
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Capacity("the database is busy", retry_after_s=1) from None
        try:
            return await self._sent(await self._connection(), tenant, message)
        finally:
            self._free.release()

    async def _connection(self) -> psycopg.AsyncConnection:
        while self._idle:
            connection = self._idle.pop()
            if _is_silent(connection):
                return connection
            await connection.close()  # it says goodbye, or something that nobody asked for: of what it was sent nobody could tell
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._connect()
        except TimeoutError:
            raise Capacity("the database cannot be reached", retry_after_s=1) from None

    async def _sent(self, connection: psycopg.AsyncConnection, tenant: str, message: Message) -> list[tuple[Any, ...]]:
        try:
            async with asyncio.timeout(ANSWER_S):
                rows = await _rows(connection, tenant, message)
        except BaseException as error:
            if isinstance(error, psycopg.Error) and connection.pgconn.transaction_status == TransactionStatus.IDLE:
                self._idle.append(connection)  # the server has answered, and kept nothing
                raise
            await connection.close()
            if isinstance(error, (psycopg.Error, TimeoutError)):
                raise CommitUnknown() from error
            raise
        self._idle.append(connection)
        return rows

    async def close(self) -> None:
        """End the connections."""
        while self._idle:
            await self._idle.pop().close()


def _is_silent(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server has said nothing since the last answer. For any number of a socket, unlike `select`."""
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return not heard.poll(0)


async def _rows(connection: psycopg.AsyncConnection, tenant: str, message: Message) -> list[tuple[Any, ...]]:
    """Sent as one text: half of it cannot arrive and leave a lock behind."""
    cursor = psycopg.AsyncClientCursor(connection)
    said = [cursor.mogrify(TENANT, (tenant,)), *(cursor.mogrify(statement, values) for statement, values in message)]
    await cursor.execute(";".join(said).encode())
    while cursor.nextset():
        pass
    return await cursor.fetchall()


class _Said:
    """A statement as SQLite reads it."""

    def __init__(self, statement: ClauseElement, names: tuple[str, ...]) -> None:
        keys = list(names) or None
        compiled: Any = statement.compile(dialect=DIALECT, column_keys=keys)
        if compiled.post_compile_params:  # a list after IN, whose values the statement has
            compiled = statement.compile(dialect=DIALECT, column_keys=keys, compile_kwargs={"render_postcompile": True})
        self.text = str(compiled)
        self._fixed = compiled.params
        kinds = {name: bind.type.dialect_impl(DIALECT).bind_processor(DIALECT) for name, bind in compiled.binds.items()}
        self._processors = [(name, process) for name, process in kinds.items() if process is not None and name in self._fixed]
        found = [column.type.dialect_impl(DIALECT) for column in getattr(statement, "exported_columns", ())]
        self._readers = [(place, read) for place, kind in enumerate(found) if (read := kind.result_processor(DIALECT, None)) is not None]

    def rows(self, cursor: sqlite3.Cursor) -> list[Any]:
        """What it has found, with the types of its columns."""
        kind, rows = _kind(tuple(each[0] for each in cursor.description)), cursor.fetchall()
        if self._readers:
            rows = [list(row) for row in rows]
            for place, read in self._readers:
                for row in rows:
                    row[place] = read(row[place])
        return list(map(kind._make, rows))

    def bound(self, values: Values) -> dict[str, Any]:
        """The values as the driver takes them."""
        bound = {**self._fixed, **values}
        for name, process in self._processors:
            bound[name] = process(bound[name])
        return bound


@functools.lru_cache(STATEMENTS)
def _compiled(statement: Any, names: tuple[str, ...]) -> _Said:  # noqa: ANN401 (any statement)
    return _Said(statement, names)


@functools.lru_cache(STATEMENTS)
def _kind(names: tuple[str, ...]) -> Any:  # noqa: ANN401 (a class of named tuples)
    return namedtuple("Row", names, rename=True)


def _at_once(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine gives that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as ended:
        return ended.value  # type: ignore[no-any-return]
    work.close()
    raise RuntimeError("work on this connection may wait for nothing else")
