"""From the key in a request to a principal: who asks, for which tenant, with which rights.

- The tenant comes from the key alone; nothing else in a request names one.
- Every route needs a key unless it is marked `PUBLIC`; a route marked `needs(...)` needs one of those scopes, and `admin` holds them
  all.
- The console's pages send a cookie in its place (`service/console/cookie.py` says when that counts). It stands for the key that was signed
  in with, has no rights of its own, and ends with the key.
- A key that was found is remembered for `CACHE_S` seconds, so that a recall costs no query. Revocation takes effect at once in the
  process that revoked and within that time elsewhere; expiry is looked at on every request.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.enums import ScopeType
from litestar.handlers import BaseRouteHandler

from service import telemetry
from service.api.limits import Limiter
from service.console import cookie
from service.errors import Forbidden, NotFound, PalimpsestError, Unauthenticated
from service.keys import lookup_hash
from service.store import sign_ins, tenants
from service.store.db import Database
from service.store.rows import KeyRow, SignInRow

CACHE_S = 5.0
CACHED_KEYS = 10_000
TOUCH_EVERY = timedelta(minutes=5)  # `last_used_at` is this coarse: exact would be a write on every read
KEY_MAX = 512  # characters; longer ones are no keys of ours and are not worth hashing

PUBLIC: dict[str, Any] = {"public": True}
log = structlog.get_logger()


def needs(*scopes: str) -> dict[str, Any]:
    """Mark of a route that needs a key with one of the scopes."""
    return {"scopes": scopes}


class Presented(NamedTuple):
    """What a request brought to say who it is: a key, or the token of a console's cookie."""

    secret: str
    is_cookie: bool = False

    def lookup_hash(self, pepper: bytes) -> bytes:
        """What it is found by; a key never has the hash of a token."""
        return lookup_hash(pepper, f"console\n{self.secret}" if self.is_cookie else self.secret)


