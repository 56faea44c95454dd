"""Keep-alive connections to one address for requests that overlap, of a few lines for the reason of `bench.line`.

Not its `ask_all`: there a connection waits for its reply before the next request is sent, here every request is sent when it is due.
"""

import asyncio
import time
from typing import NamedTuple
from urllib.parse import urlsplit

from bench.line import END

IDLE_S = 3.0  # uvicorn closes a connection after 5 idle seconds: one that might be closed just now is not used


class Broken(Exception):
    """The connection could not be opened, or closed before the whole reply was there; the message says how."""


class Reply(NamedTuple):
    """What came back; `again` is whether it says when to come again."""

    status: int
    again: bool
    body: bytes


class _Line(NamedTuple):
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    used: float


class Connections:
    """As many connections as requests are under way. The one used last is used first, so that the others may go."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._tls = parts.scheme == "https"
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or (443 if self._tls else 80)
        self._free: list[_Line] = []

    async def ask(self, request: bytes) -> Reply:
        """Send a request on a free connection or a new one.

        Raises:
            Broken: there was no whole reply.
        """
        line = None
        try:
            line = self._idle() or await self._opened()
            line.writer.write(request)
            head = await line.reader.readuntil(END)
            reply, length, stays = _parsed(head)
            body = await line.reader.readexactly(length)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError) as error:
            raise Broken(type(error).__name__) from None
        else:
            if stays:
                self._free.append(line._replace(used=time.monotonic()))
                line = None
            return reply._replace(body=body)
        finally:
            if line is not None:  # also when the wait was given up: what comes later would be taken for the next reply
                line.writer.close()

    def close(self) -> None:
        """Close those that are free."""
        while self._free:
            self._free.pop().writer.close()

    def _idle(self) -> _Line | None:
        if self._free and time.monotonic() - self._free[-1].used > IDLE_S:
            self.close()  # the others were used even longer ago
        while self._free:
            line = self._free.pop()
            if not line.reader.at_eof():
                return line
            line.writer.close()
        return None

    async def _opened(self) -> _Line:
        reader, writer = await asyncio.open_connection(self._host, self._port, ssl=self._tls or None)
        return _Line(reader, writer, time.monotonic())


def _parsed(head: bytes) -> tuple[Reply, int, bool]:
    """The reply without its body, the length of that, and whether the connection stays."""
    first, *lines = head[: -len(END)].split(b"\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    if b"content-length" not in headers:
        raise ValueError("a reply without Content-Length")
    reply = Reply(int(first.split(b" ", 2)[1]), b"retry-after" in headers, b"")
    return reply, int(headers[b"content-length"]), headers.get(b"connection", b"").lower() != b"close"
