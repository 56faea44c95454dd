"""The api's end of a connection: `FrameClient` makes many calls at once to one worker (`service.cluster.frames`).

`Refused` means that the call was not begun, here or there; `Unknown` that nobody can say. An error of the service is the worker's own.
"""

import asyncio
import itertools
import random
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from contextvars import Context

import structlog

from service.cluster.faults import error_of
from service.cluster.link import VERSION, Busy, Call, Cancel, Failure, Frame, Goodbye, Hello, Link, Malformed, Ping, Pong, Reply, greeted
from service.cluster.sockets import dial

HELLO_S = 1.0  # from connecting to the other side's first frame
PING_S = 2.0  # a client that heard nothing for so long asks whether the worker is there; twice that, and it is not
BACKOFF_S = (0.05, 2.0)  # after a failed attempt to connect, calls are refused without another one: at first, at most
log = structlog.get_logger()


class Refused(Exception):
    """The call was not begun and can be made elsewhere. `again_s`: the worker is only busy, and may take it after so long."""

    def __init__(self, why: str, again_s: float | None = None) -> None:
        super().__init__(why)
        self.again_s = again_s


class Unknown(Exception):
    """The call was sent and no answer came: it may have been done, may be going on, or may never be."""


class FrameClient:
    """Calls to one worker over one connection, made at the first call and again after it broke. `worker`: the id it must say it has."""

    def __init__(self, address: str, tls: ssl.SSLContext | None = None, *, worker: str = "") -> None:
        self.address, self._tls, self._worker = address, tls, worker
        self._connection: _Connection | None = None
        self._connecting: asyncio.Task[_Connection] | None = None
        self._failed, self._not_before, self._closed = 0, 0.0, False

    @property
    def in_flight(self) -> int:
        """Calls on their way."""
        return 0 if self._connection is None else len(self._connection.asked)

    async def call(self, method: str, tenant: str, body: bytes, deadline_s: float, *, traceparent: str = "", request: str = "") -> bytes:
        """The body of the reply.

        Raises:
            Refused, Unknown: see there. TooLarge: `body` is too large to send. PalimpsestError: what the worker raised.
        """
        until = asyncio.get_running_loop().time() + deadline_s
        connection = await self._connected(until)
        match await connection.ask(method, tenant, traceparent, body, until, request):
            case Reply() as reply:
                return reply.body
            case Failure() as failure:
                raise error_of(failure)
            case Busy(draining=draining, retry_after_ms=ms):
                raise Refused("the worker takes no more calls") if draining else Refused("the worker is busy", ms / 1e3)
            case _:
                raise Unknown("the worker did not answer but say something else")

    async def close(self) -> None:
        """Close the connection for good; calls in progress are `Unknown`, later ones `Refused`."""
        self._closed = True
        if self._connecting is not None:  # not cancelled: those who wait for it would take that for their own cancellation
            await asyncio.wait([self._connecting])
        if self._connection is not None:
            await self._connection.close()

    async def _connected(self, until: float) -> "_Connection":
        connection, loop = self._connection, asyncio.get_running_loop()
        try:
            if connection is None or connection.over:
                if self._closed:
                    raise Refused("this client was closed")
                if self._connecting is None:
                    if loop.time() < self._not_before:
                        raise Refused(f"{self.address} could not be reached a moment ago")
                    self._connecting = loop.create_task(self._connect())
                    self._connecting.add_done_callback(_seen)  # whoever waited for it may have left
                async with asyncio.timeout_at(until):
                    connection = await asyncio.shield(self._connecting)
            await connection.link.ready(max(0.0, until - loop.time()))
        except (OSError, TimeoutError) as error:
            raise Refused(f"{self.address} cannot be reached: {type(error).__name__}") from error
        if connection.over:
            raise Refused(f"the connection to {self.address} broke")
        return connection

    async def _connect(self) -> "_Connection":
        try:
            async with asyncio.timeout(HELLO_S):
                self._connection = await _Connection.to(self.address, self._tls, self._worker)
        except (OSError, TimeoutError, Malformed) as error:
            shortest, longest = BACKOFF_S
            wait = min(longest, shortest * 2**self._failed) * random.uniform(0.5, 1.0)  # noqa: S311 (not all at once)
            self._failed, self._not_before = self._failed + 1, asyncio.get_running_loop().time() + wait
            log.warning("worker not reached", action="connect", address=self.address, worker=self._worker, why=type(error).__name__)
            raise Refused(f"{self.address} cannot be reached: {type(error).__name__}") from error
        finally:
            self._connecting = None
        self._failed = 0
        return self._connection


