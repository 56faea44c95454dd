"""The OpenAPI document: what the framework derives from the routes, and what holds for all of them.

`python -m service.api` prints it; `docs/openapi.json` is that output, and a test keeps it so. Added here: the bearer key, the
problems that any route may answer, `Idempotency-Key` on every POST, and nothing that depends on the machine.
"""

import json
import re
from typing import Any

import msgspec
from litestar import Litestar, Router
from litestar.openapi import OpenAPIConfig
from litestar.routes import BaseRoute
from litestar.types import ControllerRouterHandler

from service import wire
from service.api.problems import CHAT_MEDIA_TYPE, MEDIA_TYPE

VERSION = "1.0.0"  # of the API, not of the package
DESCRIPTION = (
    "A memory for agents that learn from corrections. Every route but /health and /metrics needs `Authorization: Bearer <key>`. "
    "Errors are `application/problem+json` with a stable `code`, on the paths of OpenAI's API in the form of that. "
    "Lists are `{items, next_cursor}`."
)


class _Nowhere(Router):
    """The framework would serve the document a second time, in pages that load scripts from other hosts; here they get no route."""

    def register(self, value: ControllerRouterHandler) -> list[BaseRoute]:
        """Drop it."""
        return []


CONFIG = OpenAPIConfig(
    title="Palimpsest",
    version=VERSION,
    description=DESCRIPTION,
    use_handler_docstrings=True,
    openapi_router=_Nowhere("/", route_handlers=[]),
)
PROBLEMS = {
    "400": "The request does not have the form that this call takes; `errors` names each field.",
    "401": "No key, or one that is unknown, expired or revoked.",
    "403": "The key lacks the scope.",
    "404": "No such thing for this key.",
    "409": "The state of things rules this call out now; `code` tells why.",
    "412": "The head is no longer the one that `If-Match` names.",
    "413": "The body is above 1,000,000 bytes (a bundle: 64 MiB).",
    "422": "The Idempotency-Key was used with another body, stored bytes do not have their digest, or a bundle is refused.",
    "429": "A limit of the bank, the key or the tenant is reached.",
    "500": "Unexpected; report it with the request id.",
    "503": "No capacity now; come back after `Retry-After` seconds.",
    "507": "The storage is full; nothing of the request was kept.",
}
CHAT_PROBLEMS = {
    "502": "The upstream answered with an error of its own, or with what is no completion.",
    "503": "The upstream cannot be reached or takes no more now; or no capacity here. Come back after `Retry-After` seconds.",
    "504": "The upstream said nothing for too long.",
}
JSON, EVENTS = "application/json", "text/event-stream"
CHAT = ("complete_chat", "list_models")  # operations of OpenAI's API, with the errors of that
_PAGE = re.compile(r"Page_service\.wire\.\w+\.(\w+?)_")  # the framework's name of a list
_LISTED = (
    wire.AuditEntry,
    wire.Bank,
    wire.Branch,
    wire.Certificate,
    wire.Correction,
    wire.Delivery,
    wire.EventRow,
    wire.Job,
    wire.Key,
    wire.ProbeSet,
    wire.Proposal,
    wire.Quarantine,
    wire.Session,
    wire.Snapshot,
    wire.Webhook,
)
_NOT_SENT = (
    wire.Change,
    wire.ChatLine,
    wire.ForgetPreview,
    wire.NewTurn,
    wire.Page,
    wire.RecallOptions,
    wire.Reply,
    wire.Request,
    wire.Speaking,
    wire.Spoken,
)
_POST_ONLY = {"413", "422", "507"}
_KEY = {"Key": {"type": "http", "scheme": "bearer", "description": "An API key; `X-API-Key: <key>` is taken as well."}}
_BYTES = {"type": "string", "format": "binary"}
_IDEMPOTENCY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "description": "Repeated with the same key and body, a request has its effect once; the stored reply comes with `Idempotent-Replayed`.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 200, "pattern": "^[ -~]+$"},
}


def document(app: Litestar) -> dict[str, Any]:
    """The document as plain JSON values, in a stable order."""
    made: dict[str, Any] = msgspec.json.decode(json.dumps(app.openapi_schema.to_schema()))
    made = json.loads(_PAGE.sub(r"\1Page", json.dumps(made)))
    made["components"] = {"schemas": _schemas(), "securitySchemes": _KEY}
    made["servers"] = [{"url": "/"}]
    public = {(path, method.lower()) for route in app.routes for path, method in _public(route)}
    for path, operations in made["paths"].items():
        for method, operation in operations.items():
            _complete(operation, method, open_to_all=(path, method) in public)
    return made


def text(app: Litestar) -> str:
    """The document as it is committed."""
    return json.dumps(document(app), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _schemas() -> dict[str, Any]:
    # the decoder's own schemas: the framework's leave out the bounds inside lists and unions, and that unknown fields are refused
    kinds = [kind for name in wire.__all__ if isinstance(kind := getattr(wire, name), type) and kind not in _NOT_SENT]
    pages = [wire.Page[kind] for kind in _LISTED]  # type: ignore[valid-type]
    _, components = msgspec.json.schema_components([*kinds, *pages], ref_template="#/components/schemas/{name}")
    schemas: dict[str, Any] = json.loads(re.sub(r"Page_(\w+?)_\b", r"\1Page", json.dumps(components)))
    return schemas


def _public(route: BaseRoute) -> list[tuple[str, str]]:
    handlers = getattr(route, "route_handlers", ())
    return [(route.path_format, method) for handler in handlers if handler.opt.get("public") for method in handler.http_methods]


def _complete(operation: dict[str, Any], method: str, *, open_to_all: bool) -> None:
    operation["security"] = [] if open_to_all else [{"Key": []}]
    parameters = operation.setdefault("parameters", [])
    statuses = {"500"}
    if not open_to_all:
        statuses |= PROBLEMS.keys() if method in ("post", "patch", "put") else PROBLEMS.keys() - _POST_ONLY - {"412"} | {"422", "507"}
        if method == "post":
            parameters.append(_IDEMPOTENCY)
    operation["responses"] = {status: told for status, told in operation["responses"].items() if status < "400"}
    told, kind, problem = PROBLEMS, MEDIA_TYPE, "Problem"
    if operation["operationId"] in CHAT:
        kind, problem = CHAT_MEDIA_TYPE, "ChatProblem"
    if operation["operationId"] == "complete_chat":
        told = PROBLEMS | CHAT_PROBLEMS
        statuses |= CHAT_PROBLEMS.keys()
        (completion,) = operation["responses"]["200"]["content"].values()
        operation["responses"]["200"]["content"] = {JSON: completion, EVENTS: {"schema": {"type": "string"}}}
    for status in sorted(statuses):
        content = {kind: {"schema": {"$ref": f"#/components/schemas/{problem}"}}}
        operation["responses"][status] = {"description": told[status], "content": content}
    if operation["operationId"] == "import_bundle":
        operation["requestBody"] = {"required": True, "content": {"application/octet-stream": {"schema": _BYTES}}}
    if operation["operationId"] == "get_export":
        operation["responses"]["200"]["content"]["application/x-tar"]["schema"] = _BYTES
    if operation["operationId"] == "ready":
        operation["responses"]["503"] = operation["responses"]["200"] | {"description": "Not ready; the parts tell which."}
