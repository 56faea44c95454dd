"""Every error as `application/problem+json` (RFC 9457), in one place; on the paths of OpenAI's API in the form of that.

The answer holds `type, title, status, detail, instance, code, request_id, errors[]`; `code` is stable and is what clients branch on,
`type` is the place on the api page that explains it. What nobody expected is logged once, under the request id, as its type and the
places it passed (its message might quote a memory), and tells the client nothing about the inside.
"""

from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from litestar import Request, Response
from litestar.exceptions import HTTPException

from service import wire
from service.api.limits import TooFast
from service.chat.errors import ChatError
from service.errors import PalimpsestError, Unauthenticated
from service.telemetry import places

MEDIA_TYPE = "application/problem+json"
CHAT, CHAT_MEDIA_TYPE = ("/v1/chat/completions", "/v1/models"), "application/json"
CHAT_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
RETRY_AFTER_S = {429: 1, 503: 1}  # where nobody said how long to wait
LEFT = "client disconnected prematurely"  # what the framework says, as an error of its own
LITESTAR_CODES = {
    400: "validation",
    401: "unauthenticated",
    403: "forbidden",
    404: "not-found",
    405: "method-not-allowed",
    413: "too-large",
}
log = structlog.get_logger()


def problem(
    status: int,
    code: str,
    detail: str,
    *,
    instance: str,
    request_id: str,
    errors: list[dict[str, str]] | None = None,
) -> bytes:
    """The JSON body of a problem."""
    if instance in CHAT:
        param = errors[0]["field"] or None if errors else None
        kind = CHAT_TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        return msgspec.json.encode(wire.ChatProblem(error=wire.ChatFault(message=detail, type=kind, param=param, code=code)))
    return msgspec.json.encode(
        wire.Problem(
            type=f"/docs#{code}",
            title=HTTPStatus(status).phrase,
            status=status,
            detail=detail,
            instance=instance,
            code=code,
            request_id=request_id,
            errors=errors or [],
        )
    )


def chat_problem(error: ChatError | PalimpsestError, *, instance: str, request_id: str) -> bytes:
    """The JSON body for a conversation that was not completed."""
    if isinstance(error, PalimpsestError):
        return problem(error.status, error.code, error.detail, errors=error.errors, instance=instance, request_id=request_id)
    named = [{"field": error.param, "message": error.detail}] if error.param else None
    return problem(error.status, error.said_code or error.code, error.detail, instance=instance, request_id=request_id, errors=named)


def media_type(instance: str) -> str:
    """The content type of a problem's body."""
    return CHAT_MEDIA_TYPE if instance in CHAT else MEDIA_TYPE


def headers_of(error: PalimpsestError | ChatError) -> dict[str, str]:
    """The headers that go with an error: which limit, when to come back, how to authenticate."""
    headers = dict(error.headers) if isinstance(error, TooFast) else {}
    wait = error.retry_after_s if error.retry_after_s is not None else RETRY_AFTER_S.get(error.status)
    if wait is not None:
        headers["Retry-After"] = str(wait)
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = 'Bearer realm="palimpsest"'
    return headers


def answer(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """The one exception handler of the service."""
    state = request.scope["state"]
    told: dict[str, Any] = {"instance": request.scope["path"], "request_id": state.get("request_id", "")}
    match error:
        case PalimpsestError():
            if error.status == 500:
                _log_unexpected(error, told["request_id"])
            headers, status = headers_of(error), error.status
            body = problem(status, error.code, error.detail, errors=error.errors, **told)
        case ChatError():
            headers, status = headers_of(error), error.status
            body = chat_problem(error, **told)
        case HTTPException(detail=detail) if detail == LEFT:  # nobody hears this answer; it is what is counted
            status, headers = 400, {}
            body = problem(400, "validation", "the connection ended before the body did", **told)
        case HTTPException() if error.status_code < 500:
            status, headers = error.status_code, dict(error.headers or {})
            code = LITESTAR_CODES.get(status, f"http-{status}")
            body = problem(status, code, _detail(error), errors=_errors(error), **told)
        case _:
            _log_unexpected(error, told["request_id"])
            status, headers = 500, {}
            body = problem(500, PalimpsestError.code, "unexpected error; its cause is in the log under the request id", **told)
    return Response(body, status_code=status, headers=headers, media_type=media_type(told["instance"]))


def _detail(error: HTTPException) -> str:
    match error.status_code:
        case 404:
            return "no such path; the paths are listed at /openapi.json"
        case 405:
            return "this path does not take this method; `Allow` lists those it takes"
        case 413:
            return "the body is above what this call takes; send less at once"
        case _:
            first = next(iter(_errors(error)), None)
            if first is None:
                return error.detail
            return f"{first['field']}: {first['message']}" if first["field"] else first["message"]


def _errors(error: HTTPException) -> list[dict[str, str]]:
    extra = error.extra if isinstance(error.extra, list) else []
    return [_fault(fault) for fault in extra if isinstance(fault, dict)]


def _fault(fault: dict[str, Any]) -> dict[str, str]:
    if fault.get("key") == "data":  # a handler's name for the body; the framework does not decode an empty one
        return {"field": "", "message": "the body is missing; this call takes a JSON object"}
    return {"field": str(fault.get("key", "")), "message": str(fault.get("message", ""))}


def _log_unexpected(error: Exception, request_id: str) -> None:
    log.error("request failed", action="request", request=request_id, error=type(error).__qualname__, places=places(error))
