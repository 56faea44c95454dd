"""Probe sets: saved questions with their right answers, of one bank."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service import wire
from service.errors import Conflict, NotFound
from service.store.banks import find_bank
from service.store.failures import refers_to_nothing
from service.store.tables import probe_set


async def add_probe_set(
    conn: AsyncConnection, tenant: str, bank: str, *, id: str, name: str, probes: Sequence[wire.Probe], created_by: str, now: datetime
) -> wire.ProbeSet:
    """Save a set; `Conflict` if the bank has one of this name, `NotFound` if there is no such bank."""
    await find_bank(conn, tenant, bank)
    values = {"id": id, "bank": bank, "name": name, "probes": msgspec.to_builtins(probes), "created_by": created_by, "created_at": now}
    try:
        async with conn.begin_nested():
            await conn.execute(insert(probe_set).values(tenant=tenant, **values))
    except IntegrityError as error:
        if refers_to_nothing(error):
            raise
        raise Conflict(f"the bank has a probe set named {name!r} already; delete it first, or take another name") from None
    return await get_probe_set(conn, tenant, id)


async def get_probe_set(conn: AsyncConnection, tenant: str, id: str) -> wire.ProbeSet:
    """One of the tenant's sets, with its probes; or `NotFound`."""
    row = (await conn.execute(select(probe_set).where(probe_set.c.tenant == tenant, probe_set.c.id == id))).first()
    if row is None:
        raise NotFound(f"no probe set {id}")
    return _shown(row, msgspec.convert(row.probes, list[wire.Probe]))


async def list_probe_sets(conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int) -> list[wire.ProbeSet]:
    """A page of the bank's sets by id, without their probes."""
    query = select(probe_set).where(probe_set.c.tenant == tenant, probe_set.c.bank == bank, probe_set.c.id > (after or ""))
    return [_shown(row, None) for row in await conn.execute(query.order_by(probe_set.c.id).limit(limit))]


async def change_probe_set(conn: AsyncConnection, tenant: str, id: str, probes: Sequence[wire.Probe]) -> wire.ProbeSet:
    """Put other probes in the place of all that one of the tenant's sets has; or `NotFound`."""
    mine = (probe_set.c.tenant == tenant) & (probe_set.c.id == id)
    await conn.execute(update(probe_set).where(mine).values(probes=msgspec.to_builtins(probes)))
    return await get_probe_set(conn, tenant, id)


async def delete_probe_set(conn: AsyncConnection, tenant: str, id: str) -> None:
    """Delete a set for good."""
    await conn.execute(delete(probe_set).where(probe_set.c.tenant == tenant, probe_set.c.id == id))


async def scrub(conn: AsyncConnection, tenant: str, bank: str, texts: Sequence[str]) -> None:
    """Take the probes out that quote one of the texts; a set that loses all of them stays, empty."""
    query = select(probe_set.c.id, probe_set.c.probes).where(probe_set.c.tenant == tenant, probe_set.c.bank == bank)
    for id, probes in (await conn.execute(query)).all():
        kept = [probe for probe in probes if not any(text in (probe["input"], probe["expected"]) for text in texts)]
        if len(kept) < len(probes):
            mine = (probe_set.c.tenant == tenant) & (probe_set.c.id == id)
            await conn.execute(update(probe_set).where(mine).values(probes=kept))


def _shown(row: Row[Any], probes: list[wire.Probe] | None) -> wire.ProbeSet:
    return wire.ProbeSet(
        id=row.id,
        bank=row.bank,
        name=row.name,
        size=len(row.probes),
        probes=probes,
        created_by=row.created_by,
        created_at=row.created_at,
    )
