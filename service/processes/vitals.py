"""What a process without an API shows its operators: health and metrics over HTTP, nothing of any tenant."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from service.telemetry import CONTENT_TYPE, Metrics

Ready = Callable[[], Awaitable[bool]]


def vitals(metrics: Metrics, ready: Ready) -> Any:  # noqa: ANN401  # an ASGI application
    """The application: /health/live, /health/ready (503 until `ready`), /metrics."""

    async def app(scope: dict[str, Any], receive: Callable[[], Awaitable[Any]], send: Callable[[Any], Awaitable[None]]) -> None:
        status, kind, body = 404, "text/plain", b"not found\n"
        match scope.get("path"):
            case "/health/live":
                status, body = 200, b"live\n"
            case "/health/ready":
                status, body = (200, b"ready\n") if await ready() else (503, b"not ready\n")
            case "/metrics":
                status, kind, body = 200, CONTENT_TYPE, metrics.render()
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@contextlib.asynccontextmanager
async def shown(app: Any, host: str, port: int) -> AsyncIterator[None]:  # noqa: ANN401
    """Serve the application beside the work; port 0: not at all."""
    if not port:
        yield
        return
    import uvicorn

    sock = socket.create_server((host, port))
    config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", server_header=False, timeout_graceful_shutdown=1)
    server = uvicorn.Server(config)
    serving = asyncio.get_running_loop().create_task(server._serve([sock]))  # `serve` would take the signal handlers
    try:
        yield
    finally:
        server.should_exit = True
        await serving
        sock.close()
