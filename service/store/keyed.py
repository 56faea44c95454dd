"""Idempotency keys step by step, each step a transaction of its own in one go, if nobody used the key before.

A step need not be `durable` where the request can be told of without it: because it only reads, or because what it has written says so (its
rows are in the ledger, with the key; without a key that has begun nothing is written). Then a crash of the server costs another try, or a
reply that is made again.
"""

from datetime import datetime
from functools import partial
from math import ceil
from typing import Any

from service.errors import Capacity
from service.store import idempotency
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.idempotency import Committed, Done, Fresh


class Keyed:
    """What becomes of requests with a key; see `idempotency` for each step."""

    def __init__(self, database: Database, *, durable: bool = True) -> None:
        self._database, self._durable = database, durable

    async def begin(
        self, tenant: str, key: str, *, request_hash: bytes, now: datetime, lease_s: float, quotes: bool
    ) -> Fresh | Committed | Done:
        """See `idempotency.begin`."""
        how: dict[str, Any] = {"request_hash": request_hash, "now": now, "lease_s": lease_s}
        try:
            if await self._database.send(
                tenant, [idempotency.beginning(self._database.dialect, tenant, key, **how)], durable=self._durable
            ):
                return Fresh()
        except CommitUnknown as error:  # of the key; of what was asked nothing was begun
            raise Capacity(retry_after_s=ceil(lease_s)) from error  # until then the key may be taken by this one
        return await self._database.at_once(tenant, partial(idempotency.begin, tenant=tenant, key=key, **how, quotes=quotes))

    async def finish(self, tenant: str, key: str, *, status: int, reply: bytes, now: datetime, quotes_since: datetime | None) -> None:
        """See `idempotency.finish`."""
        finishing = idempotency.finishing(tenant, key, status=status, reply=reply, now=now, quotes_since=quotes_since)
        await self._database.send(tenant, [finishing], durable=self._durable)
