"""Tombstones: what is forgotten, and how thoroughly."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Row, bindparam, delete, exists, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.ids import new_id
from service.store import changes, history
from service.store.banks import lock
from service.store.rows import EventRow, ForgetRow, TombstoneRow
from service.store.tables import event, forget, lookup, quarantine, response, tombstone

NO_RESPONSE = -1  # in the tombstone of a turn
WEIGHT = {"suppress": 0, "rebuild": 1, "erase": 2}  # a later, more thorough forget raises an earlier one, never lowers it

SINCE = or_(  # whether anything of `of_tenant` was forgotten, or quarantined, at `since` or later
    *(exists().where(table.c.tenant == bindparam("of_tenant"), table.c.created_at >= bindparam("since")) for table in (forget, quarantine))
)
ANY_SINCE = select(SINCE)


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
    rows = await history.by_ids(conn, tenant, bank, wanted, turns=True)
    missing = sorted(set(wanted) - {row.id for row in rows})
    if missing:
        raise NotFound(f"no correction {', '.join(missing[:5])} in this bank")
    forget_id = new_id("fgt")
    seqs, ids = tuple(row.seq for row in rows), tuple(row.id for row in rows)
    values = {"id": forget_id, "bank": bank, "mode": mode, "reason": reason, "seqs": list(seqs), "event_ids": list(ids)}
    await conn.execute(insert(forget).values(tenant=tenant, created_by=created_by, created_at=now, job=job_id, **values))
    marked = {row.seq: row for row in await tombstones(conn, tenant, bank)}
    fresh = [_mark(tenant, bank, row, mode=mode, exact=exact, forget_id=forget_id, now=now) for row in rows if row.seq not in marked]
    if fresh:
        await conn.execute(insert(tombstone), fresh)
    for row in rows:
        if row.seq in marked:
            await _raise_mark(conn, tenant, bank, marked[row.seq], mode=mode, exact=exact, forget_id=forget_id)
    if not exact:
        await _tell_completed(conn, tenant, bank, forget_id, mode, ids, now)
    return await get_forget(conn, tenant, forget_id)


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
    """Whether anything of the tenant was forgotten, or quarantined, at `at` or later."""
    return bool((await conn.execute(ANY_SINCE, {"of_tenant": tenant, "since": at})).scalar())


async def set_job(conn: AsyncConnection, tenant: str, forget_id: str, job_id: str) -> None:
    """Name the job that makes the forget exact."""
    await conn.execute(update(forget).where(forget.c.tenant == tenant, forget.c.id == forget_id).values(job=job_id))


async def texts_of(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int]) -> list[str]:
    """The texts that erasing these events takes away."""
    rows = await history.by_seqs(conn, tenant, bank, seqs, turns=True)
    return sorted({text for row in rows for text in (row.input, row.right, row.wrong) if text})


async def redact(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int], now: datetime) -> dict[str, int]:
    """Take texts, embeddings and salts out of the events, and the texts of responses that no other event says. Idempotent.

    Gives how many `redacted_events` and `responses` that were now.
    """
    await lock(conn, tenant, bank)  # or an append that is under way could come to say a response that is taken away here
    mine = (event.c.tenant == tenant) & (event.c.bank == bank)
    rows = [row for row in await history.by_seqs(conn, tenant, bank, seqs, turns=True) if row.redacted_at is None]
    for row in rows:
        nothing: dict[str, Any] = dict.fromkeys(("body", "embedding", "salt", "input_hash", "words_hash"))
        await conn.execute(update(event).where(mine, event.c.seq == row.seq).values(**nothing, redacted_at=now))
        looked_up = (lookup.c.tenant == tenant) & (lookup.c.bank == bank) & (lookup.c.seq == row.seq)
        await conn.execute(update(lookup).where(looked_up).values(text=None))
    responses = 0
    for ordinal in sorted({row.response for row in rows if row.response is not None}):
        said = select(event.c.seq).where(mine, event.c.response == ordinal, event.c.redacted_at.is_(None)).limit(1)
        if (await conn.execute(said)).first() is None:
            gone = (response.c.tenant == tenant) & (response.c.bank == bank) & (response.c.ordinal == ordinal)
            responses += (await conn.execute(delete(response).where(gone))).rowcount
    return {"redacted_events": len(rows), "responses": responses}


async def certify(conn: AsyncConnection, tenant: str, row: ForgetRow, part: dict[str, Any]) -> ForgetRow:
    """Add to the forget's certificate; what is in it already stays, so that a job that runs again takes nothing back."""
    whole = part | (await get_forget(conn, tenant, row.id)).certificate_so_far
    await conn.execute(update(forget).where(forget.c.tenant == tenant, forget.c.id == row.id).values(certificate=whole))
    return await get_forget(conn, tenant, row.id)


async def complete(conn: AsyncConnection, tenant: str, row: ForgetRow, part: dict[str, Any], now: datetime) -> None:
    """Everything in the certificate is done: add the last of it, once, and tell those who listen."""
    if "completed_at" not in (await get_forget(conn, tenant, row.id)).certificate_so_far:
        await certify(conn, tenant, row, part | {"completed_at": now.isoformat()})
        await _tell_completed(conn, tenant, row.bank, row.id, row.mode, row.event_ids, now)


async def get_forget(conn: AsyncConnection, tenant: str, forget_id: str) -> ForgetRow:
    """One of the tenant's forget requests, or `NotFound`."""
    row = (await conn.execute(select(forget).where(forget.c.tenant == tenant, forget.c.id == forget_id))).first()
    if row is None:
        raise NotFound(f"no forget {forget_id}")
    return _forget(row)


async def list_forgets(conn: AsyncConnection, tenant: str, bank: str | None, after: str | None, limit: int) -> list[ForgetRow]:
    """A page of the bank's forget requests, newest first; without a bank of all banks, deleted ones among them."""
    query = select(forget).where(forget.c.tenant == tenant)
    if bank is not None:
        query = query.where(forget.c.bank == bank)
    if after is not None:
        query = query.where(forget.c.id < after)
    return [_forget(row) for row in await conn.execute(query.order_by(forget.c.id.desc()).limit(limit))]


async def _tell_completed(
    conn: AsyncConnection, tenant: str, bank: str, forget_id: str, mode: str, event_ids: Sequence[str], now: datetime
) -> None:
    told = {"forget": forget_id, "mode": mode, "corrections": list(event_ids)}
    await changes.emit(conn, tenant, "forget.completed", bank, told, now)


def _mark(tenant: str, bank: str, row: EventRow, *, mode: str, exact: bool, forget_id: str, now: datetime) -> dict[str, Any]:
    mark = {"seq": row.seq, "event_id": row.id, "response": NO_RESPONSE if row.response is None else row.response}
    mark |= {"forget": forget_id, "mode": mode, "exact": exact}
    return {"tenant": tenant, "bank": bank, "created_at": now, **mark}


async def _raise_mark(conn: AsyncConnection, tenant: str, bank: str, old: TombstoneRow, *, mode: str, exact: bool, forget_id: str) -> None:
    if WEIGHT[mode] > WEIGHT[old.mode]:
        mine = (tombstone.c.tenant == tenant) & (tombstone.c.bank == bank) & (tombstone.c.seq == old.seq)
        await conn.execute(update(tombstone).where(mine).values(forget=forget_id, mode=mode, exact=exact or old.exact))


def _forget(row: Row[Any]) -> ForgetRow:
    fields = {name: row._mapping[name] for name in ForgetRow.__struct_fields__ if name != "job_id"}
    return msgspec.convert(fields | {"job_id": row.job}, ForgetRow)
