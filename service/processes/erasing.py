"""Erasing a tenant for good: its rows, its snapshots' bytes, its warm banks. Safe to run again, also after it was cut off.

It waits for saves that are under way in other processes. What one beside it puts into the blob store of a SQLite file's service all the
same, `Maintenance.tidy` deletes: it looks at erased tenants again for a day.
"""

import contextlib

from service.cluster.coord import CoordDown, Notice
from service.processes.parts import utc_now
from service.settings import Settings
from service.store import erasure, tenants
from service.store.blobs import open_blobs
from service.store.db import Database


async def erase_tenant(settings: Settings, named: str) -> str:
    """Erase the tenant of this id or name; what was done, in a sentence.

    Raises:
        NotFound: there is none, and none of this id was erased.
    """
    database = Database(settings.database_url)
    try:
        async with database.sweep() as conn:
            tenant = await tenants.find_tenant(conn, named) or named
        async with database.read(tenant) as conn:
            done_before = await erasure.was_erased(conn, tenant)
        if not done_before:
            async with database.write(tenant) as conn:
                await erasure.erase_tenant(conn, tenant, utc_now())
        await _tell(settings, tenant)
        async with database.at_blobs(tenant, alone=True):
            blobs = await open_blobs(settings.blobs_url).drop_tenant(tenant) if tenant.startswith("ten_") else 0
        await database.compact()
    finally:
        await database.close()
    return f"tenant {tenant} is erased: no row of it is left, {blobs} blobs were deleted"


async def _tell(settings: Settings, tenant: str) -> None:
    """Workers drop its banks from memory now, and Redis the names of its sessions.

    Without this the former would at their next use, which the erased rows refuse, and when they hear from Redis again; the latter at their
    time. Without Redis there is one process at most, whose sweeper looks.
    """
    if not settings.redis:
        return
    from service.cluster.redis_coord import RedisCoord

    coord = RedisCoord(settings.redis)
    with contextlib.suppress(CoordDown):
        await coord.tell(Notice(kind="tenant-erased", tenant=tenant))
        await coord.forget_sessions(tenant)
    await coord.close()
