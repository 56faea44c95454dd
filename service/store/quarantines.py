"""Quarantine: events that are held out of the weights until somebody lifts it, and sources from which nothing is learned meanwhile.

A forgotten event is subtracted from its bank's lineage for good. A quarantined one still belongs to it: it is only not folded, and a
snapshot that was folded without it says so (`held`), so that it comes back, at its place, when the quarantine is lifted.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from msgspec import structs
from sqlalchemy import Row, delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, NotFound
from service.ids import new_id
from service.store import branches, forgets, history
from service.store.banks import lock
from service.store.rows import QuarantineRow, TombstoneRow
from service.store.tables import event, quarantine, quarantined


class Source(NamedTuple):
    """A session or a key that something was taught by; neither: single corrections were named."""

    session: str | None = None
    key: str | None = None

    def told(self, corrections: Sequence[str]) -> dict[str, Any]:
        """As it was asked for."""
        if self.session is None and self.key is None:
            return {"corrections": list(corrections)}
        return {"session_id": self.session} if self.key is None else {"key_id": self.key}


async def add(
    conn: AsyncConnection,
    tenant: str,
    bank: str,
    *,
    source: Source,
    event_ids: Sequence[str],
    reason: str | None,
    created_by: str,
    now: datetime,
) -> QuarantineRow:
    """Hold these corrections; `NotFound`, and nothing held, if one is not a correction of this bank.

    Raises:
        Conflict: the source is held already.
    """
    await lock(conn, tenant, bank)
    wanted = list(dict.fromkeys(event_ids))
    rows = await history.by_ids(conn, tenant, bank, wanted, turns=True)
    missing = sorted(set(wanted) - {row.id for row in rows})
    if missing:
        raise NotFound(f"no correction {', '.join(missing[:5])} in this bank")
    before = [row for row in await _set_now(conn, tenant, bank) if source != Source() and (row.session, row.key) == source]
    if before:
        raise Conflict(f"this source is in quarantine {before[0].id} already; lift that one first")
    values = {
        "id": new_id("qua"),
        "bank": bank,
        "source": source.told(wanted),
        "session": source.session,
        "key": source.key,
        "corrections": len(rows),
        "reason": reason,
        "created_by": created_by,
        "created_at": now,
    }
    await conn.execute(insert(quarantine).values(tenant=tenant, **values))
    if rows:
        marks = [{"tenant": tenant, "bank": bank, "seq": row.seq, "quarantine": values["id"]} for row in rows]
        await conn.execute(insert(quarantined), marks)
    return await get(conn, tenant, str(values["id"]))


async def lift(conn: AsyncConnection, tenant: str, quarantine_id: str, *, by: str, now: datetime) -> QuarantineRow:
    """Hold its corrections no longer; those that another quarantine holds stay held. One that was lifted stays as it is."""
    mine = (quarantine.c.tenant == tenant) & (quarantine.c.id == quarantine_id)
    await conn.execute(update(quarantine).where(mine, quarantine.c.lifted_at.is_(None)).values(lifted_by=by, lifted_at=now))
    await conn.execute(delete(quarantined).where(quarantined.c.tenant == tenant, quarantined.c.quarantine == quarantine_id))
    return await get(conn, tenant, quarantine_id)


async def set_job(conn: AsyncConnection, tenant: str, quarantine_id: str, job_id: str) -> None:
    """Name the job that makes the weights follow."""
    mine = (quarantine.c.tenant == tenant) & (quarantine.c.id == quarantine_id)
    await conn.execute(update(quarantine).where(mine).values(job=job_id))


async def get(conn: AsyncConnection, tenant: str, quarantine_id: str) -> QuarantineRow:
    """One of the tenant's quarantines, or `NotFound`."""
    row = (await conn.execute(select(quarantine).where(quarantine.c.tenant == tenant, quarantine.c.id == quarantine_id))).first()
    if row is None:
        raise NotFound(f"no quarantine {quarantine_id}")
    return _quarantine(row)


