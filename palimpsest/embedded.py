"""The service in this process: what `Client.embedded` talks to instead of a socket.

The one place of this package that knows the service, and only when it is called: the same application, on an event loop in a thread
of its own, asked over the same routes. So there is no second API, and what holds for the service (one process a directory, an
acknowledged correction survives whatever ends the process) holds here.
"""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from concurrent.futures import CancelledError, Future
from pathlib import Path
from typing import Any

import httpx

FEED = "/v1/stream"
PARTS = 64  # of an answer that nobody has read yet
Told = MutableMapping[str, Any]
ASGI = Callable[[Told, Callable[[], Awaitable[Told]], Callable[[Told], Awaitable[None]]], Awaitable[None]]


class InProcess(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport of httpx, for both kinds of client, to a service that runs until this is closed, or the program ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: Future[tuple[asyncio.AbstractEventLoop, ASGI, str]] = Future()
        self._stop = asyncio.Event()
        self._flows: set[asyncio.Task[None]] = set()  # answers that are being read
        self._thread = threading.Thread(target=self._serve, name="palimpsest", daemon=True)
        self._thread.start()

    def ready(self) -> None:
        """Wait until it serves.

        Raises:
            Whatever kept it from starting: the directory is in use, a setting or the encoder cannot be used.
        """
        self._started.result()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of a program that waits."""
        self.ready()
        return self._ask(request).result()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Answer a request of a program that awaits."""
        await asyncio.wrap_future(self._started)
        return await asyncio.wrap_future(self._ask(request))

    def close(self) -> None:
        """Stop the service in order, and wait for its end."""
        if self._started.exception() is None and self._thread.is_alive():
            loop, _, _ = self._started.result()
            loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def aclose(self) -> None:
        """Stop the service in order, and wait for its end."""
        await asyncio.to_thread(self.close)

    def _ask(self, request: httpx.Request) -> Future[httpx.Response]:
        loop, app, key = self._started.result()
        request.headers["Authorization"] = f"Bearer {key}"
        work = self._flowing(app, request) if request.url.path == FEED else _answered(httpx.ASGITransport(app), request)
        return asyncio.run_coroutine_threadsafe(work, loop)

    async def _flowing(self, app: ASGI, request: httpx.Request) -> httpx.Response:
        """The answer as soon as it has begun: it goes on for as long as it is read."""
        flow = Flowing(app, request)
        self._flows.add(flow.task)
        flow.task.add_done_callback(self._flows.discard)
        status, headers = await flow.head
        return httpx.Response(status, headers=headers, stream=flow)

    def _serve(self) -> None:
        import uvloop

        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(self._run())
        except BaseException as why:
            if self._started.done():
                raise
            self._started.set_exception(why)

    async def _run(self) -> None:
        from service.embedded import run_for_client

        async with run_for_client(self._directory) as (app, key):
            self._started.set_result((asyncio.get_running_loop(), app, key))
            await self._stop.wait()
            for task in self._flows:
                task.cancel()
            await asyncio.gather(*self._flows, return_exceptions=True)


async def _answered(app: httpx.ASGITransport, request: httpx.Request) -> httpx.Response:
    """The answer, read to the end in the loop that it belongs to."""
    answer = await app.handle_async_request(request)
    return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())


class Flowing(httpx.SyncByteStream, httpx.AsyncByteStream):
    """The body of an answer that is made in the loop of the service for as long as somebody reads it, in whichever kind of program."""

    def __init__(self, app: ASGI, request: httpx.Request) -> None:
        self._loop = asyncio.get_running_loop()
        self.head: asyncio.Future[tuple[int, list[tuple[bytes, bytes]]]] = self._loop.create_future()
        self._parts, self._room = asyncio.Queue[bytes | None](), asyncio.Semaphore(PARTS)
        self.task = self._loop.create_task(self._told(app, request))

    def __iter__(self) -> Iterator[bytes]:
        with contextlib.suppress(CancelledError):  # the service has ended
            while not self._loop.is_closed() and (part := self._asked().result()) is not None:
                yield part

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while not self._loop.is_closed() and (part := await asyncio.wrap_future(self._asked())) is not None:
            yield part

    def close(self) -> None:
        """Nobody reads on."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.task.cancel)

    async def aclose(self) -> None:
        """Nobody reads on."""
        self.close()

    def _asked(self) -> Future[bytes | None]:
        try:
            return asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        except RuntimeError:  # the loop was closed this moment
            ended: Future[bytes | None] = Future()
            ended.set_result(None)
            return ended

    async def _next(self) -> bytes | None:
        part = await self._parts.get()
        self._room.release()
        return part

    async def _told(self, app: ASGI, request: httpx.Request) -> None:
        asked, ended = False, asyncio.Event()

        async def receive() -> Told:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await ended.wait()  # who leaves cancels all of this
            return {"type": "http.disconnect"}

        async def send(message: Told) -> None:
            if message["type"] == "http.response.start":
                self.head.set_result((message["status"], list(message.get("headers", ()))))
                return
            if body := message.get("body"):
                await self._room.acquire()  # who reads slowly is told slowly
                self._parts.put_nowait(body)
            if not message.get("more_body", False):
                ended.set()

        try:
            await app(_scope(request), receive, send)
        finally:
            self._parts.put_nowait(None)
            if not self.head.done():
                self.head.set_exception(httpx.ReadError("the service ended before it answered", request=request))


def _scope(request: httpx.Request) -> Told:
    url = request.url
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": url.scheme,
        "path": url.path,
        "raw_path": url.raw_path.partition(b"?")[0],
        "query_string": url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (url.host, url.port),
        "client": ("127.0.0.1", 0),
    }
