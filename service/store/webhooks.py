"""Webhooks: which addresses are told of which changes, and how it went.

A delivery is on its way until it was answered well, or an attempt too many was not. An attempt is taken for a while: if its process
dies, it is made again after that, so what is delivered is delivered at least once.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.ids import new_id
from service.store.rows import DeliveryRow, WebhookRow
from service.store.tables import change, delivery, webhook

MOST = 20  # webhooks of a tenant


async def add_webhook(
    conn: AsyncConnection, tenant: str, *, id: str, url: str, events: Sequence[str], created_by: str, now: datetime
) -> WebhookRow:
    """A new webhook."""
    values = {"id": id, "url": url, "events": list(events), "created_by": created_by, "created_at": now}
    await conn.execute(insert(webhook).values(tenant=tenant, **values))
    return await get_webhook(conn, tenant, id)


async def list_webhooks(conn: AsyncConnection, tenant: str, after: str | None, limit: int) -> list[WebhookRow]:
    """A page of the tenant's webhooks by id."""
    query = select(webhook).where(webhook.c.tenant == tenant, webhook.c.id > (after or "")).order_by(webhook.c.id).limit(limit)
    return [_webhook(row) for row in await conn.execute(query)]


async def get_webhook(conn: AsyncConnection, tenant: str, webhook_id: str) -> WebhookRow:
    """One of the tenant's webhooks, or `NotFound`."""
    row = (await conn.execute(select(webhook).where(webhook.c.tenant == tenant, webhook.c.id == webhook_id))).first()
    if row is None:
        raise NotFound(f"no webhook {webhook_id}")
    return _webhook(row)


async def delete_webhook(conn: AsyncConnection, tenant: str, webhook_id: str) -> None:
    """The webhook is told nothing more, and what is known of its deliveries goes."""
    await conn.execute(delete(delivery).where(delivery.c.tenant == tenant, delivery.c.webhook == webhook_id))
    await conn.execute(delete(webhook).where(webhook.c.tenant == tenant, webhook.c.id == webhook_id))


async def send(conn: AsyncConnection, tenant: str, changes: Sequence[tuple[str, str]], now: datetime) -> None:
    """Put changes `(id, kind)` on their way to the webhooks that want them."""
    hooks = await list_webhooks(conn, tenant, None, MOST)
    fresh = [_on_its_way(tenant, hook.id, name, now) for name, kind in changes for hook in hooks if kind in hook.events]
    if fresh:
        await conn.execute(insert(delivery), fresh)


async def list_deliveries(conn: AsyncConnection, tenant: str, webhook_id: str, after: str | None, limit: int) -> list[DeliveryRow]:
    """A page of a webhook's deliveries, newest first."""
    query = _deliveries(tenant).where(delivery.c.webhook == webhook_id).order_by(delivery.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(delivery.c.id < after)
    return [DeliveryRow(**row._mapping) for row in await conn.execute(query)]


async def get_delivery(conn: AsyncConnection, tenant: str, delivery_id: str) -> DeliveryRow:
    """One of the tenant's deliveries, or `NotFound`."""
    row = (await conn.execute(_deliveries(tenant).where(delivery.c.id == delivery_id))).first()
    if row is None:
        raise NotFound(f"no delivery {delivery_id}")
    return DeliveryRow(**row._mapping)


async def deliver_again(conn: AsyncConnection, tenant: str, delivery_id: str, now: datetime) -> None:
    """Put a delivery on its way once more, from its first attempt on."""
    mine = (delivery.c.tenant == tenant) & (delivery.c.id == delivery_id)
    await conn.execute(update(delivery).where(mine).values(status="pending", attempts=0, due_at=now, updated_at=now))


async def due(conn: AsyncConnection, now: datetime, limit: int) -> list[tuple[str, str]]:
    """Tenant and id of the deliveries that are due, those first that have waited longest. The transaction is a sweep."""
    query = select(delivery.c.tenant, delivery.c.id).where(delivery.c.status == "pending", delivery.c.due_at <= now)
    return [(row.tenant, row.id) for row in await conn.execute(query.order_by(delivery.c.due_at).limit(limit))]


async def take(conn: AsyncConnection, tenant: str, delivery_id: str, *, now: datetime, until: datetime) -> bool:
    """Begin an attempt; nobody else does `until` then. False if somebody has, or it is done."""
    mine = (delivery.c.tenant == tenant) & (delivery.c.id == delivery_id)
    free = (delivery.c.status == "pending") & (delivery.c.due_at <= now)
    taken = update(delivery).where(mine, free).values(attempts=delivery.c.attempts + 1, due_at=until, updated_at=now)
    return bool((await conn.execute(taken)).rowcount)


async def ended(
    conn: AsyncConnection,
    tenant: str,
    delivery_id: str,
    *,
    attempt: int,
    status: str,
    answered: int | None,
    error: str | None,
    due_at: datetime,
    now: datetime,
) -> None:
    """How an attempt went. What was taken up by another one meanwhile is left to that."""
    mine = (delivery.c.tenant == tenant) & (delivery.c.id == delivery_id) & (delivery.c.attempts == attempt)
    values = {"status": status, "answered": answered, "error": error, "due_at": due_at, "updated_at": now}
    await conn.execute(update(delivery).where(mine, delivery.c.status == "pending").values(**values))


def _on_its_way(tenant: str, webhook_id: str, change_id: str, now: datetime) -> dict[str, Any]:
    fresh = {"status": "pending", "attempts": 0, "due_at": now, "created_at": now, "updated_at": now}
    return {"tenant": tenant, "id": new_id("dlv"), "webhook": webhook_id, "change": change_id, **fresh}


def _webhook(row: Row[Any]) -> WebhookRow:
    return WebhookRow(id=row.id, url=row.url, events=tuple(row.events), created_by=row.created_by, created_at=row.created_at)


def _deliveries(tenant: str) -> Select[Any]:
    same = (change.c.tenant == delivery.c.tenant) & (change.c.id == delivery.c.change)
    columns = [column for column in delivery.c if column.name != "tenant"]
    return select(*columns, change.c.kind).select_from(delivery.join(change, same)).where(delivery.c.tenant == tenant)
