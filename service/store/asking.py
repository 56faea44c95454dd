"""Short questions: what every recall asks of the database, for the price of one message to PostgreSQL and one back.

A transaction of `Database.read` costs three messages and SQLAlchemy's work around each, five to ten times what the server itself needs. A
short question is one statement that only reads. It goes over connections of its own, in one message that names the tenant and asks; the
server makes one transaction of a message, so row-level security holds the question to its tenant, and the name ends with the answer. Its
plan is kept (`prepared.py`).

Questions that come while every connection is busy share the next message, whoever's they are, each under its own tenant's name; equal ones
are asked once. So a question is answered by a statement that began after it was asked, never by an older one. What fails fails for all who
share the message: these statements cannot fail but with the server.

Of a SQLite file they are asked over a connection of their own as well, in a thread: a tenth of a millisecond, where a transaction of
`Database.read` takes more than one.
"""

import asyncio
import functools
import itertools
import re
import sqlite3
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

import psycopg
from sqlalchemy import Select
from sqlalchemy.dialects import sqlite
from sqlalchemy.dialects.postgresql.psycopg import dialect
from sqlalchemy.engine import Compiled

from service.store.prepared import Connection, Prepared, prepared

LINES = 2  # connections; a slow question on one does not hold up the fences on the other
MOST = 64  # questions in one message
ANSWER_S = 10.0  # for connecting and for an answer, then the connection is given up
WORD = re.compile(r"[A-Za-z0-9_]{0,64}")  # what may stand between quotes in a statement of ours

Values = Mapping[str, str | int | bytes]
Rows = Sequence[tuple[Any, ...]]


class Asking:
    """Whom a tenant's short questions are put to. `answer` has the rows of a statement with its values."""

    def __init__(self, answer: Callable[[Select[Any], Values], Awaitable[Rows]]) -> None:
        self._answer = answer

    async def execute(self, statement: Select[Any], values: Values) -> Rows:
        """The rows of one statement that reads, of columns of plain types, as a connection's `execute` gives them."""
        return await self._answer(statement, values)


class Answering(Protocol):
    """Who has the rows of a tenant's short questions."""

    async def ask(self, tenant: str, statement: Select[Any], values: Values) -> Rows:
        """The rows of a statement as the tenant may see them."""

    async def close(self) -> None:
        """End the connections, once what is on its way has come."""


