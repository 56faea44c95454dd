"""Short changes in PostgreSQL: a transaction for the price of one message and one back.

Its statements are sent together, over connections of their own; the server makes one transaction of them and has committed it when it
answers. So none of them can depend on what another one gave: what has to hold is said in their conditions. Plans are kept (`prepared.py`).

A change that need not be `durable` is not waited for until the disk has it; see `telling.py`.
"""

import asyncio
import functools
import select
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from sqlalchemy.dialects.postgresql.psycopg import dialect

from service.errors import Capacity
from service.store.asking import local
from service.store.failures import CommitUnknown
from service.store.prepared import STALE, STATEMENTS, Connection, Prepared, prepared
from service.store.telling import Message, Values

SENDERS = 6  # connections: writers of as many banks do not wait for each other
WAIT_S = 10.0  # for a free connection, and for a new one
ANSWER_S = 40.0  # longer than any statement may take; then the connection is given up
DIALECT = dialect()  # type: ignore[no-untyped-call]
LATER = local("synchronous_commit", "off")


class Senders:
    """A few connections to PostgreSQL for short changes, opened when they are needed."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._idle: list[Connection] = []
        self._free = asyncio.Semaphore(SENDERS)
        self._ended = False

    async def tell(self, tenant: str, message: Message, *, durable: bool = True) -> list[tuple[Any, ...]]:
        """The rows of the last statement of a message, none where it gives none; the transaction is the tenant's.

        Raises:
            CommitUnknown: the connection broke before the answer came. psycopg.Error: nothing was kept.
        """
        whose = local("app.tenant", tenant) if durable else f"{LATER};{local('app.tenant', tenant)}"
        try:
            async with asyncio.timeout(WAIT_S):
                await self._free.acquire()
        except TimeoutError:
            raise Capacity("the database is busy", retry_after_s=1) from None
        try:
            known = [_for_a_server(statement, tuple(values)) for statement, values in message]
            calls = [(statement.call, {**fixed, **values}) for (statement, fixed), (_, values) in zip(known, message, strict=True)]
            statements = [statement for statement, _ in known]
            try:
                return await self._sent(await self._connection(statements), whose, calls)
            except STALE:  # nothing was kept, and the connections of now know what is not so any more
                while self._idle:
                    await self._idle.pop().close()
                return await self._sent(await self._connection(statements), whose, calls)
        finally:
            self._free.release()

    async def _connection(self, statements: Sequence[Prepared]) -> Connection:
        """One that knows the statements; of the message nothing was sent yet."""
        while self._idle:
            connection = self._idle.pop()
            if _is_silent(connection):
                break
            await connection.close()  # it says goodbye, or something that nobody asked for: of what it was sent nobody could tell
        else:
            connection = await self._opened()
        try:
            async with asyncio.timeout(WAIT_S):
                await connection.prepare(statements)
        except BaseException as error:
            await connection.close()
            if isinstance(error, TimeoutError):
                raise Capacity("the database does not answer", retry_after_s=1) from None
            raise
        return connection

    async def _opened(self) -> Connection:
        try:
            async with asyncio.timeout(WAIT_S):
                return await self._connect()
        except TimeoutError:
            raise Capacity("the database cannot be reached", retry_after_s=1) from None

    async def _sent(self, connection: Connection, whose: str, calls: Sequence[tuple[str, Values]]) -> list[tuple[Any, ...]]:
        try:
            async with asyncio.timeout(ANSWER_S):
                rows = await _rows(connection, whose, calls)
        except BaseException as error:
            answered = isinstance(error, psycopg.Error) and connection.pgconn.transaction_status == TransactionStatus.IDLE  # kept nothing
            if answered and not isinstance(error, STALE):
                await self._keep(connection)
                raise
            await connection.close()
            if isinstance(error, (psycopg.Error, TimeoutError)) and not answered:
                raise CommitUnknown() from error
            raise
        await self._keep(connection)
        return rows

    async def _keep(self, connection: Connection) -> None:
        if self._ended:
            await connection.close()
        else:
            self._idle.append(connection)

    async def close(self) -> None:
        """End the connections; one that is in use ends when its answer comes."""
        self._ended = True
        while self._idle:
            await self._idle.pop().close()


def _is_silent(connection: psycopg.AsyncConnection) -> bool:
    """Whether the server has said nothing since the last answer. For any number of a socket, unlike `select`."""
    heard = select.poll()
    heard.register(connection.fileno(), select.POLLIN | select.POLLPRI)
    return not heard.poll(0)


async def _rows(connection: Connection, whose: str, calls: Sequence[tuple[str, Values]]) -> list[tuple[Any, ...]]:
    """Sent as one text: half of it cannot arrive and leave a lock behind."""
    cursor = psycopg.AsyncClientCursor(connection)
    said = [whose, *(cursor.mogrify(call, values) for call, values in calls)]
    await cursor.execute(";".join(said).encode())
    while cursor.nextset():
        pass
    return [] if cursor.description is None else await cursor.fetchall()


@functools.lru_cache(STATEMENTS)
def _for_a_server(statement: Any, names: tuple[str, ...]) -> tuple[Prepared, Values]:  # noqa: ANN401 (any statement)
    """A statement as PostgreSQL knows it, and the values that it has itself."""
    if isinstance(statement, str):
        return prepared(statement), {}
    compiled = statement.compile(dialect=DIALECT, column_keys=list(names) or None)
    return prepared(str(compiled)), compiled.params
