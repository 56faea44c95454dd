"""Rows about blobs: which are about to be written, in use, or to be deleted.

A blob is *pending* from before its bytes are written until a snapshot needs it (*live*), and *condemned* once none does; its bytes are
deleted after that, its row last. So no committed snapshot ever points at bytes that nobody keeps.
"""

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import blob, snapshot


async def stage(conn: AsyncConnection, tenant: str, parts: Iterable[tuple[str, int]], now: datetime) -> None:
    """Note blobs `(sha256, bytes)` that are about to be written; those that are there already stay as they are, or come back."""
    for sha256, size in parts:
        mine = (blob.c.tenant == tenant) & (blob.c.sha256 == sha256)
        state = (await conn.execute(select(blob.c.state).where(mine))).scalar()
        if state is None:
            await conn.execute(insert(blob).values(tenant=tenant, sha256=sha256, bytes=size, state="pending", created_at=now))
        elif state == "condemned":
            await conn.execute(update(blob).where(mine).values(state="pending", created_at=now))


async def revive(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> None:
    """A snapshot needs these blobs now."""
    await conn.execute(update(blob).where(blob.c.tenant == tenant, blob.c.sha256.in_(list(digests))).values(state="live"))


async def condemn_unused(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> list[str]:
    """Condemn those of the blobs that no kept snapshot of the tenant needs; their digests."""
    unused = sorted(set(digests) - await in_use(conn, tenant))
    if unused:
        await conn.execute(update(blob).where(blob.c.tenant == tenant, blob.c.sha256.in_(unused)).values(state="condemned"))
    return unused


async def in_use(conn: AsyncConnection, tenant: str) -> set[str]:
    """The digests that the tenant's kept snapshots need."""
    query = select(snapshot.c.levels).where(snapshot.c.tenant == tenant, snapshot.c.destroyed_at.is_(None))
    return {level["sha256"] for levels in (await conn.execute(query)).scalars() for level in levels}


async def condemned(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> list[str]:
    """Which of the blobs may be deleted: a snapshot may have come to need one again."""
    query = select(blob.c.sha256).where(blob.c.tenant == tenant, blob.c.state == "condemned", blob.c.sha256.in_(list(digests)))
    return list((await conn.execute(query)).scalars())


async def left_over(conn: AsyncConnection, before: datetime) -> dict[str, list[str]]:
    """By tenant, the blobs whose bytes should be gone: condemned ones, and those staged before a time that no snapshot came to need."""
    query = select(blob.c.tenant, blob.c.sha256).where(blob.c.state == "pending", blob.c.created_at < before)
    for tenant, sha256 in (await conn.execute(query)).all():
        await condemn_unused(conn, tenant, [sha256])
    found: dict[str, list[str]] = {}
    for tenant, sha256 in await conn.execute(select(blob.c.tenant, blob.c.sha256).where(blob.c.state == "condemned")):
        found.setdefault(tenant, []).append(sha256)
    return found


async def strike(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> None:
    """Delete the rows of condemned blobs whose bytes are gone."""
    gone = (blob.c.tenant == tenant) & blob.c.sha256.in_(list(digests)) & (blob.c.state == "condemned")
    await conn.execute(delete(blob).where(gone))