class OneFile:
    """A connection to a SQLite file for short questions, which nothing can be written by. What a tenant may see the statement says."""

    def __init__(self, path: str, busy_ms: int) -> None:
        self._path, self._busy_s = path, busy_ms / 1e3
        self._thread = ThreadPoolExecutor(1, "asking")
        self._connection: sqlite3.Connection | None = None

    async def ask(self, tenant: str, statement: Select[Any], values: Values) -> Rows:
        """See `Answering`.

        Raises:
            sqlite3.Error: there is no answer.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._rows, statement, values)

    async def close(self) -> None:
        """See `Answering`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._end)
        self._thread.shutdown()

    def _rows(self, statement: Select[Any], values: Values) -> Rows:
        if self._connection is None:
            address = f"file:{quote(self._path)}?mode=rw"  # one that is only to be read could not be, beside a log that nobody has open
            self._connection = sqlite3.connect(address, uri=True, isolation_level=None, timeout=self._busy_s)
            self._connection.execute("PRAGMA query_only=ON")
        compiled = _for_a_file(statement)
        return self._connection.execute(str(compiled), {**compiled.params, **values}).fetchall()

    def _end(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Question(NamedTuple):
    """What is sent for one: whose it is, and the call of its statement with the values."""

    whose: str
    call: str
    statement: Prepared


class Lines:
    """A few connections for short questions, opened when there is a first one and again when the server has closed them."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._waiting: dict[_Question, asyncio.Future[Rows]] = {}  # by what is sent: equal questions have one answer
        self._busy: set[asyncio.Task[None]] = set()

    async def ask(self, tenant: str, statement: Select[Any], values: Values) -> Rows:
        """The rows of a statement as the tenant may see them.

        Raises:
            psycopg.Error: there is no answer.
        """
        known, loop = _for_a_server(statement), asyncio.get_running_loop()
        question = _Question(local("app.tenant", tenant), known.call % _quoted(values), known)
        answer = self._waiting.get(question)
        if answer is None:
            answer = self._waiting[question] = loop.create_future()
        if len(self._busy) < LINES:
            task = loop.create_task(self._work())
            self._busy.add(task)
            task.add_done_callback(self._busy.discard)
        return await asyncio.shield(answer)  # one who leaves takes nobody's answer along

    async def close(self) -> None:
        """End the connections, once what is on its way has come."""
        if self._busy:
            await asyncio.wait(self._busy)
        while self._idle:
            await self._idle.pop().close()

    async def _work(self) -> None:
        while self._waiting:
            asked = dict(itertools.islice(self._waiting.items(), MOST))
            for question in asked:
                del self._waiting[question]
            await self._answer(asked)

    async def _answer(self, asked: Mapping[_Question, asyncio.Future[Rows]]) -> None:
        try:
            async with asyncio.timeout(ANSWER_S):
                answers = await self._sent(list(asked))
        except Exception as error:  # whoever waits learns of it; who comes later asks again
            told = psycopg.errors.ConnectionTimeout("no answer in time") if isinstance(error, TimeoutError) else error
            for answer in asked.values():
                answer.set_exception(told)
            return
        for answer, rows in zip(asked.values(), answers, strict=True):
            answer.set_result(rows)

    async def _sent(self, questions: Sequence[_Question]) -> list[Rows]:
        """The answers to the questions in one message. It is sent again, once and by a new connection, if the server had closed the one."""
        while True:
            fresh = not self._idle
            connection = await self._connect() if fresh else self._idle.pop()
            try:
                answers = await _rows(connection, questions)
            except BaseException:
                closed = connection.broken
                await connection.close()
                if fresh or not closed:
                    raise
                while self._idle:  # as old as this one
                    await self._idle.pop().close()
            else:
                self._idle.append(connection)
                return answers


def local(setting: str, value: str) -> str:
    """The statement that sets a setting until the transaction ends."""
    if not WORD.fullmatch(value):
        raise ValueError(f"{setting} cannot be {value!r}")
    return f"SELECT set_config('{setting}', '{value}', true)"


async def _rows(connection: Connection, questions: Sequence[_Question]) -> list[Rows]:
    await connection.prepare(question.statement for question in questions)
    message: list[str] = []
    places: list[int] = []
    named = ""
    for question in questions:
        if question.whose != named:
            named = question.whose
            message.append(named)
        places.append(len(message))
        message.append(question.call)
    cursor = await connection.execute(";".join(message).encode())
    answers: list[Rows] = []
    for place in range(len(message)):
        if place in places:
            answers.append(await cursor.fetchall())
        cursor.nextset()
    return answers


@functools.cache
def _for_a_server(statement: Select[Any]) -> Prepared:
    """The statement as PostgreSQL knows it. Statements are constants of their modules."""
    return prepared(str(statement.compile(dialect=dialect())))  # type: ignore[no-untyped-call]


@functools.cache
def _for_a_file(statement: Select[Any]) -> Compiled:
    """The statement as SQLite reads it."""
    return statement.compile(dialect=sqlite.dialect(paramstyle="named"))


def _quoted(values: Values) -> dict[str, str]:
    return {name: str(value) if isinstance(value, int) else _word(name, value) for name, value in values.items()}


def _word(name: str, value: str | bytes) -> str:
    if isinstance(value, bytes):
        return f"'\\x{value.hex()}'"
    if not WORD.fullmatch(value):
        raise ValueError(f"{name} cannot be {value!r}")
    return f"'{value}'"
