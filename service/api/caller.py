"""The caller of one request: its principal, and the banks it may name.

A bank is named by the request, else it is the one bank that the key is pinned to, else `default`. A bank that the key may not use does
not exist for it: the answer is the same `not-found` as for a bank that nobody has.
"""

from typing import Any

from litestar import Request

from service import telemetry
from service.api.auth import Keyring, Principal
from service.api.deps import Connection, Deps
from service.api.limits import Limiter
from service.cluster.engine import Actor
from service.errors import Forbidden, NotFound
from service.store import audit, banks
from service.store.rows import BankRow

DEFAULT_BANK = "default"


class Caller:
    """Who asks, with what the answer is made from."""

    __slots__ = ("deps", "keyring", "limiter", "principal", "request", "request_id", "tenant")

    def __init__(self, request: Request[Any, Any, Any]) -> None:
        self.request = request
        self.deps: Deps = request.app.state.deps
        self.keyring: Keyring = request.app.state.keyring
        self.limiter: Limiter = request.app.state.limiter
        self.principal: Principal = request.scope["state"]["principal"]
        self.request_id: str = request.scope["state"]["request_id"]
        self.tenant = self.principal.tenant

    @property
    def actor(self) -> Actor:
        """Who asks, for the audit."""
        return Actor(key_id=self.principal.key_id, request_id=self.request_id)

    async def bank(self, named: str | None) -> str:
        """The name or id that the engine takes for the bank of this request; a query only for a pinned key that gives a name.

        Raises:
            NotFound: the key may not use it, or a pinned key names one that does not exist.
        """
        pinned = self.principal.banks
        if pinned is None:
            return named or DEFAULT_BANK
        if named is None and len(pinned) == 1:
            return next(iter(pinned))
        if named in pinned:
            return named
        return (await self.bank_row(named)).id

    async def bank_row(self, named: str | None) -> BankRow:
        """The bank of this request as the store has it.

        Raises:
            NotFound: no such bank for this key.
        """
        pinned = self.principal.banks
        wanted = next(iter(pinned)) if named is None and pinned is not None and len(pinned) == 1 else named or DEFAULT_BANK
        async with self.deps.database.read(self.tenant) as conn:
            try:
                row = await banks.find_bank(conn, self.tenant, wanted)
            except NotFound:
                row = None
        if row is None or (pinned is not None and row.id not in pinned):
            raise NotFound(f"this key has no bank {wanted!r}")
        telemetry.bind(bank=row.id)
        return row

    async def charge(self, items: int) -> None:
        """Count a batch; on a route marked `BY_ITEMS` it is all that is counted of the request.

        Raises:
            TooFast: it is above the key's or the tenant's rate.
        """
        await self.limiter.charge(self.tenant, items, key=self.principal.key_id, key_rate=self.principal.rate)

    async def note(self, conn: Connection, action: str, target: str, detail: dict[str, Any]) -> None:
        """Add an audit line in the open transaction of what it tells about."""
        now, actor = self.deps.now(), self.principal.key_id
        await audit.record(conn, self.tenant, actor=actor, request_id=self.request_id, action=action, target=target, detail=detail, now=now)

    def sees(self, bank_id: str | None) -> bool:
        """Whether something that belongs to the bank (None: to the tenant) may be shown to this key."""
        return self.principal.banks is None or bank_id in self.principal.banks

    def refuse_pinned(self, what: str) -> None:
        """Raise unless the key is for the whole tenant.

        Raises:
            Forbidden: the key is pinned to banks.
        """
        if self.principal.banks is not None:
            raise Forbidden(f"this key is pinned to banks and cannot {what}; use a key of the whole tenant")


async def provide_caller(request: Request[Any, Any, Any]) -> Caller:
    """Dependency `caller` of every route that needs a key."""
    return Caller(request)
