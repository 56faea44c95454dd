"""Frames: what api and worker say to each other over one connection, and how it lies on the wire.

A frame is four bytes of length (big endian) and a msgpack array: the frame's number, then its fields. New fields go at the end, with a
default; the other side skips those it does not know. Bodies are opaque here (see `service.cluster.rpc`). Both sides begin with `Hello`.
"""

import asyncio
import struct
from collections.abc import AsyncGenerator
from contextlib import suppress

import msgspec
from msgspec import Struct

from service.errors import TooLarge

VERSION = 1
FRAME_MAX = 16 << 20  # bytes; a batch of 1,000 lessons of the greatest length that the api takes is a tenth of it
CHUNK = 256 << 10  # bytes read at once
SLOW = 64 << 10  # bytes that wait for the other side to read: then whoever wants to send more waits too
CLOSING_S = 1.0  # for the last bytes of a connection to leave
PARTS = 4  # of a silence: one in which this process stood still is not all of it


class Malformed(Exception):
    """The other side does not speak our language: the connection ends."""


class Hello(Struct, frozen=True, array_like=True, gc=False, tag=0):
    """The first frame of each side. `worker` is the worker's id, empty from a client."""

    version: int
    worker: str = ""


class Call(Struct, frozen=True, array_like=True, gc=False, tag=1):
    """A method of the engine asked for a tenant. Ids of one connection rise. `deadline_ms` is how long the caller waits from now."""

    id: int
    deadline_ms: int
    method: str
    tenant: str
    traceparent: str
    body: bytes
    request: str = ""  # its id, for the worker's log


class Reply(Struct, frozen=True, array_like=True, gc=False, tag=2):
    """The call's result."""

    id: int
    body: bytes


class Failure(Struct, frozen=True, array_like=True, gc=False, tag=3):
    """The call raised: `kinds` are the names of the error's class and its parents, nearest first."""

    id: int
    kinds: list[str]
    status: int
    code: str
    detail: str
    errors: list[dict[str, str]]
    retry_after_s: int | None = None


class Cancel(Struct, frozen=True, array_like=True, gc=False, tag=4):
    """Nobody waits for the call any more."""

    id: int


class Busy(Struct, frozen=True, array_like=True, gc=False, tag=5):
    """The call was not begun: too many at once, or the worker takes no more (`draining`)."""

    id: int
    retry_after_ms: int
    draining: bool


class Ping(Struct, frozen=True, array_like=True, gc=False, tag=6):
    """Is anybody there?"""


class Pong(Struct, frozen=True, array_like=True, gc=False, tag=7):
    """Yes."""


class Goodbye(Struct, frozen=True, array_like=True, gc=False, tag=8):
    """The worker closes the connection; of the calls after `last_id` none was begun or will be."""

    last_id: int


Frame = Hello | Call | Reply | Failure | Cancel | Busy | Ping | Pong | Goodbye

_LENGTH = struct.Struct(">I")
_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Frame] = msgspec.msgpack.Decoder(Frame)


def pack(frame: Frame) -> bytearray:
    """The frame with its length before it.

    Raises:
        TooLarge: above `FRAME_MAX`.
    """
    packed = bytearray(_LENGTH.size)
    _encoder.encode_into(frame, packed, _LENGTH.size)
    size = len(packed) - _LENGTH.size
    if size > FRAME_MAX:
        raise TooLarge(f"this is {size:,} bytes between api and worker, above the {FRAME_MAX:,} that go at once; send or ask for less")
    _LENGTH.pack_into(packed, 0, size)
    return packed


class Link:
    """One side of a connection: whole frames in and out."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._loop = asyncio.get_running_loop()
        self._out = bytearray()
        self.heard_at = self._loop.time()  # when something last came in

    @property
    def peer(self) -> str:
        """Who is at the other side, for the log."""
        return str(self._writer.get_extra_info("peername") or "local")

    def send(self, frame: Frame) -> None:
        """Send without waiting; raises as `pack`. What is sent in one turn of the event loop leaves in one piece."""
        packed = pack(frame)
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out += packed

    async def ready(self, within_s: float) -> None:
        """Wait until the other side has read what it was sent, but for a little.

        Raises:
            TimeoutError, ConnectionError: it does not read, or is gone.
        """
        if len(self._out) > SLOW:
            self._flush()
        if self._writer.transport.get_write_buffer_size() > SLOW:
            async with asyncio.timeout(within_s):
                await self._writer.drain()

    async def frames(self, silence_s: float) -> AsyncGenerator[Frame, None]:
        """What the other side sends, until it closes the connection.

        Raises:
            Malformed: a frame too large, unreadable or cut off. TimeoutError: nothing came for `silence_s`. OSError: broken.
        """
        waiting = bytearray()
        while True:
            start, end = 0, _end(waiting, 0)
            while end <= len(waiting):
                yield _unpack(bytes(memoryview(waiting)[start + _LENGTH.size : end]))
                start, end = end, _end(waiting, end)
            del waiting[:start]
            chunk = await self._chunk(silence_s)
            if not chunk:
                if waiting:
                    raise Malformed("ended within a frame")
                return
            self.heard_at = self._loop.time()
            waiting += chunk

    async def _chunk(self, silence_s: float) -> bytes:
        """What comes next. Waited for in parts: where this process itself stood still it was for one of them, and it hears the rest."""
        for _ in range(PARTS - 1):
            with suppress(TimeoutError):
                async with asyncio.timeout(silence_s / PARTS):
                    return await self._reader.read(CHUNK)
        async with asyncio.timeout(silence_s / PARTS):
            return await self._reader.read(CHUNK)

    async def close(self) -> None:
        """Let what was sent leave, for a moment, and end the connection."""
        self._flush()
        self._writer.close()
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._writer.wait_closed()
        self.abort()
        await asyncio.sleep(0)  # the socket is closed in the next turn

    def abort(self) -> None:
        """End the connection at once."""
        self._writer.transport.abort()

    def _flush(self) -> None:
        if self._out and not self._writer.is_closing():
            self._writer.write(self._out)
        self._out = bytearray()


def greeted(frame: Frame | None) -> Hello:
    """The hello that the other side began with.

    Raises:
        Malformed: it began with something else, or speaks another version.
    """
    match frame:
        case Hello(version=version) if version == VERSION:
            return frame
        case Hello(version=version):
            raise Malformed(f"the other side speaks version {version}, we speak {VERSION}")
        case _:
            raise Malformed("the other side did not say hello")


def _end(waiting: bytearray, start: int) -> int:
    """Where the frame that begins at `start` ends, past the end of what is there if that cannot be told."""
    if len(waiting) - start < _LENGTH.size:
        return len(waiting) + 1
    (size,) = _LENGTH.unpack_from(waiting, start)
    if size > FRAME_MAX:
        raise Malformed(f"a frame of {size:,} bytes")
    return start + _LENGTH.size + int(size)


def _unpack(packed: bytes) -> Frame:
    try:
        return _decoder.decode(packed)
    except (msgspec.DecodeError, ValueError, RecursionError):  # not its message: it may quote a body
        raise Malformed("a frame that cannot be read") from None
