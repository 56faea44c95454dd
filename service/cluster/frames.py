"""The worker's end of connections: `FrameServer` answers the calls of `service.cluster.client.FrameClient`.

- F1: every call ends: with its reply, with its error, or at its deadline, on both sides.
- F2: a call that is answered with `Busy`, or comes after a `Goodbye`, was not begun and never will be.
- F3: nothing grows without bound: calls at once, bytes of a frame, bytes that wait for a client that does not read.
- F4: whatever comes in over a connection can end that connection, and nothing else.
"""

import asyncio
import functools
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing

import structlog

from service import telemetry, tracing
from service.cluster.faults import failure_of
from service.cluster.link import VERSION, Busy, Call, Cancel, Failure, Goodbye, Hello, Link, Malformed, Ping, Pong, Reply, greeted
from service.cluster.sockets import listen, remove, tls_context
from service.errors import OutcomeUnknown, PalimpsestError

__all__ = ["FrameServer", "Handler", "tls_context"]

Handler = Callable[[Call], Awaitable[bytes]]

CONNECTIONS = 1_024  # to one server; further ones are closed at once
RETRY_MS = 50  # when to come back to a busy worker
WRITE_S = 10.0  # for a client to read what it was sent
IDLE_S = 30.0  # a client that has not even pinged for so long is gone
LINGER_S = 1.0  # for clients to close after a goodbye
log = structlog.get_logger()


class FrameServer:
    """Answers calls with `handler`: at most `max_in_flight` at once, `per_connection` of them from one client; further ones get `Busy`.

    What the handler raises is sent to the caller. A call whose caller has gone, or whose deadline has passed, is cancelled.
    """

    def __init__(
        self,
        handler: Handler,
        *,
        max_in_flight: int,
        worker: str = "",
        per_connection: int | None = None,
        refused: Callable[[str], None] = lambda reason: None,
    ) -> None:
        self._handler, self._worker, self._refused = handler, worker, refused
        self._most, self._most_of_one = max_in_flight, per_connection or max_in_flight
        self._callers: dict[_Caller, asyncio.Task[None] | None] = {}
        self._listener: asyncio.Server | None = None
        self._draining = self._closed = False
        self.address = ""

    @property
    def in_flight(self) -> int:
        """Calls that are being answered."""
        return sum(len(caller.tasks) for caller in self._callers)

    async def start(self, address: str, tls: ssl.SSLContext | None = None) -> str:
        """Listen at `unix:///path` or `tcp://host:port`; the address, with the port that was taken.

        Raises:
            OSError: the address is in use or cannot be had.
        """
        self._listener, self.address = await listen(address, tls, self._met)
        return self.address

    async def drain(self, within_s: float) -> None:
        """Begin no call any more, let those in progress end, then close. What takes longer is cancelled: its outcome is unknown."""
        self._draining = True
        running = [task for caller in self._callers for task in caller.tasks.values()]
        if running:
            await asyncio.wait(running, timeout=within_s)
        await self.close()

    async def close(self) -> None:
        """Stop now. Clients are told which calls were never begun, and close their ends."""
        if self._listener is None:
            return
        self._closed = True
        self._listener.close()
        remove(self.address)  # at once: from now on another worker may take the place
        self._listener = None
        for caller in self._callers:
            caller.link.send(Goodbye(caller.last_id))
            caller.cancel()
        conversations = [task for task in self._callers.values() if task is not None]
        if conversations:
            await asyncio.wait(conversations, timeout=LINGER_S)
        for caller in self._callers:  # those that did not close
            caller.link.abort()
        await asyncio.gather(*conversations, return_exceptions=True)

    async def _met(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        caller = _Caller(Link(reader, writer))
        if self._closed or len(self._callers) >= CONNECTIONS:
            return caller.link.abort()
        self._callers[caller] = asyncio.current_task()
        try:
            await self._converse(caller)
        except Malformed as error:
            log.warning("connection ended", action="frames", peer=caller.link.peer, why=str(error))
        except (OSError, TimeoutError):  # the client is gone, or does not read
            pass
        finally:
            caller.cancel()
            del self._callers[caller]
            await caller.link.close()

    async def _converse(self, caller: "_Caller") -> None:
        link = caller.link
        link.send(Hello(VERSION, self._worker))
        async with aclosing(link.frames(IDLE_S)) as frames:
            greeted(await anext(frames, None))
            async for frame in frames:
                match frame:
                    case Call():
                        self._begin(caller, frame)
                    case Cancel():
                        caller.cancel(frame.id)
                    case Ping():
                        link.send(Pong())
                    case _:
                        raise Malformed(f"a client sent {type(frame).__name__}")
                await link.ready(WRITE_S)

    def _begin(self, caller: "_Caller", call: Call) -> None:
        if call.id <= caller.last_id:
            raise Malformed("call ids do not rise")
        if self._closed:
            return  # the goodbye has told that it will not be begun
        caller.last_id = call.id
        if self._draining or self.in_flight >= self._most or len(caller.tasks) >= self._most_of_one:
            caller.link.send(Busy(call.id, RETRY_MS, self._draining))
            self._refused("draining" if self._draining else "busy")
            return
        task = asyncio.get_running_loop().create_task(self._answer(caller.link, call))
        caller.tasks[call.id] = task
        task.add_done_callback(functools.partial(caller.ended, call.id))

    async def _answer(self, link: Link, call: Call) -> None:
        telemetry.begin(request=call.request, tenant=call.tenant)  # in this task's context alone
        begin = time.perf_counter()
        with tracing.call(call.method, call.traceparent):
            try:
                link.send(await self._answered(call))
            except PalimpsestError as error:  # too large
                link.send(failure_of(call.id, error, call.method))
            tracing.note(tracing.ours(telemetry.working_on()))
            log.debug("call", action="call", method=call.method, ms=round(1e3 * (time.perf_counter() - begin), 2))
        try:
            await link.ready(WRITE_S)
        except (OSError, TimeoutError):  # calls of a client that does not read must not keep their places
            link.abort()

    async def _answered(self, call: Call) -> Reply | Failure:
        try:
            async with asyncio.timeout(call.deadline_ms / 1e3) as limit:
                return Reply(call.id, await self._handler(call))
        except Exception as error:  # the loop of requests: whatever it is, the caller is told and the worker goes on
            tracing.failed(error)
            # an engine ends the writes that it has begun, so a call that ran out of time is not one that failed
            return failure_of(call.id, OutcomeUnknown("the worker did not answer in time") if limit.expired() else error, call.method)


class _Caller:
    """One client of a server: its connection and its calls."""

    def __init__(self, link: Link) -> None:
        self.link, self.last_id, self.tasks = link, 0, dict[int, asyncio.Task[None]]()

    def cancel(self, call_id: int | None = None) -> None:
        """Cancel one call, or all."""
        for each, task in self.tasks.items():
            if call_id in (None, each):
                task.cancel()

    def ended(self, call_id: int, _: asyncio.Task[None]) -> None:
        """A call's task is done."""
        self.tasks.pop(call_id, None)
