"""A relay on a port of 127.0.0.1 that can be cut and healed: what a broken network between two processes looks like to both."""

import asyncio
import contextlib


class Relay:
    """Hands bytes on to `port`, both ways, until it is cut or refuses.

    A cut connection goes silent: nothing is refused, nothing closed. A relay that refuses closes every connection, old and new.
    """

    def __init__(self, port: int) -> None:
        self.target, self.port = port, 0
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Take connections on a free port."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    def cut(self) -> None:
        """Hand nothing on any more, in either direction."""
        self._open.clear()

    def refuse(self) -> None:
        """Close all connections, and new ones at once, as of a server that is down."""
        self._refusing = True
        for task in list(self._tasks):
            task.cancel()

    def heal(self) -> None:
        """Hand on again, after a cut also what was sent meanwhile."""
        self._refusing = False
        self._open.set()

    async def close(self) -> None:
        """Close all connections."""
        if self._server is not None:
            self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._refusing:
            writer.close()
            return
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            await self._open.wait()
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
        except (OSError, asyncio.CancelledError):
            writer.close()
            self._tasks.discard(task)
            return
        both = [asyncio.ensure_future(self._pump(reader, back)), asyncio.ensure_future(self._pump(there, writer))]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for pump in both:
                pump.cancel()
            for end in (writer, back):
                end.close()
            self._tasks.discard(task)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                await self._open.wait()
                writer.write(data)
                await writer.drain()
