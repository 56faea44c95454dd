"""The audit log: who did what to what, by which request. Ids only, never what was taught."""

from datetime import datetime
from typing import Any

from msgspec import Struct
from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.ids import new_id
from service.store.tables import audit


class AuditRow(Struct, frozen=True):
    """One entry."""

    id: str
    actor: str
    request_id: str
    action: str
    target: str
    detail: dict[str, Any]
    created_at: datetime


async def record(
    conn: AsyncConnection, tenant: str, *, actor: str, request_id: str, action: str, target: str, detail: dict[str, Any], now: datetime
) -> None:
    """Add an entry in the transaction of what it tells about."""
    values = {"actor": actor, "request_id": request_id, "action": action, "target": target, "detail": detail, "created_at": now}
    await conn.execute(insert(audit).values(tenant=tenant, id=new_id("aud"), **values))


async def page(conn: AsyncConnection, tenant: str, after: str | None, limit: int) -> list[AuditRow]:
    """A page of the tenant's entries, oldest first."""
    columns = [column for column in audit.c if column.name != "tenant"]
    query = select(*columns).where(audit.c.tenant == tenant, audit.c.id > (after or "")).order_by(audit.c.id).limit(limit)
    return [AuditRow(**row._mapping) for row in await conn.execute(query)]
