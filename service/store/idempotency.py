"""Idempotency keys: pending while the first request runs, committed with the ledger rows it wrote, done with its reply.

A pending key whose process died is free again after its lease. A committed one never is: its rows are in the ledger, and the reply is made
from them, even while the first request may still be at it.

A reply that quotes the memory is not given again once anything was forgotten after it was made: what was forgotten returns by no path (I3).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import Executable, LargeBinary, bindparam, case, cast, delete, select, update
from sqlalchemy.dialects.postgresql import insert as in_a_server
from sqlalchemy.dialects.sqlite import insert as in_a_file
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import IdempotencyInFlight, IdempotencyMismatch
from service.store.forgets import SINCE, any_since
from service.store.tables import idempotency

OVERLAP = timedelta(seconds=30)  # longer than any forget takes from its time to its commit
ERASED = b'{"erased": true}'  # what is left of a reply that quoted an erased correction

# Constants, so that they are compiled once; values of an UPDATE may not have the name of a column that they are not for.
MINE = (idempotency.c.tenant == bindparam("of_tenant"), idempotency.c.key == bindparam("of_key"))
KNOWN = select(idempotency).where(*MINE)
BEGIN = {
    name: insert(idempotency).on_conflict_do_nothing().returning(idempotency.c.key)
    for name, insert in (("sqlite", in_a_file), ("postgresql", in_a_server))
}
TAKE_OVER = update(idempotency).where(*MINE, idempotency.c.lease_until < bindparam("ended_by")).values(lease_until=bindparam("until"))
COMMIT = (
    update(idempotency)
    .where(*MINE, idempotency.c.status == "pending")
    .values(status="committed", bank=bindparam("in_bank"), first_seq=bindparam("from_seq"), last_seq=bindparam("to_seq"))
)
DONE: dict[str, Any] = {"status": "done", "reply_status": bindparam("answered"), "created_at": bindparam("at"), "lease_until": None}
REPLY = cast(bindparam("told"), LargeBinary)
FINISH = update(idempotency).where(*MINE).values(**DONE, reply=REPLY)
FINISH_QUOTING = update(idempotency).where(*MINE).values(**DONE, reply=case((SINCE, cast(ERASED, LargeBinary)), else_=REPLY))


class Fresh(msgspec.Struct, frozen=True):
    """The first request with this key: go on."""


class Committed(msgspec.Struct, frozen=True):
    """Its corrections are in the ledger (or its rollback is the head's version `first_seq`); the reply was never stored."""

    bank: str
    first_seq: int
    last_seq: int


class Done(msgspec.Struct, frozen=True):
    """It was answered; answer the same."""

    status: int
    reply: bytes


async def begin(
    conn: AsyncConnection, tenant: str, key: str, *, request_hash: bytes, now: datetime, lease_s: float, quotes: bool = False
) -> Fresh | Committed | Done:
    """What this key means now. `quotes`: its reply quotes the memory, and is `ERASED` (or made from the ledger) after a forget.

    Raises:
        IdempotencyMismatch: it was used with another request. IdempotencyInFlight: the first request is still running.
    """
    mine, lease = {"of_tenant": tenant, "of_key": key}, now + timedelta(seconds=lease_s)
    row = (await conn.execute(KNOWN, mine)).first()
    if row is None:
        fresh = beginning(conn.dialect.name, tenant, key, request_hash=request_hash, now=now, lease_s=lease_s)
        if (await conn.execute(*fresh)).first() is None:
            raise IdempotencyInFlight(retry_after_s=1)
        return Fresh()
    if row.request_hash != request_hash:
        raise IdempotencyMismatch()
    void = quotes and row.status == "done" and (row.reply == ERASED or await any_since(conn, tenant, row.created_at - OVERLAP))
    if row.status == "done" and not (void and row.bank):
        return Done(row.reply_status, ERASED if void else row.reply)
    if row.bank:
        return Committed(row.bank, row.first_seq, row.last_seq)
    if (await conn.execute(TAKE_OVER, mine | {"ended_by": now, "until": lease})).rowcount == 0:
        raise IdempotencyInFlight(retry_after_s=1)
    return Fresh()


def beginning(
    dialect: str, tenant: str, key: str, *, request_hash: bytes, now: datetime, lease_s: float
) -> tuple[Executable, dict[str, Any]]:
    """The statement that begins a key which nobody has used, with its values; it gives a row if nobody had."""
    lease = now + timedelta(seconds=lease_s)
    values = {"tenant": tenant, "key": key, "request_hash": request_hash, "status": "pending", "lease_until": lease, "created_at": now}
    return BEGIN[dialect], values


async def mark_committed(conn: AsyncConnection, tenant: str, key: str, *, bank: str, first_seq: int, last_seq: int) -> None:
    """Tie the key to the events that its request appends in this same transaction.

    Raises:
        IdempotencyInFlight: the request outlived its lease and another with this key was quicker; keep nothing, so that only one is kept.
    """
    values = {"of_tenant": tenant, "of_key": key, "in_bank": bank, "from_seq": first_seq, "to_seq": last_seq}
    if (await conn.execute(COMMIT, values)).rowcount == 0:
        raise IdempotencyInFlight(retry_after_s=1)


async def committed(conn: AsyncConnection, tenant: str, key: str) -> Committed | None:
    """What the key's request has written, if it has."""
    row = (await conn.execute(KNOWN.where(idempotency.c.bank.is_not(None)), {"of_tenant": tenant, "of_key": key})).first()
    return None if row is None else Committed(row.bank, row.first_seq, row.last_seq)


async def finish(
    conn: AsyncConnection, tenant: str, key: str, *, status: int, reply: bytes, now: datetime, quotes_since: datetime | None = None
) -> None:
    """Keep the reply for those who ask again; only that there was one if it quotes a memory in which something was forgotten since."""
    await conn.execute(*finishing(tenant, key, status=status, reply=reply, now=now, quotes_since=quotes_since))


def finishing(
    tenant: str, key: str, *, status: int, reply: bytes, now: datetime, quotes_since: datetime | None
) -> tuple[Executable, dict[str, Any]]:
    """The statement of `finish` with its values."""
    values = {"of_tenant": tenant, "of_key": key, "answered": status, "told": reply, "at": now}
    return (FINISH, values) if quotes_since is None else (FINISH_QUOTING, values | {"since": quotes_since - OVERLAP})


async def renew(conn: AsyncConnection, tenant: str, key: str, *, now: datetime, lease_s: float) -> None:
    """The key's request is still running: nobody may begin it again yet."""
    pending = _of(tenant, key).where(idempotency.c.status == "pending")
    await conn.execute(pending.values(lease_until=now + timedelta(seconds=lease_s)))


async def abandon(conn: AsyncConnection, tenant: str, key: str) -> None:
    """Free a key whose request failed before it wrote anything; committed and done ones stay."""
    pending = (idempotency.c.tenant == tenant) & (idempotency.c.key == key) & (idempotency.c.status == "pending")
    await conn.execute(delete(idempotency).where(pending))


async def scrub(conn: AsyncConnection, tenant: str, texts: Sequence[str]) -> int:
    """Empty the stored replies that quote one of the texts; how many they were."""
    quoted = [msgspec.json.encode(text)[1:-1] for text in texts]
    query = select(idempotency.c.key, idempotency.c.reply).where(idempotency.c.tenant == tenant, idempotency.c.status == "done")
    found = [row.key for row in (await conn.execute(query)).all() if row.reply and any(text in row.reply for text in quoted)]
    for key in found:
        await conn.execute(_of(tenant, key).values(reply=ERASED))
    return len(found)


async def release_leases(conn: AsyncConnection) -> None:
    """Free every pending key of all tenants: nobody who could hold one is alive."""
    await conn.execute(delete(idempotency).where(idempotency.c.status == "pending"))


async def purge(conn: AsyncConnection, before: datetime) -> int:
    """Forget answered keys of all tenants that are older than `before`."""
    return (await conn.execute(delete(idempotency).where(idempotency.c.created_at < before, idempotency.c.status == "done"))).rowcount


def _of(tenant: str, key: str):  # type: ignore[no-untyped-def]  # noqa: ANN202
    return update(idempotency).where(idempotency.c.tenant == tenant, idempotency.c.key == key)
