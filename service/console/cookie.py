"""The cookie of the console: what it is called, how it is set, and from which requests it is taken.

A cookie comes with every request that a browser sends to this host, whoever made the browser send it. So it counts only

1. beside the header `Palimpsest-Console`, which no page of another origin can add without asking (CORS), and nobody here says yes; and,
2. where a request changes something, if the browser says that it comes from this very origin: `Sec-Fetch-Site`, or, where a browser does
   not send that (plain http to another machine), an `Origin` whose host is the one that was asked.

`SameSite=Strict` alone would not do: ports do not count there, so that any other program on this machine is the same site.
"""

from urllib.parse import urlsplit

from litestar.datastructures import Cookie, Headers

from service.errors import Forbidden

HEADER = "palimpsest-console"
PLAIN, SECURE = "palimpsest_console", "__Host-palimpsest_console"  # a browser takes the second from this host over https alone
SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def token_in(method: str, headers: Headers, cookies: dict[str, str]) -> str | None:
    """The cookie's token if the request may use it; None when it brings none, or no header beside it.

    Raises:
        Forbidden: it would change something and does not come from the console.
    """
    token = cookies.get(SECURE) or cookies.get(PLAIN)
    if not token or HEADER not in headers:
        return None
    if method not in SAFE:
        refuse_foreign(headers)
    return token


def refuse_foreign(headers: Headers) -> None:
    """Raise unless a page of this origin made the request.

    Raises:
        Forbidden: another one did, or nobody says who.
    """
    site = headers.get("sec-fetch-site")
    ours = site == "same-origin" if site is not None else _host_of_origin(headers) == headers.get("host", "")
    if not ours or HEADER not in headers:
        raise Forbidden("a signed-in browser may change something from the console's own page alone; programs send a key")


def signed_in(headers: Headers, token: str, seconds: int) -> Cookie:
    """The cookie to set: readable by no script, sent to this host alone, and over https alone if it was asked so."""
    return _cookie(headers, token, seconds)


def signed_out(headers: Headers) -> Cookie:
    """The cookie that takes it away."""
    return _cookie(headers, "", 0)


def _cookie(headers: Headers, value: str, seconds: int) -> Cookie:
    secure = headers.get("origin", "").startswith("https://")  # what the browser sees, also behind a proxy that ends TLS
    return Cookie(key=SECURE if secure else PLAIN, value=value, max_age=seconds, path="/", secure=secure, httponly=True, samesite="strict")


def _host_of_origin(headers: Headers) -> str | None:
    return urlsplit(headers.get("origin", "")).netloc or None
