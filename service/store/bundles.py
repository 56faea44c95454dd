"""Bundles: snapshots on their way out of the service or into it, in parts, in the database that api and workers share.

So whoever makes one and whoever sends it need no other way between them, and a bundle goes in the transaction that erases what is in it.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import msgspec
from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.store.banks import find_bank
from service.store.lineage import Spans, holds
from service.store.rows import BundleRow
from service.store.tables import bundle, bundle_part

PART = 1 << 20  # bytes of a part
KEPT = timedelta(days=1)


async def add(conn: AsyncConnection, tenant: str, bank: str, *, id: str, spans: Spans, manifest: bytes, data: bytes, now: datetime) -> None:
    """Keep a bundle; `spans` are all events of which anything is in it. `NotFound` if the tenant has no such bank."""
    await find_bank(conn, tenant, bank)
    values = {"id": id, "bank": bank, "spans": msgspec.to_builtins(spans), "manifest": manifest, "bytes": len(data), "created_at": now}
    await conn.execute(insert(bundle).values(tenant=tenant, **values))
    for place, begin in enumerate(range(0, len(data), PART)):
        await conn.execute(insert(bundle_part).values(tenant=tenant, bundle=id, place=place, data=data[begin : begin + PART]))


async def get(conn: AsyncConnection, tenant: str, bundle_id: str, now: datetime) -> BundleRow:
    """One of the tenant's bundles that is not older than `KEPT`; `NotFound` otherwise."""
    query = select(bundle).where(bundle.c.tenant == tenant, bundle.c.id == bundle_id, bundle.c.created_at > now - KEPT)
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound(f"no export {bundle_id!r}; one is kept for a day, or until something in it is erased")
    values = {name: value for name, value in row._mapping.items() if name != "tenant"}
    return BundleRow(**values | {"spans": _spans(row.spans)})


async def part(conn: AsyncConnection, tenant: str, bundle_id: str, place: int) -> bytes | None:
    """One part, None behind the last (or when the bundle has gone)."""
    mine = (bundle_part.c.tenant == tenant) & (bundle_part.c.bundle == bundle_id) & (bundle_part.c.place == place)
    return (await conn.execute(select(bundle_part.c.data).where(mine))).scalar()


async def drop(conn: AsyncConnection, tenant: str, ids: Sequence[str]) -> None:
    """Delete bundles; their parts go with them."""
    await conn.execute(delete(bundle).where(bundle.c.tenant == tenant, bundle.c.id.in_(list(ids))))


async def drop_holding(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int]) -> list[str]:
    """Delete the bank's bundles in which there is anything of one of the events; their ids."""
    query = select(bundle.c.id, bundle.c.spans).where(bundle.c.tenant == tenant, bundle.c.bank == bank)
    held = [row.id for row in await conn.execute(query) if any(holds(_spans(row.spans), seq) for seq in seqs)]
    await drop(conn, tenant, held)
    return held


async def purge(conn: AsyncConnection, now: datetime) -> None:
    """Delete all tenants' bundles that are older than `KEPT`. The transaction is a sweep."""
    await conn.execute(delete(bundle).where(bundle.c.created_at < now - KEPT))


def _spans(stored: list[list[int]]) -> Spans:
    return tuple((after, upto) for after, upto in stored)
