"""What the commands do: serve, prepare a database, examine a service, mint a key."""

import asyncio
import contextlib
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import msgspec

from service import keys, tracing
from service.embedded import run_embedded
from service.processes.api import run_api
from service.processes.parts import DEFAULT, first_key, keep_key, settle, utc_now
from service.settings import Settings
from service.store import tenants
from service.store.db import Database, make_url_safe
from service.store.schema import migrate
from service.telemetry import configure_logging

GRACE_S = 10  # seconds that requests in progress get at shutdown


async def serve_forever(settings: Settings) -> int:
    """Serve everything in this process until SIGTERM or SIGINT; the exit code."""
    configure_logging(settings.log_level)
    sock = _bound(settings)
    with tracing.exported("serve"):
        async with run_embedded(settings) as service:
            if service.first_key is not None:
                print(f"Admin key (shown only now): {service.first_key}", flush=True)
            await _serve(service.app, sock, f"(data in {settings.var_dir}, console at /console, API page at /docs)")
    return 0


async def serve_api(settings: Settings) -> int:
    """Serve the API of a cluster until SIGTERM or SIGINT; the exit code."""
    configure_logging(settings.log_level)
    sock = _bound(settings)
    with tracing.exported("api"):
        async with run_api(settings) as app:
            await _serve(app, sock, "(console at /console, API page at /docs)")
    return 0


async def run_until_stopped(process: str, work: Callable[[Settings, asyncio.Event], Awaitable[None]], settings: Settings) -> int:
    """Run a process that serves no HTTP of its own until SIGTERM or SIGINT; the exit code."""
    configure_logging(settings.log_level)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    with tracing.exported(process):
        await work(settings, stop)
    return 0


async def prepare(settings: Settings) -> str:
    """Bring the database to this version's schema, with the default tenant and its first admin key; what to tell the operator."""
    await asyncio.to_thread(migrate, settings.database_url)
    database = Database(settings.database_url)
    try:
        _, minted = await first_key(database, settings)
    finally:
        await database.close()
    told = f"{make_url_safe(settings.database_url)} is up to date"
    return told if minted is None else f"{told}\nAdmin key (shown only now): {minted}"


async def _serve(app: Any, sock: socket.socket, more: str) -> None:  # noqa: ANN401
    import uvicorn

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        lifespan="on",
        timeout_keep_alive=5,
        timeout_graceful_shutdown=GRACE_S,
        h11_max_incomplete_event_size=64 * 1024,
        server_header=False,
        proxy_headers=False,  # a peer's address is the socket's: a header could say anything
    )
    settle()
    host, port = sock.getsockname()[:2]
    print(f"Palimpsest serves on http://{host}:{port}  {more}", flush=True)
    server = uvicorn.Server(config)

    # When it has stopped, uvicorn raises the signal again; that must not end the process before all else is closed.
    def leave(number: int, frame: FrameType | None) -> None:
        app.end()  # streams; the requests in progress have their time
        server.handle_exit(number, frame)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    await server.serve(sockets=[sock])


@contextlib.asynccontextmanager
async def scratch_client(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a service of its own on a scratch directory, without a socket."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-doctor-") as scratch:
        own = msgspec.structs.replace(settings, var_dir=Path(scratch), database="", blobs="", bootstrap_key="", key_pepper="")
        async with run_embedded(own) as service:
            transport = httpx.ASGITransport(service.app)
            headers = {"Authorization": f"Bearer {service.first_key}"}
            async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest", headers=headers, timeout=60) as client:
                yield client


async def examine_service(settings: Settings, url: str | None, key: str | None) -> bool:
    """Whether the service at `url` (or a scratch one) does what it promises, step by step on standard output."""
    from service.doctor import examine

    configure_logging("warning")
    if url is None:
        async with scratch_client(settings) as client:
            return await examine(client, sys.stdout)
    async with httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        return await examine(client, sys.stdout)


async def mint_key(settings: Settings, name: str, scopes: tuple[str, ...], expires: datetime | None) -> str:
    """Mint a key of the default tenant and give its secret."""
    minted = keys.mint()
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    await asyncio.to_thread(migrate, settings.database_url)
    database = Database(settings.database_url)
    try:
        tenant = await tenants.ensure_tenant(database, DEFAULT, utc_now())
        until = expires.replace(tzinfo=UTC) if expires else None
        await keep_key(database, settings, tenant, minted.key, name=name, scopes=scopes, expires_at=until)
    finally:
        await database.close()
    return minted.key


def _bound(settings: Settings) -> socket.socket:
    """The listening socket, bound before the slow start so that a taken port is told at once."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # named: else asyncio leaves Nagle on, 40 ms a reply
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((settings.host, settings.port))
    except OSError as error:
        sock.close()
        raise SystemExit(
            f"cannot listen on {settings.host}:{settings.port}: {error.strerror}; set PORT or PALIMPSEST_PORT to another one"
        ) from None
    return sock
