"""Rows about blobs: which are about to be written, in use, or to be deleted.

A blob is *pending* from before its bytes are written until a snapshot needs it (*live*), *condemned* once none does (it can come back from
there), and *deleting* while one process deletes its bytes; its row goes last. So no committed snapshot ever points at bytes that nobody
keeps, however many processes there are:

- whoever writes or deletes bytes is at the tenant's blobs (`Database.at_blobs`); one who is alone there finds only what the dead have left;
- every change of state holds the row's lock, and what decides it is read after the lock was got;
- no deletion begins while a kept snapshot needs the blob;
- a snapshot is committed only with blobs that are live, or that were staged for it and have not been deleted since. A row that was deleted
  and made anew in between tells by its *birth*: its bytes may be still to come.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from sqlalchemy import Row, and_, case, delete, or_, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Capacity
from service.ids import new_id
from service.store.tables import blob, snapshot

EVER = datetime.max.replace(tzinfo=UTC)


class BeingDeleted(Capacity):
    """The bytes to be saved are those of an old state that is being deleted; send it again in a moment, and they are written anew."""


async def stage(conn: AsyncConnection, tenant: str, parts: Iterable[tuple[str, int]], now: datetime) -> dict[str, str]:
    """Note blobs `(sha256, bytes)` that are about to be written; those that are there already stay as they are, or come back.

    What it gives, each blob's birth, is what `revive` has to be told.

    Raises:
        BeingDeleted: the bytes of one are being deleted; nothing of this transaction may be kept.
    """
    births = {}
    upsert = upsert_sqlite if conn.dialect.name == "sqlite" else upsert_postgresql
    for sha256, size in sorted(parts):  # in one order, here and below, so that two writers never wait for each other
        values = {"sha256": sha256, "bytes": size, "state": "pending", "created_at": now, "birth": new_id("blb")}
        statement = upsert(blob).values(tenant=tenant, **values)
        again = {"state": case((blob.c.state == "condemned", "pending"), else_=blob.c.state), "created_at": now}
        kept = statement.on_conflict_do_update(index_elements=["tenant", "sha256"], set_=again, where=blob.c.state != "deleting")
        row = (await conn.execute(kept.returning(blob.c.birth))).first()
        if row is None:
            raise _being_deleted([sha256])
        births[sha256] = row.birth
    return births


async def revive(conn: AsyncConnection, tenant: str, digests: Iterable[str], staged: Mapping[str, str]) -> None:
    """A snapshot that this transaction commits needs these blobs; `staged`: the births of those that were written for it.

    Raises:
        BeingDeleted: one has been deleted since, or is being deleted; the snapshot must not be committed.
    """
    wanted = sorted(set(digests))
    rows = await _locked(conn, tenant, wanted)
    there = {row.sha256 for row in rows if row.state == "live" or (row.state != "deleting" and row.birth == staged.get(row.sha256))}
    if len(there) < len(wanted):
        raise _being_deleted([sha256 for sha256 in wanted if sha256 not in there])
    await _set(conn, tenant, wanted, "live")


async def condemn_unused(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> list[str]:
    """Condemn those of the blobs that no kept snapshot of the tenant needs; their digests."""
    there = [row.sha256 for row in await _locked(conn, tenant, digests) if row.state != "deleting"]
    needed = await in_use(conn, tenant)
    unused = [sha256 for sha256 in there if sha256 not in needed]
    await _set(conn, tenant, unused, "condemned")
    return unused


async def in_use(conn: AsyncConnection, tenant: str) -> set[str]:
    """The digests that the tenant's kept snapshots need."""
    query = select(snapshot.c.levels).where(snapshot.c.tenant == tenant, snapshot.c.destroyed_at.is_(None))
    return {level["sha256"] for levels in (await conn.execute(query)).scalars() for level in levels}


async def begin_delete(conn: AsyncConnection, tenant: str, digests: Iterable[str], *, now: datetime, before: datetime = EVER) -> list[str]:
    """Those of the blobs whose bytes the caller must delete, now that this is committed; nobody else does, and no save relies on them.

    They are the condemned ones, and those that a process which must have died since was writing or deleting `before` a time: any time, if
    the caller is alone at the blobs. One that a kept snapshot needs after all is live again instead.
    """
    rows = [row for row in await _locked(conn, tenant, digests) if row.state == "condemned" or _left(row, before)]
    needed = await in_use(conn, tenant)
    doomed = [row.sha256 for row in rows if row.sha256 not in needed]
    await _set(conn, tenant, [row.sha256 for row in rows if row.sha256 in needed and row.state == "condemned"], "live")
    mine = (blob.c.tenant == tenant) & blob.c.sha256.in_(doomed)
    await conn.execute(update(blob).where(mine).values(state="deleting", created_at=now))
    return doomed


async def strike(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> None:
    """Delete the rows of blobs that were being deleted and whose bytes are gone."""
    gone = (blob.c.tenant == tenant) & blob.c.sha256.in_(list(digests)) & (blob.c.state == "deleting")
    await conn.execute(delete(blob).where(gone))


async def give_up(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> None:
    """The caller does not delete these any more; another may begin at once."""
    mine = (blob.c.tenant == tenant) & blob.c.sha256.in_(list(digests)) & (blob.c.state == "deleting")
    await conn.execute(update(blob).where(mine).values(state="condemned"))


async def unneeded(conn: AsyncConnection, tenant: str) -> list[str]:
    """The tenant's blobs that no snapshot needs, or none yet."""
    return list((await conn.execute(select(blob.c.sha256).where(blob.c.tenant == tenant, blob.c.state != "live"))).scalars())


async def left_over(conn: AsyncConnection, before: datetime) -> dict[str, list[str]]:
    """By tenant, the blobs that `begin_delete` would perhaps give with the same `before`. The transaction is a sweep."""
    stale = and_(blob.c.state.in_(("pending", "deleting")), blob.c.created_at < before)
    found: dict[str, list[str]] = {}
    for tenant, sha256 in await conn.execute(select(blob.c.tenant, blob.c.sha256).where(or_(blob.c.state == "condemned", stale))):
        found.setdefault(tenant, []).append(sha256)
    return found


async def release_deletions(conn: AsyncConnection) -> None:
    """Let any process go on with the deletions of all tenants: nobody who could be at one is alive."""
    await conn.execute(update(blob).where(blob.c.state == "deleting").values(state="condemned"))


def _left(row: Row[str, str, datetime, str], before: datetime) -> bool:
    return row.state in ("pending", "deleting") and row.created_at < before


async def _locked(conn: AsyncConnection, tenant: str, digests: Iterable[str]) -> Sequence[Row[str, str, datetime, str]]:
    """The rows that are there, in order, held until the transaction ends; a SQLite writer is alone anyway."""
    columns = (blob.c.sha256, blob.c.state, blob.c.created_at, blob.c.birth)
    query = select(*columns).where(blob.c.tenant == tenant, blob.c.sha256.in_(list(digests)))
    return (await conn.execute(query.order_by(blob.c.sha256).with_for_update())).all()


async def _set(conn: AsyncConnection, tenant: str, digests: list[str], state: str) -> None:
    if digests:
        await conn.execute(update(blob).where(blob.c.tenant == tenant, blob.c.sha256.in_(digests)).values(state=state))


def _being_deleted(digests: list[str]) -> BeingDeleted:
    return BeingDeleted(f"the bytes {', '.join(digests[:5])} of an old state are being deleted; send it again in a moment", retry_after_s=1)