async def seqs(conn: AsyncConnection, tenant: str, quarantine_id: str) -> list[int]:
    """The events that a quarantine holds, in order."""
    mine = (quarantined.c.tenant == tenant) & (quarantined.c.quarantine == quarantine_id)
    return list((await conn.execute(select(quarantined.c.seq).where(mine).order_by(quarantined.c.seq))).scalars())


async def page(conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int) -> list[QuarantineRow]:
    """A page of the bank's quarantines by id, lifted ones too."""
    mine = (quarantine.c.tenant == tenant) & (quarantine.c.bank == bank) & (quarantine.c.id > (after or ""))
    return [_quarantine(row) for row in await conn.execute(select(quarantine).where(mine).order_by(quarantine.c.id).limit(limit))]


async def held(conn: AsyncConnection, tenant: str, bank: str) -> list[TombstoneRow]:
    """The quarantined events of the bank in order of seq, in the form of tombstones: what hides one hides the other.

    What a branch began with is held in it for as long as it is in the bank that it was made from.
    """
    rows = {row.seq: row for row in await _own(conn, tenant, bank)}  # one that two quarantines hold is held once
    origin = await branches.origin(conn, tenant, bank)
    if origin is not None:
        theirs = {row.seq: row for row in await held(conn, tenant, origin.bank)}
        places = {place: theirs[seq] for seq in theirs for place in branches.places(origin.spans, [seq])}
        for copy in await history.by_seqs(conn, tenant, bank, [place for place in places if place not in rows]):
            same = {"seq": copy.seq, "event_id": copy.id, "response": copy.response, "embedding": copy.embedding}
            rows[copy.seq] = structs.replace(places[copy.seq], **same)
    return [rows[seq] for seq in sorted(rows)]


async def hidden(conn: AsyncConnection, tenant: str, bank: str) -> list[TombstoneRow]:
    """All events of the bank that no answer may rest on now: what was forgotten, in whatever mode, and what is in quarantine."""
    return await forgets.tombstones(conn, tenant, bank) + await held(conn, tenant, bank)


async def closed(conn: AsyncConnection, tenant: str, bank: str) -> frozenset[Source]:
    """The sessions and keys from which the bank learns nothing now."""
    return frozenset(Source(row.session, row.key) for row in await _set_now(conn, tenant, bank)) - {Source()}


async def _own(conn: AsyncConnection, tenant: str, bank: str) -> list[TombstoneRow]:
    same = (event.c.tenant == quarantined.c.tenant) & (event.c.bank == quarantined.c.bank) & (event.c.seq == quarantined.c.seq)
    since = (quarantine.c.tenant == quarantined.c.tenant) & (quarantine.c.id == quarantined.c.quarantine)
    query = (
        select(event.c.seq, event.c.id, event.c.response, event.c.embedding, quarantine.c.id.label("by"), quarantine.c.created_at)
        .select_from(quarantined.join(event, same).join(quarantine, since))
        .where(quarantined.c.tenant == tenant, quarantined.c.bank == bank)
    )
    return [
        TombstoneRow(
            seq=row.seq,
            event_id=row.id,
            response=forgets.NO_RESPONSE if row.response is None else row.response,
            forget_id=row.by,
            mode="quarantine",
            exact=False,
            embedding=row.embedding,
            created_at=row.created_at,
        )
        for row in await conn.execute(query)
    ]


async def _set_now(conn: AsyncConnection, tenant: str, bank: str) -> list[QuarantineRow]:
    mine = (quarantine.c.tenant == tenant) & (quarantine.c.bank == bank) & quarantine.c.lifted_at.is_(None)
    return [_quarantine(row) for row in await conn.execute(select(quarantine).where(mine).order_by(quarantine.c.id))]


def _quarantine(row: Row[Any]) -> QuarantineRow:
    fields = dict(row._mapping)
    del fields["tenant"]
    return QuarantineRow(**fields | {"job_id": fields.pop("job")})
