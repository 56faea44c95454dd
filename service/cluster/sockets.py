"""Where workers listen: `unix:///path` on one machine, open to the service's own user only; `tcp://host:port` between machines.

Over tcp both sides show a certificate of the service's own authority; the worker's names the host under which it is reached.
"""

import asyncio
import os
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable
from pathlib import Path

Met = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

PRIVATE = 0o177  # umask of a socket's file: read and write for its owner
READ_AHEAD = 1 << 20  # bytes a stream holds before it stops reading


def tls_context(cert: str, key: str, ca: str, *, server: bool) -> ssl.SSLContext:
    """TLS 1.3 with our certificate, for one side; the other must show one that `ca` has signed. The arguments are paths of PEM files.

    Raises:
        OSError: a file cannot be read, is no certificate, or does not fit the key.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(cert, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def dial(address: str, tls: ssl.SSLContext | None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect. `tls` is for tcp alone.

    Raises:
        OSError: nobody listens there, or it has no certificate of ours.
    """
    match _split(address):
        case Path() as path:
            return await asyncio.open_unix_connection(path, limit=READ_AHEAD)
        case host, port:
            reader, writer = await asyncio.open_connection(host, port, ssl=tls, limit=READ_AHEAD)
            return reader, writer


async def listen(address: str, tls: ssl.SSLContext | None, met: Met) -> tuple[asyncio.Server, str]:
    """Listen, with `met` for each connection; the server and the address as it is now known (a port 0 is a free one).

    Raises:
        OSError: the address is in use or cannot be had.
    """
    match _split(address):
        case Path() as path:
            return await asyncio.start_unix_server(met, sock=_private_socket(path), limit=READ_AHEAD), address
        case host, port:
            server = await asyncio.start_server(met, host, port, ssl=tls, limit=READ_AHEAD)
            return server, f"tcp://{host}:{server.sockets[0].getsockname()[1]}"


def remove(address: str) -> None:
    """Remove the file of a socket that nobody listens on any more."""
    match _split(address):
        case Path() as path:
            path.unlink(missing_ok=True)


def _split(address: str) -> Path | tuple[str, int]:
    kind, _, rest = address.partition("://")
    if kind == "unix" and rest.startswith("/"):
        return Path(rest)
    host, _, port = rest.rpartition(":")
    if kind == "tcp" and host and port.isdecimal():
        return host.strip("[]"), int(port)
    raise ValueError(f"{address!r} is neither unix:///path nor tcp://host:port")


def _private_socket(path: Path) -> socket.socket:
    """A bound socket. Its file is private from its first moment: changed afterwards, others could connect in between."""
    _remove_dead(path)
    bound = socket.socket(socket.AF_UNIX)
    before = os.umask(PRIVATE)
    try:
        bound.bind(str(path))
    except BaseException:
        bound.close()
        raise
    finally:
        os.umask(before)
    bound.setblocking(False)
    return bound


def _remove_dead(path: Path) -> None:
    """Remove what a killed worker left; the socket of one that lives stays, and binding to it fails."""
    if not path.exists() or not stat.S_ISSOCK(path.stat().st_mode):
        return
    with socket.socket(socket.AF_UNIX) as asking:
        try:
            asking.connect(str(path))
        except ConnectionRefusedError:
            path.unlink(missing_ok=True)
        except OSError:  # something else is wrong: binding will tell
            return
