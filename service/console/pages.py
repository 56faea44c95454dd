"""The console's page and its parts: plain files of this package, read once, sent as they are.

The address of a part holds the digest of all of them. So a browser may keep a part for ever, a page never mixes parts of two versions,
and what is asked for is looked up among the parts that there are: no path of a client's is ever opened.
"""

import gzip
import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from litestar import MediaType, Request, Response, get
from litestar.params import FromPath

from service.api.auth import PUBLIC
from service.errors import NotFound

FOLDER = Path(__file__).parent / "static"
PAGE = "index.html"
TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml", ".txt": "text/plain"}
POLICY = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'none'; frame-ancestors 'none'"
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
}


@dataclass(frozen=True, slots=True)
class Part:
    """A file as it is sent."""

    body: bytes
    packed: bytes
    media_type: str

    @classmethod
    def of(cls, body: bytes, suffix: str) -> "Part":
        """The file with this content and ending."""
        return cls(body, gzip.compress(body, mtime=0), TYPES[suffix])


@get("/console", include_in_schema=False, opt=PUBLIC, media_type=MediaType.HTML)
async def page(request: Request[Any, Any, Any]) -> Response[bytes]:
    """The console; what it shows comes from /v1."""
    return _send(request, _site()[1][PAGE], "no-cache")


@get("/console/{version:str}/{name:path}", include_in_schema=False, opt=PUBLIC, media_type=MediaType.TEXT)
async def part(request: Request[Any, Any, Any], version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """A script, a style sheet, a licence."""
    now, parts = _site()
    found = parts.get(name.removeprefix("/"))
    if version != now or found is None:
        raise NotFound("the console has no such part; load /console again")
    return _send(request, found, "public, max-age=31536000, immutable")


@cache
def _site() -> tuple[str, dict[str, Part]]:
    files = {path.relative_to(FOLDER).as_posix(): path.read_bytes() for path in sorted(FOLDER.rglob("*")) if path.suffix in TYPES}
    version = hashlib.sha256(b"".join(hashlib.sha256(name.encode() + body).digest() for name, body in files.items())).hexdigest()[:16]
    modules = [name for name in files if name.endswith(".js") and name not in ("theme.js", "vendor/uplot.js")]
    preloads = "".join(f'<link rel="modulepreload" href="/console/{version}/{name}">' for name in modules)
    html = files[PAGE].decode().replace("<!-- modules -->", preloads).replace("{version}", version)
    return version, {name: Part.of(html.encode() if name == PAGE else body, Path(name).suffix) for name, body in files.items()}


def _send(request: Request[Any, Any, Any], part: Part, kept: str) -> Response[bytes]:
    packed = "gzip" in request.headers.get("accept-encoding", "")
    headers = HEADERS | {"Cache-Control": kept} | ({"Content-Encoding": "gzip"} if packed else {})
    return Response(part.packed if packed else part.body, media_type=part.media_type, headers=headers)
