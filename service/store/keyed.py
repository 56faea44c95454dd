"""Idempotency keys step by step, each step a transaction of its own in one go: on PostgreSQL one message, if nobody used the key before."""

from datetime import datetime, timedelta
from functools import partial
from math import ceil

from service.errors import Capacity
from service.store import idempotency
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.idempotency import ERASED, OVERLAP, Committed, Done, Fresh

BEGIN = """
INSERT INTO idempotency (tenant, key, request_hash, status, lease_until, created_at)
VALUES (%(tenant)s::text, %(key)s::text, %(request_hash)s, 'pending', %(lease)s, %(now)s)
ON CONFLICT DO NOTHING RETURNING 1
"""
SINCE = "WHERE tenant = %(tenant)s::text AND created_at >= %(since)s::timestamptz"
FORGOTTEN = f"EXISTS (SELECT FROM forget {SINCE}) OR EXISTS (SELECT FROM quarantine {SINCE})"  # noqa: S608 (a condition of ours)
FINISH = f"""
UPDATE idempotency SET status = 'done', reply_status = %(status)s, created_at = %(now)s, lease_until = NULL,
  reply = CASE WHEN {FORGOTTEN} THEN %(erased)s::bytea ELSE %(reply)s::bytea END
WHERE tenant = %(tenant)s::text AND key = %(key)s::text
RETURNING 1
"""  # noqa: S608 (a condition of ours)


class Keyed:
    """What becomes of requests with a key; see `idempotency` for each step."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def begin(
        self, tenant: str, key: str, *, request_hash: bytes, now: datetime, lease_s: float, quotes: bool
    ) -> Fresh | Committed | Done:
        """See `idempotency.begin`."""
        begin = partial(idempotency.begin, tenant=tenant, key=key, request_hash=request_hash, now=now, lease_s=lease_s, quotes=quotes)
        if self._database.dialect == "postgresql":
            lease = now + timedelta(seconds=lease_s)
            values = {"tenant": tenant, "key": key, "request_hash": request_hash, "lease": lease, "now": now}
            try:
                if await self._database.send(tenant, [(BEGIN, values)]):
                    return Fresh()
            except CommitUnknown as error:  # of the key; of what was asked nothing was begun
                raise Capacity(retry_after_s=ceil(lease_s)) from error  # until then the key may be taken by this one
        return await self._database.at_once(tenant, begin)

    async def finish(self, tenant: str, key: str, *, status: int, reply: bytes, now: datetime, quotes_since: datetime | None) -> None:
        """See `idempotency.finish`."""
        if self._database.dialect == "postgresql":
            since = None if quotes_since is None else quotes_since - OVERLAP
            values = {"tenant": tenant, "key": key, "status": status, "reply": reply, "now": now, "since": since, "erased": ERASED}
            await self._database.send(tenant, [(FINISH, values)])
            return
        finish = partial(idempotency.finish, tenant=tenant, key=key, status=status, reply=reply, now=now, quotes_since=quotes_since)
        await self._database.at_once(tenant, finish)
