"""A keep-alive HTTP/1.1 client of a few lines: what is measured is to be the service, and a full client costs a millisecond a request."""

import asyncio
import json
import socket
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

END = b"\r\n\r\n"


class NotAnswered(Exception):
    """A reply with another status than 2xx, or a connection that closed."""


def request_bytes(url: str, key: str, path: str, body: dict[str, Any], *, once: str = "") -> bytes:
    """A POST request, ready to be sent; with `once` as its Idempotency-Key."""
    data = json.dumps(body).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {urlsplit(url).netloc}\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(data)}\r\n" + (f"Idempotency-Key: {once}\r\n" if once else "") + "\r\n"
    )
    return head.encode() + data


class Line(AbstractContextManager["Line"]):
    """One connection, one request at a time."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=30)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the reply.

        Raises:
            NotAnswered: it was not a success.
        """
        self._socket.sendall(request)
        got = b""
        while END not in got:
            got += self._more()
        head, _, body = got.partition(END)
        length = _length(head)
        while len(body) < length:
            body += self._more()
        return body

    def _more(self) -> bytes:
        data = self._socket.recv(65_536)
        if not data:
            raise NotAnswered("the connection was closed")
        return data


async def ask_all(url: str, requests: Sequence[bytes], clients: int) -> None:
    """Send all requests over `clients` connections at once, each with one request in flight.

    Raises:
        NotAnswered: one of them was not a success.
    """
    waiting = iter(requests)
    async with asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(_one_client(url, waiting))


async def _one_client(url: str, waiting: Iterator[bytes]) -> None:
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(END)
            await reader.readexactly(_length(head))
    finally:
        writer.close()


def _length(head: bytes) -> int:
    if not head.startswith(b"HTTP/1.1 2"):
        raise NotAnswered(head.split(b"\r\n", 1)[0].decode("latin-1"))
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise NotAnswered("a reply without Content-Length")
