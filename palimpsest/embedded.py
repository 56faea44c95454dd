"""The service in this process: what `Client.embedded` talks to instead of a socket.

The one place of this package that knows the service, and only when it is called: the same application, on an event loop in a thread
of its own, asked over the same routes. So there is no second API, and what holds for the service (one process a directory, an
acknowledged correction survives whatever ends the process) holds here.
"""

import asyncio
import threading
from concurrent.futures import Future
from pathlib import Path

import httpx

FEED, PIECE_S = "/v1/stream", 0.5


class InProcess(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """A transport of httpx, for both kinds of client, to a service that runs until this is closed, or the program ends."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._started: Future[tuple[asyncio.AbstractEventLoop, httpx.ASGITransport, str]] = Future()
        self._stop = asyncio.Event()
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
        if request.url.path == FEED:  # an answer is read to its end before anybody sees it: the feed comes in short pieces
            request.url = request.url.copy_set_param("wait_s", min(PIECE_S, float(request.url.params.get("wait_s", PIECE_S))))
        return asyncio.run_coroutine_threadsafe(_answered(app, request), loop)

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
            self._started.set_result((asyncio.get_running_loop(), httpx.ASGITransport(app), key))
            await self._stop.wait()


async def _answered(app: httpx.ASGITransport, request: httpx.Request) -> httpx.Response:
    """The answer, read to the end in the loop that it belongs to."""
    answer = await app.handle_async_request(request)
    return httpx.Response(answer.status_code, headers=answer.headers, content=await answer.aread())
