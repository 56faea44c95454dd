"""Tombstones: what is forgotten, and how thoroughly."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.ids import new_id
from service.store import history
from service.store.banks import lock
from service.store.rows import EventRow, ForgetRow, TombstoneRow
from service.store.tables import event, forget, lookup, response, tombstone

WEIGHT = {"suppress": 0, "rebuild": 1, "erase": 2}  # a later, more thorough forget raises an earlier one, never lowers it


async def add_forget(
    conn: AsyncConnection,
    tenant: str,
    bank: str,
    *,
    event_ids: Sequence[str],
    mode: str,
    exact: bool,
    reason: str | None,
    created_by: str,
    job_id: str | None,
    now: datetime,
) -> ForgetRow:
    """Mark the corrections as forgotten; `NotFound`, and nothing marked, if one is not a correction of this bank."""
    await lock(conn, tenant, bank)  # of two forgets at once, the second sees the marks of the first
    wanted = list(dict.fromkeys(event_ids))
    rows = await history.by_ids(conn, tenant, bank, wanted)
    missing = sorted(set(wanted) - {row.id for row in rows})
    if missing:
        raise NotFound(f"no correction {', '.join(missing[:5])} in this bank")
    forget_id = new_id("fgt")
    seqs, ids = tuple(row.seq for row in rows), tuple(row.id for row in rows)
    values = {"id": forget_id, "bank": bank, "mode": mode, "reason": reason, "seqs": list(seqs), "event_ids": list(ids)}
    await conn.execute(insert(forget).values(tenant=tenant, created_by=created_by, created_at=now, job=job_id, **values))
    marked = {row.seq: row for row in await tombstones(conn, tenant, bank)}
    for row in rows:
        await _mark(conn, tenant, bank, row, marked.get(row.seq), mode=mode, exact=exact, forget_id=forget_id, now=now)
    return ForgetRow(id=forget_id, bank=bank, mode=mode, reason=reason, seqs=seqs, event_ids=ids, job_id=job_id, created_at=now)


async def tombstones(conn: AsyncConnection, tenant: str, bank: str) -> list[TombstoneRow]:
    """All forgotten events of the bank, in order of seq, with their embeddings while there are any."""
    same = (event.c.tenant == tombstone.c.tenant) & (event.c.bank == tombstone.c.bank) & (event.c.seq == tombstone.c.seq)
    query = (
        select(tombstone, event.c.embedding)
        .select_from(tombstone.join(event, same))
        .where(tombstone.c.tenant == tenant, tombstone.c.bank == bank)
        .order_by(tombstone.c.seq)
    )
    return [
        TombstoneRow(
            seq=row.seq,
            event_id=row.event_id,
            response=row.response,
            forget_id=row.forget,
            mode=row.mode,
            exact=row.exact,
            embedding=row.embedding,
            created_at=row.created_at,
        )
        for row in await conn.execute(query)
    ]


async def any_since(conn: AsyncConnection, tenant: str, at: datetime) -> bool:
    """Whether anything of the tenant was forgotten at `at` or later."""
    return (
        await conn.execute(select(forget.c.id).where(forget.c.tenant == tenant, forget.c.created_at >= at).limit(1))
    ).first() is not None


async def set_job(conn: AsyncConnection, tenant: str, forget_id: str, job_id: str) -> None:
    """Name the job that makes the forget exact."""
    await conn.execute(update(forget).where(forget.c.tenant == tenant, forget.c.id == forget_id).values(job=job_id))


async def texts_of(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int]) -> list[str]:
    """The texts that erasing these events takes away."""
    rows = await history.by_seqs(conn, tenant, bank, seqs)
    return sorted({text for row in rows for text in (row.input, row.right, row.wrong) if text})


async def redact(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int], now: datetime) -> None:
    """Take texts, embeddings and salts out of the events, and the texts of responses that no other event says. Idempotent."""
    await lock(conn, tenant, bank)  # or an append that is under way could come to say a response that is taken away here
    mine = (event.c.tenant == tenant) & (event.c.bank == bank)
    rows = [row for row in await history.by_seqs(conn, tenant, bank, seqs) if row.redacted_at is None]
    for row in rows:
        nothing: dict[str, Any] = dict.fromkeys(("body", "embedding", "salt", "input_hash"))
        await conn.execute(update(event).where(mine, event.c.seq == row.seq).values(**nothing, redacted_at=now))
        looked_up = (lookup.c.tenant == tenant) & (lookup.c.bank == bank) & (lookup.c.seq == row.seq)
        await conn.execute(update(lookup).where(looked_up).values(text=None))
    for ordinal in sorted({row.response for row in rows if row.response is not None}):
        said = select(event.c.seq).where(mine, event.c.response == ordinal, event.c.redacted_at.is_(None)).limit(1)
        if (await conn.execute(said)).first() is None:
            gone = (response.c.tenant == tenant) & (response.c.bank == bank) & (response.c.ordinal == ordinal)
            await conn.execute(delete(response).where(gone))


async def list_forgets(conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int) -> list[ForgetRow]:
    """A page of the bank's forget requests by id."""
    query = select(forget).where(forget.c.tenant == tenant, forget.c.bank == bank, forget.c.id > (after or ""))
    columns = ("id", "bank", "mode", "reason", "seqs", "event_ids", "created_at")
    rows = (await conn.execute(query.order_by(forget.c.id).limit(limit))).all()
    return [msgspec.convert({name: row._mapping[name] for name in columns} | {"job_id": row.job}, ForgetRow) for row in rows]


async def _mark(
    conn: AsyncConnection,
    tenant: str,
    bank: str,
    row: EventRow,
    old: TombstoneRow | None,
    *,
    mode: str,
    exact: bool,
    forget_id: str,
    now: datetime,
) -> None:
    if old is None:
        values = {"seq": row.seq, "event_id": row.id, "response": row.response, "forget": forget_id, "mode": mode, "exact": exact}
        await conn.execute(insert(tombstone).values(tenant=tenant, bank=bank, created_at=now, **values))
    elif WEIGHT[mode] > WEIGHT[old.mode]:
        mine = (tombstone.c.tenant == tenant) & (tombstone.c.bank == bank) & (tombstone.c.seq == row.seq)
        await conn.execute(update(tombstone).where(mine).values(forget=forget_id, mode=mode, exact=exact or old.exact))
