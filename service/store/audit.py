"""The audit log: who did what to what, by which request. Ids only, never what was taught.

It is a hash chain for each tenant, whose end is in the row of `trail`: what was changed, taken out or cut off at the end shows.

    hash = SHA-256(prev_hash ‖ JSON [seq, id, actor, request_id, action, target, detail, created_at])
"""

import hashlib
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

from sqlalchemy import insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.ids import new_id
from service.store.rows import AuditRow
from service.store.tables import audit, trail

PAGE = 500  # entries verified at once
TOLD = ("id", "actor", "request_id", "action", "target", "detail")


class Verified(NamedTuple):
    """What a look at the whole chain has found: its end, or the first entry that does not hold."""

    entries: int
    hash: str
    broken_seq: int | None = None
    broken_id: str | None = None
    why: Literal["changed", "missing"] | None = None


async def record(
    conn: AsyncConnection, tenant: str, *, actor: str, request_id: str, action: str, target: str, detail: dict[str, Any], now: datetime
) -> None:
    """Add an entry in the transaction of what it tells about; do it last, since whoever else adds one waits for its end.

    Raises:
        NotFound: there is no such tenant (any more).
    """
    taken = update(trail).where(trail.c.tenant == tenant).values(audit_seq=trail.c.audit_seq + 1)
    end = (
        await conn.execute(taken.returning(trail.c.audit_seq, trail.c.audit_hash))
    ).first()  # the lock of the row: nobody forks the chain
    if end is None:
        raise NotFound("what this tells of is gone: its bank was deleted meanwhile, or its tenant erased")
    entry = {"id": new_id("aud"), "actor": actor, "request_id": request_id, "action": action, "target": target, "detail": detail}
    whole = chain_hash(end.audit_hash, end.audit_seq, entry, now)
    chained = {"seq": end.audit_seq, "prev_hash": end.audit_hash, "hash": whole, "created_at": now}
    await conn.execute(insert(audit).values(tenant=tenant, **entry, **chained))
    await conn.execute(update(trail).where(trail.c.tenant == tenant).values(audit_hash=whole))


async def happened(conn: AsyncConnection, tenant: str, action: str) -> bool:
    """Whether the action was ever recorded for the tenant."""
    return (await conn.execute(select(audit.c.id).where(audit.c.tenant == tenant, audit.c.action == action).limit(1))).first() is not None


async def page(conn: AsyncConnection, tenant: str, after: int | None, limit: int) -> list[AuditRow]:
    """A page of the tenant's entries, newest first."""
    columns = [column for column in audit.c if column.name != "tenant"]
    query = select(*columns).where(audit.c.tenant == tenant).order_by(audit.c.seq.desc()).limit(limit)
    if after is not None:
        query = query.where(audit.c.seq < after)
    return [AuditRow(**row._mapping) for row in await conn.execute(query)]


async def verify(conn: AsyncConnection, tenant: str) -> Verified:
    """Read the whole chain and check every link, in one transaction that reads."""
    seq, prev = 0, ""
    while True:
        query = select(audit).where(audit.c.tenant == tenant, audit.c.seq > seq).order_by(audit.c.seq).limit(PAGE)
        rows = (await conn.execute(query)).all()
        for row in rows:
            if row.seq != seq + 1:
                return Verified(seq, prev, seq + 1, None, "missing")
            if row.prev_hash != prev or row.hash != chain_hash(prev, row.seq, row._asdict(), row.created_at):
                return Verified(seq, prev, row.seq, row.id, "changed")
            seq, prev = row.seq, row.hash
        if len(rows) < PAGE:
            break
    end = (await conn.execute(select(trail.c.audit_seq, trail.c.audit_hash).where(trail.c.tenant == tenant))).first()
    if end is None or (end.audit_seq, end.audit_hash) != (seq, prev):
        return Verified(seq, prev, seq + 1, None, "missing")
    return Verified(seq, prev)


def chain_hash(prev: str, seq: int, entry: Mapping[str, Any], created_at: datetime) -> str:
    """An entry's link to the one before it."""
    at = created_at.astimezone(UTC).isoformat(timespec="microseconds")
    told = json.dumps([seq, *(entry[name] for name in TOLD), at], sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(prev.encode() + told.encode()).hexdigest()