@dataclass(frozen=True, slots=True)
class Principal:
    """A key as the rest of the api knows it."""

    tenant: str
    key_id: str
    scopes: frozenset[str]
    banks: frozenset[str] | None  # bank ids it is pinned to; None: all banks of the tenant
    expires_at: datetime | None
    rate: float | None = None  # requests a second of this key
    sign_in: str | None = None  # the sign-in to the console that stands for the key; None: the key itself was sent

    def allows(self, *scopes: str) -> bool:
        """Whether it holds one of the scopes."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


class Keyring:
    """Finds principals, with a small memory of those it found."""

    def __init__(self, database: Database, pepper: bytes, now: Callable[[], datetime]) -> None:
        self._database, self._pepper, self._now = database, pepper, now
        self._found: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._touches: set[asyncio.Task[None]] = set()

    async def find(self, presented: Presented) -> Principal:
        """The principal of what was presented.

        Raises:
            Unauthenticated: unknown, revoked or expired; the answer does not tell which.
        """
        if len(presented.secret) > KEY_MAX:
            raise Unauthenticated()
        digest = presented.lookup_hash(self._pepper)
        until, principal = self._found.get(digest, (0.0, None))
        if principal is None or time.monotonic() >= until:
            principal = await self._load(digest, is_cookie=presented.is_cookie)
        if principal.expires_at is not None and principal.expires_at <= self._now():
            raise Unauthenticated()
        return principal

    def knows(self, presented: Presented) -> bool:
        """Whether it was found here before, and was not seen to be revoked since."""
        return len(presented.secret) <= KEY_MAX and presented.lookup_hash(self._pepper) in self._found

    def forget(self, key_or_sign_in: str) -> None:
        """The key was revoked, or signed out: the next request with it is refused."""
        for digest in [digest for digest, (_, one) in self._found.items() if key_or_sign_in in (one.key_id, one.sign_in)]:
            del self._found[digest]

    async def close(self) -> None:
        """Wait for what is still being noted, while there is a database to note it in."""
        await asyncio.gather(*self._touches)

    async def _load(self, digest: bytes, *, is_cookie: bool) -> Principal:
        signed_in = await self._sign_in(digest) if is_cookie else None
        row = await (self._key_of(signed_in) if is_cookie else self._key(digest))
        self._found.pop(digest, None)  # not before: it is known (`knows`) until this says otherwise
        if row is None or row.revoked_at is not None:
            raise Unauthenticated()
        banks = None if row.banks is None else frozenset(row.banks)
        principal = Principal(row.tenant, row.id, frozenset(row.scopes), banks, row.expires_at, row.rate)
        if signed_in is not None:
            ends = min(signed_in.expires_at, row.expires_at or signed_in.expires_at)
            principal = replace(principal, sign_in=signed_in.id, expires_at=ends)
        self._found[digest] = (time.monotonic() + CACHE_S, principal)
        while len(self._found) > CACHED_KEYS:
            self._found.popitem(last=False)
        if row.last_used_at is None or self._now() - row.last_used_at > TOUCH_EVERY:
            self._touch(row)
        return principal

    async def _key(self, digest: bytes) -> KeyRow | None:
        async with self._database.read_key(digest) as conn:
            return await tenants.find_key(conn, digest)

    async def _sign_in(self, digest: bytes) -> SignInRow | None:
        async with self._database.read_key(digest) as conn:
            return await sign_ins.find_sign_in(conn, digest)

    async def _key_of(self, signed_in: SignInRow | None) -> KeyRow | None:
        if signed_in is None:
            return None
        async with self._database.read(signed_in.tenant) as conn:
            try:
                return await tenants.get_key(conn, signed_in.tenant, signed_in.key)
            except NotFound:  # the tenant was erased between the two looks
                return None

    def _touch(self, row: KeyRow) -> None:
        task = asyncio.get_running_loop().create_task(self._note_use(row))  # beside the request, which does not wait for it
        self._touches.add(task)
        task.add_done_callback(self._touches.discard)

    async def _note_use(self, row: KeyRow) -> None:
        try:
            async with self._database.write(row.tenant) as conn:
                await tenants.touch_key(conn, row.tenant, row.id, self._now())
        except PalimpsestError as error:  # a full disk must not stop reads; the time stays as it was
            log.warning("key use not noted", action="touch", key=row.id, why=error.code)


def presented_by(connection: ASGIConnection[Any, Any, Any, Any]) -> Presented:
    """What the request says who it is with: a key, which goes first, or the console's cookie.

    Raises:
        Unauthenticated: nothing. Forbidden: the cookie, from a page that is not the console.
    """
    headers = connection.headers
    if "authorization" not in headers and "x-api-key" not in headers:
        scope = connection.scope
        method = scope["method"] if scope["type"] == ScopeType.HTTP else ""  # no route is anything else
        token = cookie.token_in(method, headers, connection.cookies)
        if token is not None:
            return Presented(token, is_cookie=True)
    schemes = ("bearer", "token") if connection.scope["path"].startswith("/compat/mem0/") else ("bearer",)  # as mem0's clients send it
    return Presented(presented_key(headers, schemes))


def presented_key(headers: Headers, schemes: tuple[str, ...] = ("bearer",)) -> str:
    """The key in `Authorization: Bearer` or, as an alias, `X-API-Key`.

    Raises:
        Unauthenticated: neither is there, or the authorization has none of the schemes.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        key = headers.get("x-api-key", "")
    else:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() not in schemes:
            key = ""
    if not key.strip():
        raise Unauthenticated()
    return key.strip()


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: lets public ones through, else finds the principal, holds its tenant to the limits and checks the scopes."""
    if handler.opt.get("public"):
        return
    limiter: Limiter = connection.app.state.limiter
    principal = await principal_of(connection)
    telemetry.bind(tenant=principal.tenant)
    connection.scope["state"]["principal"] = principal  # the log tells whose request it was that is refused
    limiter.enter(connection.scope["state"], principal.tenant)
    if not handler.opt.get("by_items"):
        await limiter.charge(principal.tenant, key=principal.key_id, key_rate=principal.rate)
    scopes = handler.opt.get("scopes", ())
    if scopes and not principal.allows(*scopes):
        raise Forbidden(f"this call needs a key with the scope {' or '.join(scopes)}; ask an admin for one")


async def principal_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Principal:
    """Who sent the request.

    Raises:
        Unauthenticated: nobody that is known. Forbidden: see `presented_by`. TooFast: this address has tried too many keys.
    """
    limiter: Limiter = connection.app.state.limiter
    keyring: Keyring = connection.app.state.keyring
    presented = presented_by(connection)
    address = connection.client.host if connection.client else None
    if limiter.is_closed(address) and not keyring.knows(presented):
        raise limiter.too_many_tries()
    try:
        return await keyring.find(presented)
    except Unauthenticated:
        await limiter.tried(address)
        raise
