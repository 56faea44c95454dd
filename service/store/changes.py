"""What happened in a tenant, for webhooks and the change feed: an outbox, and the order in which it is read.

A change is written in the transaction of what it tells of, without a place in the feed: to give one there would let all writers of a tenant
wait for each other. Whoever reads gives places to what is committed by then (`publish`), one at a time, so a change that is committed
later comes later, and who has read up to a place has missed nothing before it. The same transaction puts the change on its way
to every webhook that wants it.

Ids and states only, never what was taught.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, get_args

from sqlalchemy import Select, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.ids import new_id
from service.store import webhooks
from service.store.rows import ChangeRow
from service.store.tables import change, delivery, trail
from service.wire.parts import ChangeKind

KINDS: tuple[str, ...] = get_args(ChangeKind)
KEPT = timedelta(days=7)  # how long the feed can be taken up again
BATCH = 500  # changes that get their places in one transaction
ADD = insert(change)


async def emit(conn: AsyncConnection, tenant: str, kind: str, bank: str, data: dict[str, Any], now: datetime) -> None:
    """Note a change in the transaction of what it tells of."""
    assert kind in KINDS, kind
    values = {"id": new_id("chg"), "kind": kind, "bank": bank, "data": data, "created_at": now}
    await conn.execute(ADD, {"tenant": tenant, **values})


async def waiting(conn: AsyncConnection, tenant: str) -> bool:
    """Whether there are changes without a place."""
    query = select(change.c.id).where(change.c.tenant == tenant, change.c.position.is_(None)).limit(1)
    return (await conn.execute(query)).first() is not None


async def tenants_waiting(conn: AsyncConnection) -> list[str]:
    """The tenants with changes that have no place. The transaction is a sweep."""
    return list((await conn.execute(select(change.c.tenant).where(change.c.position.is_(None)).distinct())).scalars())


async def publish(conn: AsyncConnection, tenant: str, now: datetime) -> int:
    """Give places to changes that have none, and put them on their way to the webhooks; how many they were, at most `BATCH`."""
    end = (await conn.execute(select(trail.c.changes).where(trail.c.tenant == tenant).with_for_update())).scalar()
    if end is None:
        return 0
    query = select(change.c.id, change.c.kind).where(change.c.tenant == tenant, change.c.position.is_(None))
    rows = (await conn.execute(query.order_by(change.c.id).limit(BATCH))).all()
    if not rows:
        return 0
    for position, row in enumerate(rows, start=end + 1):
        await conn.execute(update(change).where(change.c.tenant == tenant, change.c.id == row.id).values(position=position))
    await conn.execute(update(trail).where(trail.c.tenant == tenant).values(changes=end + len(rows)))
    await webhooks.send(conn, tenant, [(row.id, row.kind) for row in rows], now)
    return len(rows)


async def last(conn: AsyncConnection, tenant: str) -> int:
    """The last place that was given out."""
    return (await conn.execute(select(trail.c.changes).where(trail.c.tenant == tenant))).scalar() or 0


async def first(conn: AsyncConnection, tenant: str) -> int | None:
    """The first place that is still kept."""
    lowest: int | None = (await conn.execute(select(func.min(change.c.position)).where(change.c.tenant == tenant))).scalar()
    return lowest


async def page(
    conn: AsyncConnection, tenant: str, after: int, limit: int, *, kinds: Sequence[str] | None = None, banks: Sequence[str] | None = None
) -> list[ChangeRow]:
    """The changes behind a place, in order; of these kinds, in these banks."""
    query = _changes(tenant).where(change.c.position > after).order_by(change.c.position).limit(limit)
    if kinds is not None:
        query = query.where(change.c.kind.in_(list(kinds)))
    if banks is not None:
        query = query.where(change.c.bank.in_(list(banks)))
    return [ChangeRow(**row._mapping) for row in await conn.execute(query)]


async def get_change(conn: AsyncConnection, tenant: str, change_id: str) -> ChangeRow:
    """One change that has its place, or `NotFound`."""
    row = (await conn.execute(_changes(tenant).where(change.c.id == change_id, change.c.position.is_not(None)))).first()
    if row is None:
        raise NotFound(f"no change {change_id}")
    return ChangeRow(**row._mapping)


async def tenants_with_old(conn: AsyncConnection, before: datetime) -> list[str]:
    """The tenants with changes that are older than `before`. The transaction is a sweep."""
    return list((await conn.execute(select(change.c.tenant).where(change.c.created_at < before).distinct())).scalars())


async def purge(conn: AsyncConnection, tenant: str, before: datetime) -> None:
    """Drop changes that are older than `before`, and what is known of their deliveries; not those that are still to be delivered."""
    pending = select(delivery.c.change).where(delivery.c.tenant == tenant, delivery.c.status == "pending")
    old = (change.c.tenant == tenant) & (change.c.created_at < before) & change.c.position.is_not(None) & change.c.id.not_in(pending)
    await conn.execute(delete(delivery).where(delivery.c.tenant == tenant, delivery.c.change.in_(select(change.c.id).where(old))))
    await conn.execute(delete(change).where(old))


def _changes(tenant: str) -> Select[Any]:
    return select(*(column for column in change.c if column.name != "tenant")).where(change.c.tenant == tenant)
