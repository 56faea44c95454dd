"""The audit log: who did what to what, by which request. Ids only, never what was taught."""

from datetime import datetime
from typing import Any

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.ids import new_id
from service.store.rows import AuditRow
from service.store.tables import audit


async def record(
    conn: AsyncConnection, tenant: str, *, actor: str, request_id: str, action: str, target: str, detail: dict[str, Any], now: datetime
) -> None:
    """Add an entry in the transaction of what it tells about."""
    values = {"actor": actor, "request_id": request_id, "action": action, "target": target, "detail": detail, "created_at": now}
    await conn.execute(insert(audit).values(tenant=tenant, id=new_id("aud"), **values))


async def happened(conn: AsyncConnection, tenant: str, action: str) -> bool:
    """Whether the action was ever recorded for the tenant."""
    return (await conn.execute(select(audit.c.id).where(audit.c.tenant == tenant, audit.c.action == action).limit(1))).first() is not None


async def page(conn: AsyncConnection, tenant: str, after: str | None, limit: int) -> list[AuditRow]:
    """A page of the tenant's entries, newest first."""
    columns = [column for column in audit.c if column.name != "tenant"]
    query = select(*columns).where(audit.c.tenant == tenant).order_by(audit.c.id.desc()).limit(limit)
    if after is not None:
        query = query.where(audit.c.id < after)
    return [AuditRow(**row._mapping) for row in await conn.execute(query)]