class _Connection:
    """One connection of a client: calls on their way, and the tasks that read the answers and see that the worker is there."""

    def __init__(self, link: Link, frames: AsyncGenerator[Frame, None]) -> None:
        self.link, self.over = link, False
        self._ids, self.asked = itertools.count(1), dict[int, asyncio.Future[Frame]]()
        loop, nobodys = asyncio.get_running_loop(), Context()  # it outlives the call that it was made for
        self._tasks = [loop.create_task(each, context=nobodys.copy()) for each in (self._read(frames), self._ping())]

    @classmethod
    async def to(cls, address: str, tls: ssl.SSLContext | None, worker: str) -> "_Connection":
        """Connect, and hear who is there."""
        link = Link(*await dial(address, tls))
        frames = link.frames(2 * PING_S)
        try:
            link.send(Hello(VERSION))
            found = greeted(await anext(frames, None)).worker
            if worker and found != worker:
                raise Malformed(f"worker {found} answers where {worker} was")
        except BaseException:
            link.abort()
            await frames.aclose()
            raise
        return cls(link, frames)

    async def ask(self, method: str, tenant: str, traceparent: str, body: bytes, until: float, request: str) -> Frame:
        """The answer to a call. Raises `Refused`, `Unknown`, `TooLarge`."""
        loop, call_id = asyncio.get_running_loop(), next(self._ids)
        left_ms = max(1, int(1e3 * (until - loop.time())))
        self.link.send(Call(call_id, left_ms, method, tenant, traceparent, body, request))
        answer: asyncio.Future[Frame] = loop.create_future()
        self.asked[call_id] = answer
        try:
            async with asyncio.timeout_at(until):
                return await answer
        except TimeoutError:
            raise Unknown("the worker did not answer in time") from None
        finally:
            del self.asked[call_id]
            if not answer.done() or answer.cancelled():
                self.link.send(Cancel(call_id))
            else:
                answer.exception()  # looked at: its deadline may have come in the same moment

    async def close(self) -> None:
        """End it; what is on its way is unknown."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.link.close()

    async def _read(self, frames: AsyncGenerator[Frame, None]) -> None:
        begun: int | None = None  # once the worker has said goodbye: calls above were never begun
        why = "closed"
        try:
            async with aclosing(frames):
                async for frame in frames:
                    match frame:
                        case Reply() | Failure() | Busy():
                            answer = self.asked.get(frame.id)
                            if answer is not None and not answer.done():  # else its caller has gone
                                answer.set_result(frame)
                        case Goodbye():
                            begun, why = frame.last_id, "goodbye"
                            break
                        case Pong():
                            pass
                        case _:
                            raise Malformed(f"a server sent {type(frame).__name__}")
        except (OSError, TimeoutError, Malformed) as error:
            why = type(error).__name__
        finally:
            self._end(begun, why)

    def _end(self, begun: int | None, why: str) -> None:
        self.over = True
        if self.asked:
            log.warning("connection ended", action="frames", peer=self.link.peer, why=why, calls=len(self.asked))
        for call_id, answer in self.asked.items():
            if not answer.done():
                never = begun is not None and call_id > begun
                answer.set_exception(Refused("the worker has closed") if never else Unknown("the connection to the worker broke"))
        self._tasks[1].cancel()
        self.link.abort()

    async def _ping(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(PING_S / 2)
            if loop.time() - self.link.heard_at >= PING_S:
                self.link.send(Ping())


def _seen(task: asyncio.Task[_Connection]) -> None:
    if not task.cancelled():
        task.exception()
