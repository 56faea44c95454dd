"""The API page at `/docs` and the document at `/openapi.json`: one self-contained page without scripts, and nothing from another host."""

from html import escape
from typing import Any

import msgspec
from litestar import Litestar, MediaType, Request, Response, get

from service import errors
from service.api.auth import PUBLIC
from service.api.openapi import document

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1a1a1a;background:#fff}"
    "code{font-family:ui-monospace,monospace;background:#f2f2f0;padding:.1em .3em;border-radius:3px;overflow-wrap:break-word}"
    "section{border-top:1px solid #ddd;padding:.5rem 0}table{border-collapse:collapse}td,th{padding:.2rem .8rem .2rem 0;text-align:left}"
    "td,th{vertical-align:top}"
    "@media(max-width:30rem){td,th{padding-right:.4rem}code{font-size:.8em}}"
    "@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#161616}code{background:#2a2a2a}section{border-color:#444}a{color:#8ab4f8}}"
)
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
OTHER_CODES = {"method-not-allowed": (405, "This path does not take this method; `Allow` lists those it takes.")}


@get("/openapi.json", include_in_schema=False, opt=PUBLIC)
async def openapi_json(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The OpenAPI document."""
    return Response(_made(request.app)[0], media_type="application/json")


@get("/docs", include_in_schema=False, opt=PUBLIC)
async def docs_page(request: Request[Any, Any, Any]) -> Response[str]:
    """The document for people."""
    return Response(_made(request.app)[1], media_type=MediaType.HTML, headers={"Content-Security-Policy": _POLICY})


def error_codes() -> dict[str, tuple[int, str]]:
    """Every stable code with its status and what to do about it."""
    codes = dict(OTHER_CODES)
    waiting: list[type[errors.PalimpsestError]] = [errors.PalimpsestError]
    while waiting:
        kind = waiting.pop()
        codes.setdefault(kind.code, (kind.status, (kind.__doc__ or "").strip()))
        waiting += reversed(kind.__subclasses__())
    return dict(sorted(codes.items()))


def page(spec: dict[str, Any]) -> str:
    """The page for a document."""
    parts = [f"<h1>{escape(spec['info']['title'])}</h1>{_prose(spec['info']['description'])}"]
    parts.append('<p>The document for programs: <a href="/openapi.json">/openapi.json</a>.</p>')
    for path, operations in sorted(spec["paths"].items()):
        parts += [_operation(path, method, operation) for method, operation in operations.items()]
    rows = "".join(
        f'<tr id="{code}"><td><code>{code}</code></td><td>{status}</td><td>{_marked(advice)}</td></tr>'
        for code, (status, advice) in error_codes().items()
    )
    parts.append(f"<h2>Problem codes</h2><table><tr><th>code</th><th>status</th><th>what to do</th></tr>{rows}</table>")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>{escape(spec['info']['title'])} API</title><style>{_STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _operation(path: str, method: str, operation: dict[str, Any]) -> str:
    name = escape(operation["operationId"])
    parameters = "".join(
        f"<tr><td><code>{escape(parameter['name'])}</code></td><td>{escape(parameter['in'])}</td>"
        f"<td>{_marked(parameter.get('description', ''))}</td></tr>"
        for parameter in operation.get("parameters", ())
    )
    taken = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {}).get("$ref", "")
    body = f"<p>Body: <code>{escape(taken.rpartition('/')[2])}</code></p>" if taken else ""
    statuses = ", ".join(sorted(operation["responses"]))
    return (
        f'<section id="{name}"><h3><code>{method.upper()} {escape(path)}</code></h3><p>{_marked(operation.get("summary", ""))}</p>'
        f"{_prose(operation.get('description', ''))}{body}"
        f"{'<table>' + parameters + '</table>' if parameters else ''}<p>Answers: {statuses}</p></section>"
    )


def _prose(said: str) -> str:
    return f"<p>{_marked(said)}</p>" if said else ""


def _marked(said: str) -> str:
    pieces = escape(said).split("`")
    return "".join(f"<code>{piece}</code>" if place % 2 else piece for place, piece in enumerate(pieces))


def _made(app: Litestar) -> tuple[bytes, str]:
    if "docs" not in app.state:
        spec = document(app)
        app.state.docs = (msgspec.json.encode(spec), page(spec))
    made: tuple[bytes, str] = app.state.docs
    return made
