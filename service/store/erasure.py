"""Erasing a tenant: every row goes in one transaction, and what stays is that there was a tenant of this id.

The bytes of its snapshots are deleted after that (`Blobs.drop_tenant`); the tombstone is from what a process that died in between is
made good.
"""

from datetime import datetime

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.store.tables import bank, erased_tenant, metadata, trail
from service.store.tables import tenant as tenants


async def erase_tenant(conn: AsyncConnection, tenant: str, now: datetime) -> None:
    """Delete all rows of the tenant and leave a tombstone; whoever is writing for it ends before or finds nothing afterwards.

    Raises:
        NotFound: there is no such tenant (any more).
    """
    await conn.execute(select(bank.c.id).where(bank.c.tenant == tenant).order_by(bank.c.id).with_for_update())  # appends end or wait
    alive = await conn.execute(select(tenants.c.id).where(tenants.c.id == tenant).with_for_update())  # and so does all that refers to it
    if alive.first() is None:
        raise NotFound(f"no tenant {tenant}")
    await conn.execute(select(trail.c.tenant).where(trail.c.tenant == tenant).with_for_update())  # and who numbers its changes
    for table in reversed(metadata.sorted_tables):
        if table is not erased_tenant:
            mine = table.c.id if table is tenants else table.c.tenant
            await conn.execute(delete(table).where(mine == tenant))
    await conn.execute(insert(erased_tenant).values(id=tenant, erased_at=now))


async def erased_since(conn: AsyncConnection, since: datetime) -> list[str]:
    """The tenants that were erased at `since` or later, oldest first: their bytes should be gone. The transaction is a sweep."""
    query = select(erased_tenant.c.id).where(erased_tenant.c.erased_at >= since).order_by(erased_tenant.c.erased_at)
    return list((await conn.execute(query)).scalars())


async def was_erased(conn: AsyncConnection, tenant: str) -> bool:
    """Whether there was a tenant of this id, and is none any more."""
    return (await conn.execute(select(erased_tenant.c.id).where(erased_tenant.c.id == tenant))).first() is not None
