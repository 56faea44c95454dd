"""The one way out: an HTTP request to an address that a client gave, which must not become a way in.

The address of a webhook is looked up at each connection, and connected to is what was checked: a name that leads elsewhere a moment later
gains nothing. Only public addresses are taken, unless the operator says otherwise; redirects are not followed; time and answer are bounded.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from urllib.parse import urlsplit

import httpcore

ANSWER_S = 10.0  # for the whole of it: looking up, connecting, sending, the answer
LOOK_UP_S = 5.0
ANSWER_MAX = 64 * 1024  # bytes of an answer that are read, and thrown away

NAT64 = ipaddress.ip_network("64:ff9b::/96")  # where the address of a public IPv4 host may be hidden in

Resolve = Callable[[str, int], Awaitable[list[str]]]
SocketOption = tuple[int, int, int] | tuple[int, int, bytes | bytearray] | tuple[int, int, None, int]


class AddressRefused(Exception):
    """The address is none that the service may call; the message says why."""


class NoAnswer(Exception):
    """Nobody answered, or not in the way of HTTP; the message says why in a few words."""


async def resolved(host: str, port: int) -> list[str]:
    """The addresses of a host, as the system knows them."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[4][0]) for address in found]


def is_public(address: str) -> bool:
    """Whether the address is one of the internet; one that stands for an IPv4 address counts as that."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(parsed, ipaddress.IPv6Address):
        embedded = ipaddress.IPv4Address(int(parsed) & 0xFFFFFFFF) if parsed in NAT64 else None
        teredo = parsed.teredo[1] if parsed.teredo else None
        return _is_public(embedded or parsed.ipv4_mapped or parsed.sixtofour or teredo or parsed)
    return _is_public(parsed)


def _is_public(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    return address.is_global and not address.is_multicast


class Outside:
    """Calls addresses that clients gave. With `private`, also those of this network."""

    def __init__(self, *, private: bool, resolve: Resolve = resolved) -> None:
        self._private, self._resolve = private, resolve
        self._pool = httpcore.AsyncConnectionPool(
            max_connections=32, max_keepalive_connections=0, retries=0, network_backend=_Checked(self.looked_up)
        )

    async def check(self, url: str) -> None:
        """Refuse a URL that could not be called now.

        Raises:
            AddressRefused: it is not https, holds a user or a fragment, or does not lead to public addresses.
        """
        try:
            parts = urlsplit(url)
            port = parts.port or 443
        except ValueError:
            raise AddressRefused("is not a URL") from None
        if parts.scheme != "https" and not (self._private and parts.scheme == "http"):
            raise AddressRefused("does not begin with https://")
        if not parts.hostname or "@" in parts.netloc or parts.fragment or not url.isascii() or not url.isprintable() or " " in url:
            raise AddressRefused("is not of the form https://host/path, without user, fragment or blanks")
        await self.looked_up(parts.hostname, port)

    async def looked_up(self, host: str, port: int) -> list[str]:
        """The host's addresses, all of which may be called.

        Raises:
            AddressRefused: it has none, or one of them is not public.
        """
        try:
            async with asyncio.timeout(LOOK_UP_S):
                found = await self._resolve(host, port)
        except (OSError, UnicodeError, TimeoutError):
            raise AddressRefused("has a host that cannot be found") from None
        if not found:
            raise AddressRefused("has a host that cannot be found")
        if not self._private and not all(is_public(address) for address in found):
            raise AddressRefused("leads to an address that is not public")
        return found

    async def post(self, url: str, body: bytes, headers: Iterable[tuple[str, str]]) -> int:
        """Send a body; the answer's status.

        Raises:
            NoAnswer, AddressRefused: there was none, or the address may not be called (any more).
        """
        try:
            async with asyncio.timeout(ANSWER_S):
                return await self._post(url, body, headers)
        except TimeoutError:
            raise NoAnswer("no answer in time") from None
        except (httpcore.NetworkError, httpcore.TimeoutException):
            raise NoAnswer("no connection") from None
        except (httpcore.ProtocolError, httpcore.UnsupportedProtocol):
            raise NoAnswer("no answer in the way of HTTP") from None

    async def _post(self, url: str, body: bytes, headers: Iterable[tuple[str, str]]) -> int:
        given = [(name.encode(), value.encode()) for name, value in (("Host", urlsplit(url).netloc), *headers)]
        async with self._pool.stream("POST", url, headers=given, content=body) as answer:
            read = 0
            async for part in answer.aiter_stream():
                read += len(part)
                if read > ANSWER_MAX:
                    break
            return int(answer.status)

    async def close(self) -> None:
        """Close what is open."""
        await self._pool.aclose()


class _Checked(httpcore.AsyncNetworkBackend):
    """Connects to addresses that were checked, never to a name."""

    def __init__(self, looked_up: Resolve) -> None:
        self._looked_up, self._inner = looked_up, httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the library's signature
        local_address: str | None = None,
        socket_options: Iterable[SocketOption] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await self._looked_up(host, port)
        return await self._inner.connect_tcp(addresses[0], port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._inner.sleep(seconds)
