"""The outermost layer, around the framework: what holds for every request, also for those that no route takes.

A request id (accepted if it is harmless, else made) that comes back in `X-Request-ID`; a cap on requests in progress, above which the
answer is 503 at once; security headers; one log line and one count per request, by the route's template.
"""

import re
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractContextManager
from typing import Any

import structlog
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from service import telemetry, tracing
from service.api.problems import headers_of, media_type, problem
from service.errors import Capacity
from service.ids import new_id
from service.telemetry import Metrics

UNCOUNTED = ("/health/", "/metrics")  # these answer even when the service is full
METHODS = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.:-]{1,128}")
_NO_STORE = (b"cache-control", b"no-store")
_NO_SNIFF = (b"x-content-type-options", b"nosniff")
log = structlog.get_logger()


class Edge:
    """An ASGI application around the framework's."""

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        max_in_flight: int,
        *,
        leave: Callable[[dict[str, Any]], None],
        end: Callable[[], None],
        close: Callable[[], Awaitable[None]],
        methods: Mapping[str, str],
    ) -> None:
        self._app, self._metrics, self._max, self._leave, self._close = app, metrics, max_in_flight, leave, close
        self._methods = methods  # of each route: to OPTIONS the framework names those of its first handler alone
        self.end = end  # lets what stays open for as long as clients like come to its end; may be called by a signal
        self._in_flight = 0

    async def close(self) -> None:
        """End what requests left running beside them; to be awaited before the database closes."""
        self.end()
        await self._close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; lifespan events pass through."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        telemetry.begin(request=request_id)
        begin = time.perf_counter()
        status = 500
        headers = [_NO_SNIFF, (b"x-request-id", request_id.encode())]
        if scope["path"].startswith(("/v1", "/compat")):
            headers.append(_NO_STORE)

        async def sent(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *headers]
                if scope["method"] == "OPTIONS" and (named := self._methods.get(scope.get("path_template", ""))):
                    message["headers"] = [*(each for each in message["headers"] if each[0] != b"allow"), (b"allow", named.encode())]
            await send(message)

        with _span(scope):
            try:
                await self._counted(scope, receive, sent)
            finally:
                self._tell(scope, status, time.perf_counter() - begin)

    async def _counted(self, scope: HTTPScope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(UNCOUNTED):
            await self._app(scope, receive, send)
            return
        if self._in_flight >= self._max:
            await _refuse(scope, send)
            return
        self._in_flight += 1
        self._metrics.in_flight(1)
        inside = True

        def leave() -> None:
            nonlocal inside
            if inside:
                inside = False
                self._in_flight -= 1
                self._metrics.in_flight(-1)

        scope["state"]["leave_early"] = leave  # for what stays open and is counted elsewhere
        try:
            await self._app(scope, receive, send)
        finally:
            self._leave(scope["state"])  # the place that its tenant gave it, if it came so far
            leave()

    def _tell(self, scope: HTTPScope, status: int, seconds: float) -> None:
        route = scope.get("path_template") or "(none)"
        method = _method(scope)
        tracing.note({"http.response.status_code": status, **tracing.ours(telemetry.working_on())})
        if route != "(none)":
            tracing.note({"http.route": route}, name=f"{method} {route}")
        if status >= 500:
            tracing.failed(str(status))
        self._metrics.observe_request(route, method, status, seconds)
        principal = scope["state"].get("principal")
        log.info(
            "request",
            action="request",
            method=method,
            route=route,
            status=status,
            ms=round(1e3 * seconds, 2),
            request=scope["state"]["request_id"],
            key=principal.key_id if principal else None,
        )


def _method(scope: HTTPScope) -> str:
    """The request's method; clients may invent names, and each would be a time series."""
    return scope["method"] if scope["method"] in METHODS else "other"


def _span(scope: HTTPScope) -> AbstractContextManager[None]:
    """The request as a span, without its path, which may hold a name that somebody gave; none of a probe."""
    if scope["path"].startswith(UNCOUNTED):
        return tracing.NOTHING
    method = _method(scope)
    told = {"http.request.method": "_OTHER" if method == "other" else method, "url.scheme": scope["scheme"]}
    return tracing.request(method, scope["headers"], told)


async def _refuse(scope: HTTPScope, send: Send) -> None:
    error = Capacity("more requests than this service takes at once; retry after the given seconds")
    body = problem(error.status, error.code, error.detail, instance=scope["path"], request_id=scope["state"]["request_id"])
    headers = [(name.lower().encode(), value.encode()) for name, value in headers_of(error).items()]
    headers += [(b"content-type", media_type(scope["path"]).encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


def _request_id(scope: HTTPScope) -> str:
    given = next((value for name, value in scope["headers"] if name == b"x-request-id"), b"")
    return given.decode() if _REQUEST_ID.fullmatch(given) else new_id("req")
