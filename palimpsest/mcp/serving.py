"""Where the tools are served: on standard input and output, or over HTTP at `/mcp/{bank}` and `/mcp/{bank}/admin`."""

import contextlib
from collections.abc import AsyncIterator

import httpx
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from palimpsest.client import AsyncClient
from palimpsest.mcp.admin import admin_server
from palimpsest.mcp.agent import agent_server
from palimpsest.mcp.reach import ByRequest, bearer, own

PATH = "/mcp/{bank}"


async def serve_stdio(memory: AsyncClient, *, admin: bool) -> None:
    """Serve one memory on standard input and output until that is closed."""
    async with memory:
        await (admin_server if admin else agent_server)(own(memory)).run_stdio_async()


def http_app(url: str | None, host: str) -> ASGIApp:
    """The application on `host` that serves the memories of the service at `url`, else the environment's, to whoever brings a key."""
    http = httpx.AsyncClient()
    reach = ByRequest(url, http)
    agent, admin = agent_server(reach), admin_server(reach)
    # without sessions of the protocol's own: any process can answer any request, and the key is looked at each time
    apps = [
        server.streamable_http_app(streamable_http_path=path, stateless_http=True, json_response=True, host=host)
        for server, path in ((agent, PATH), (admin, f"{PATH}/admin"))
    ]

    @contextlib.asynccontextmanager
    async def living(_: Starlette) -> AsyncIterator[None]:
        async with http, agent.session_manager.run(), admin.session_manager.run():
            yield

    return _KeyNeeded(Starlette(routes=[route for app in apps for route in app.routes], lifespan=living))


class _KeyNeeded:
    """Refuses requests without a key before they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass it on, or answer 401."""
        headers = dict(scope.get("headers", ()))
        if scope["type"] == "http" and not bearer(headers.get(b"authorization", b"").decode("latin-1")):
            told = {"error": "send `Authorization: Bearer <key>` with an API key of the service"}
            await JSONResponse(told, 401, {"WWW-Authenticate": 'Bearer realm="palimpsest"'})(scope, receive, send)
            return
        await self._app(scope, receive, send)
