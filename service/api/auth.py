"""From the key in a request to a principal: who asks, for which tenant, with which rights.

- The tenant comes from the key alone; nothing else in a request names one.
- Every route needs a key unless it is marked `PUBLIC`; a route marked `needs(...)` needs one of those scopes, and `admin` holds them
  all.
- A key that was found is remembered for `CACHE_S` seconds, so that a recall costs no query. Revocation takes effect at once in the
  process that revoked and within that time elsewhere; expiry is looked at on every request.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from litestar.connection import ASGIConnection
from litestar.datastructures import Headers
from litestar.handlers import BaseRouteHandler

from service import telemetry
from service.api.limits import Limiter
from service.errors import Forbidden, PalimpsestError, Unauthenticated
from service.keys import lookup_hash
from service.store import tenants
from service.store.db import Database
from service.store.rows import KeyRow

CACHE_S = 5.0
CACHED_KEYS = 10_000
TOUCH_EVERY = timedelta(minutes=5)  # `last_used_at` is this coarse: exact would be a write on every read
KEY_MAX = 512  # characters; longer ones are no keys of ours and are not worth hashing

PUBLIC: dict[str, Any] = {"public": True}
log = structlog.get_logger()


def needs(*scopes: str) -> dict[str, Any]:
    """Mark of a route that needs a key with one of the scopes."""
    return {"scopes": scopes}


@dataclass(frozen=True, slots=True)
class Principal:
    """A key as the rest of the api knows it."""

    tenant: str
    key_id: str
    scopes: frozenset[str]
    banks: frozenset[str] | None  # bank ids it is pinned to; None: all banks of the tenant
    expires_at: datetime | None
    rate: float | None = None  # requests a second of this key

    def allows(self, *scopes: str) -> bool:
        """Whether it holds one of the scopes."""
        return "admin" in self.scopes or not self.scopes.isdisjoint(scopes)


class Keyring:
    """Finds principals, with a small memory of those it found."""

    def __init__(self, database: Database, pepper: bytes, now: Callable[[], datetime]) -> None:
        self._database, self._pepper, self._now = database, pepper, now
        self._found: OrderedDict[bytes, tuple[float, Principal]] = OrderedDict()
        self._touches: set[asyncio.Task[None]] = set()

    async def find(self, presented: str) -> Principal:
        """The principal of a presented key.

        Raises:
            Unauthenticated: unknown, revoked or expired; the answer does not tell which.
        """
        if len(presented) > KEY_MAX:
            raise Unauthenticated()
        digest = lookup_hash(self._pepper, presented)
        until, principal = self._found.get(digest, (0.0, None))
        if principal is None or time.monotonic() >= until:
            principal = await self._load(digest)
        if principal.expires_at is not None and principal.expires_at <= self._now():
            raise Unauthenticated()
        return principal

    def knows(self, presented: str) -> bool:
        """Whether this key was found here before, and was not seen to be revoked since."""
        return len(presented) <= KEY_MAX and lookup_hash(self._pepper, presented) in self._found

    def forget(self, key_id: str) -> None:
        """The key was revoked: the next request with it is refused."""
        for digest in [digest for digest, (_, principal) in self._found.items() if principal.key_id == key_id]:
            del self._found[digest]

    async def close(self) -> None:
        """Wait for what is still being noted, while there is a database to note it in."""
        await asyncio.gather(*self._touches)

    async def _load(self, digest: bytes) -> Principal:
        async with self._database.read_key(digest) as conn:
            row = await tenants.find_key(conn, digest)
        self._found.pop(digest, None)  # not before: it is known (`knows`) until this says otherwise
        if row is None or row.revoked_at is not None:
            raise Unauthenticated()
        banks = None if row.banks is None else frozenset(row.banks)
        principal = Principal(row.tenant, row.id, frozenset(row.scopes), banks, row.expires_at, row.rate)
        self._found[digest] = (time.monotonic() + CACHE_S, principal)
        while len(self._found) > CACHED_KEYS:
            self._found.popitem(last=False)
        if row.last_used_at is None or self._now() - row.last_used_at > TOUCH_EVERY:
            self._touch(row)
        return principal

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


def presented_key(headers: Headers) -> str:
    """The key in `Authorization: Bearer` or, as an alias, `X-API-Key`.

    Raises:
        Unauthenticated: neither is there, or the authorization has another scheme.
    """
    authorization = headers.get("authorization")
    if authorization is None:
        key = headers.get("x-api-key", "")
    else:
        scheme, _, key = authorization.partition(" ")
        if scheme.lower() != "bearer":
            key = ""
    if not key.strip():
        raise Unauthenticated()
    return key.strip()


async def authorize(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    """Guard of every route: lets public ones through, else finds the principal, holds its tenant to the limits and checks the scopes."""
    if handler.opt.get("public"):
        return
    limiter: Limiter = connection.app.state.limiter
    principal = await _principal(connection, limiter)
    telemetry.bind(tenant=principal.tenant)
    connection.scope["state"]["principal"] = principal  # the log tells whose request it was that is refused
    limiter.enter(connection.scope["state"], principal.tenant)
    if not handler.opt.get("by_items"):
        await limiter.charge(principal.tenant, key=principal.key_id, key_rate=principal.rate)
    scopes = handler.opt.get("scopes", ())
    if scopes and not principal.allows(*scopes):
        raise Forbidden(f"this call needs a key with the scope {' or '.join(scopes)}; ask an admin for one")


async def _principal(connection: ASGIConnection[Any, Any, Any, Any], limiter: Limiter) -> Principal:
    keyring: Keyring = connection.app.state.keyring
    presented = presented_key(connection.headers)
    address = connection.client.host if connection.client else None
    if limiter.is_closed(address) and not keyring.knows(presented):
        raise limiter.too_many_tries()
    try:
        return await keyring.find(presented)
    except Unauthenticated:
        await limiter.tried(address)
        raise
