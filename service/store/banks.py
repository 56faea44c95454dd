"""Banks: created, found, owned, deleted."""

import hashlib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Row, Select, case, delete, func, insert, literal, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, NotFound
from service.store.blob_rows import condemn_unused
from service.store.failures import refers_to_nothing
from service.store.rows import BankRow
from service.store.tables import bank as banks
from service.store.tables import (
    branch,
    bundle,
    drift,
    event,
    forget,
    head,
    idempotency,
    job,
    lookup,
    probe_set,
    proposal,
    quarantine,
    quarantined,
    response,
    session,
    snapshot,
    tombstone,
)


async def create_bank(
    conn: AsyncConnection, tenant: str, name: str, *, id: str, config_hash: str, encoder_digest: str, now: datetime
) -> BankRow:
    """An empty bank, still without a head; `Conflict` if the tenant has one of this name."""
    values = {
        "tenant": tenant,
        "id": id,
        "name": name,
        "epoch": 0,
        "owner": None,
        "seq": 0,
        "last_hash": genesis_hash(id),
        "responses": 0,
        "config_hash": config_hash,
        "encoder_digest": encoder_digest,
        "head_version": 0,
        "created_at": now,
    }
    try:
        async with conn.begin_nested():
            await conn.execute(insert(banks).values(values))
    except IntegrityError as error:
        if refers_to_nothing(error):
            raise
        raise Conflict(f"there is a bank named {name!r} already") from None
    return await find_bank(conn, tenant, id)


def genesis_hash(bank_id: str) -> str:
    """What the first event of a bank's chain links to."""
    return hashlib.sha256(bank_id.encode()).hexdigest()


async def find_bank(conn: AsyncConnection, tenant: str, name_or_id: str) -> BankRow:
    """The tenant's bank of this id or name (an id wins), or `NotFound`."""
    rows = (await conn.execute(_banks(tenant).where(or_(banks.c.id == name_or_id, banks.c.name == name_or_id)))).all()
    if not rows:
        raise NotFound(f"no bank {name_or_id!r}")
    return _bank(min(rows, key=lambda row: row._mapping["id"] != name_or_id))


async def list_banks(conn: AsyncConnection, tenant: str, after: str | None, limit: int, only: Sequence[str] | None) -> list[BankRow]:
    """A page of the tenant's banks by id; with `only`, of those a key is pinned to."""
    query = _banks(tenant).where(banks.c.id > (after or "")).order_by(banks.c.id).limit(limit)
    if only is not None:
        query = query.where(banks.c.id.in_(only))
    return [_bank(row) for row in await conn.execute(query)]


async def by_encoder(conn: AsyncConnection, tenant: str) -> dict[str, int]:
    """How many of the tenant's banks were taught with each encoder, by the digests of those."""
    rows = await conn.execute(select(banks.c.encoder_digest, func.count()).where(banks.c.tenant == tenant).group_by(banks.c.encoder_digest))
    return {row[0]: row[1] for row in rows}


async def acquire(conn: AsyncConnection, tenant: str, bank: str, owner: str) -> BankRow:
    """Make `owner` the bank's owner under a new epoch: appends of the one before are fenced from now on."""
    mine = (banks.c.tenant == tenant) & (banks.c.id == bank)
    await conn.execute(update(banks).where(mine).values(epoch=banks.c.epoch + 1, owner=owner))
    return await find_bank(conn, tenant, bank)


async def repay(conn: AsyncConnection, tenant: str, bank: str, *, tokens: int, events: int, now: datetime) -> None:
    """A consolidation has covered so much of what the bank was taught; what is left of its debt counts from now."""
    left_tokens, left_events = banks.c.debt_tokens - tokens, banks.c.debt_events - events
    values = {
        "debt_tokens": case((left_tokens > 0, left_tokens), else_=0),
        "debt_events": case((left_events > 0, left_events), else_=0),
        "debt_since": case((or_(left_tokens > 0, left_events > 0), literal(now, banks.c.debt_since.type)), else_=None),
    }
    await conn.execute(update(banks).where(banks.c.tenant == tenant, banks.c.id == bank).values(values))


async def lock(conn: AsyncConnection, tenant: str, bank: str) -> None:
    """Let nobody else append to the bank, forget or redact in it until this transaction ends; a SQLite writer is alone anyway."""
    await conn.execute(select(banks.c.id).where(banks.c.tenant == tenant, banks.c.id == bank).with_for_update())


async def delete_bank(conn: AsyncConnection, tenant: str, bank: str, now: datetime) -> list[str]:
    """Delete all rows of the bank; the digests of the blobs that nothing of the tenant needs any more, condemned.

    What was forgotten in it can be proved afterwards: of its forgets the certificates stay, without the reasons that were given.

    Raises:
        NotFound: there is none. Conflict: it has branches, which hold its corrections.
    """
    await find_bank(conn, tenant, bank)
    await lock(conn, tenant, bank)
    held = (await conn.execute(select(branch.c.id).where(branch.c.tenant == tenant, branch.c.bank == bank))).scalars().all()
    if held:
        raise Conflict(f"the bank has the branches {', '.join(sorted(held)[:5])}; promote or delete them first")
    await conn.execute(delete(branch).where(branch.c.tenant == tenant, branch.c.id == bank))
    levels = (await conn.execute(select(snapshot.c.levels).where(snapshot.c.tenant == tenant, snapshot.c.bank == bank))).scalars().all()
    mine = (forget.c.tenant == tenant) & (forget.c.bank == bank)
    await conn.execute(update(forget).where(mine).values(bank_deleted_at=now, reason=None))
    told = (bundle, tombstone, quarantined, quarantine, head, drift, probe_set, proposal, lookup)  # before what they belong to
    for table in (*told, snapshot, event, response, session, job, idempotency):
        await conn.execute(delete(table).where(table.c.tenant == tenant, table.c.bank == bank))
    await conn.execute(delete(banks).where(banks.c.tenant == tenant, banks.c.id == bank))
    return await condemn_unused(conn, tenant, {level["sha256"] for each in levels for level in each})


def _banks(tenant: str) -> Select[Any]:
    joined = banks.outerjoin(
        head, (head.c.tenant == banks.c.tenant) & (head.c.bank == banks.c.id) & (head.c.version == banks.c.head_version)
    )
    joined = joined.outerjoin(branch, (branch.c.tenant == banks.c.tenant) & (branch.c.id == banks.c.id))
    told = (head.c.snapshot.label("head"), branch.c.bank.label("branch_of"))
    return select(banks, *told).select_from(joined).where(banks.c.tenant == tenant)


def _bank(row: Row[Any]) -> BankRow:
    fields = {name: value for name, value in row._mapping.items() if name in BankRow.__struct_fields__}
    return BankRow(**fields | {"head": fields["head"] or ""})
