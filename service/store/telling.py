"""Short changes: a transaction for the price of one call into SQLite. For that of one message to PostgreSQL: `sending.py`.

A transaction of `Database.write` costs a trip to the driver for each of its statements, and SQLAlchemy's work around it; all of that lies
between a correction and its answer. Here the whole transaction is run in one go on a thread of its own, over a connection of its own. Its
statements are SQLAlchemy's, compiled once. The work is a coroutine like any other of the store, so there is one text of each change; it may
wait for nothing but its connection, which never makes it wait.

A change that need not be `durable` is not waited for until the disk has it. The log is written in order, so whatever is durable later takes
it along: a crash may lose such a change, but never one before something that was kept.
"""

import asyncio
import contextlib
import contextvars
import functools
import sqlite3
from collections import namedtuple
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar, cast

from sqlalchemy import Executable, exc
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql import ClauseElement

T = TypeVar("T")

STATEMENTS = 256  # compiled ones that are kept; those of the store are constants of its modules
DIALECT = sqlite.dialect(paramstyle="named")
SYNC = {True: "PRAGMA synchronous=FULL", False: "PRAGMA synchronous=NORMAL"}  # by whether a change is durable

Values = Mapping[str, Any]
Message = Sequence[tuple[Executable | str, Values]]  # statements with their values; a text is for PostgreSQL alone


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
        self._durable = True

    async def tell(self, work: Callable[[Any], Coroutine[Any, Any, T]], *, durable: bool = True) -> T:
        """What `work` gives of a connection: one transaction, committed and `durable`, or nothing of it kept.

        Raises:
            exc.DBAPIError, sqlite3.Error: nothing was kept. Whatever `work` raises.
        """
        inside = contextvars.copy_context().run  # who asks is known in the thread, too
        done = asyncio.get_running_loop().run_in_executor(self._thread, inside, self._told, work, durable)
        try:
            return await asyncio.shield(done)
        except asyncio.CancelledError:  # whoever comes next must not find a writer inside
            await asyncio.wait([done])
            done.exception()
            raise

    async def send(self, message: Message, *, durable: bool = True) -> list[Any]:
        """The rows of the last of some statements, none where it gives none; as `tell`."""

        async def work(connection: Plain) -> list[Any]:
            found: list[Any] = []
            for statement, values in message:
                found = (await connection.execute(cast(Executable, statement), values)).all()
            return found

        return await self.tell(work, durable=durable)

    async def close(self) -> None:
        """End the connection."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    def _told(self, work: Callable[[Any], Coroutine[Any, Any, T]], durable: bool) -> T:
        if self._connection is None:
            connection = sqlite3.connect(self._path, isolation_level=None)
            self._prepare(connection)
            self._connection, self._durable = connection, True
        connection = self._connection
        if durable is not self._durable:  # not to be changed in a transaction
            connection.execute(SYNC[durable])
            self._durable = durable
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
