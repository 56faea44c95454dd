"""Server-sent events: cut out of a stream of bytes, whole and as they came, and what is in them."""

import re
from collections.abc import AsyncIterator

_END = re.compile(rb"\r\n\r\n|\n\n|\r\r")
DONE = b"[DONE]"


class TooLong(ValueError):
    """An event is longer than it may be."""


async def events(parts: AsyncIterator[bytes], most: int) -> AsyncIterator[bytes]:
    """The events of a stream, each with the blank line that ends it; what follows the last blank line is no event.

    Raises:
        TooLong: one has more than `most` bytes.
    """
    held = b""
    async for part in parts:
        held += part
        begin = 0
        for end in _END.finditer(held):
            yield held[begin : end.end()]
            begin = end.end()
        held = held[begin:]
        if len(held) > most:
            raise TooLong


def data_of(event: bytes) -> bytes:
    """An event's data; b'' for a comment."""
    lines = event.splitlines()
    return b"\n".join(line[5:].strip() for line in lines if line.startswith(b"data:"))


def event_of(data: bytes) -> bytes:
    """An event that holds one line of data."""
    return b"data: " + data + b"\n\n"
