"""Snapshots and heads: committed whole, moved by compare-and-swap, destroyed for good."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, Row, ScalarSelect, bindparam, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, HeadMoved, NotFound, NotOwner
from service.store import blob_rows, changes
from service.store.asking import Asking
from service.store.banks import find_bank, lock
from service.store.rows import HeadMove, HeadRow, LevelBlob, SnapshotDraft, SnapshotRow
from service.store.tables import bank as banks
from service.store.tables import head, snapshot

PREPARED = "prepared for a rollback"  # how the note begins of an automatic snapshot that waits for one
KEPT = select(snapshot.c.id).where(
    snapshot.c.tenant == bindparam("tenant"),
    snapshot.c.id == bindparam("snapshot"),
    snapshot.c.bank == bindparam("bank"),
    snapshot.c.destroyed_at.is_(None),
)


async def commit_snapshot(
    conn: AsyncConnection,
    tenant: str,
    bank: str,
    draft: SnapshotDraft,
    *,
    now: datetime,
    epoch: int | None,
    move_head: HeadMove | None,
    staged: Mapping[str, str] | None = None,
) -> SnapshotRow:
    """Insert the snapshot and make its blobs live; with `move_head` it becomes the head in the same transaction.

    `staged` is what `blob_rows.stage` gave for blobs that were written for it; others have to be live already.

    Raises:
        HeadMoved: the head is not at the expected version. NotOwner: the bank has another epoch. NotFound: there is no such bank.
        BeingDeleted: as for `blob_rows.revive`. Nothing is kept in any case.
    """
    mine = (banks.c.tenant == tenant) & (banks.c.id == bank)
    version = move_head.expected_version if move_head else None
    fenced = update(banks).where(mine).values(head_version=banks.c.head_version + (1 if move_head else 0))
    if epoch is not None:
        fenced = fenced.where(banks.c.epoch == epoch)
    if version is not None:
        fenced = fenced.where(banks.c.head_version == version)
    if (await conn.execute(fenced)).rowcount != 1:
        await find_bank(conn, tenant, bank)
        raise HeadMoved() if version is not None else NotOwner()
    newest = select(func.max(snapshot.c.ordinal)).where(snapshot.c.tenant == tenant, snapshot.c.bank == bank)
    ordinal = (await conn.execute(newest)).scalar()
    values = msgspec.to_builtins(draft) | {
        "held": draft.held or None,
        "sleeps": draft.sleeps or None,
        "heard": draft.heard or None,
        "tenant": tenant,
        "bank": bank,
        "ordinal": 0 if ordinal is None else ordinal + 1,
        "created_at": now,
    }
    await conn.execute(insert(snapshot).values(values))
    await blob_rows.revive(conn, tenant, [level.sha256 for level in draft.levels], staged or {})
    if move_head is not None:
        entry = {"snapshot": draft.id, "moved_by": move_head.moved_by, "reason": move_head.reason, "created_at": now}
        await conn.execute(insert(head).values(tenant=tenant, bank=bank, version=move_head.expected_version + 1, **entry))
    await _tell(conn, tenant, bank, draft, now)
    return await get_snapshot(conn, tenant, draft.id, bank)


async def get_snapshot(conn: AsyncConnection, tenant: str, snapshot_id: str, bank: str | None = None) -> SnapshotRow:
    """One of the tenant's snapshots (of the bank), destroyed ones too; `NotFound` otherwise."""
    query = select(snapshot).where(snapshot.c.tenant == tenant, snapshot.c.id == snapshot_id)
    if bank is not None:
        query = query.where(snapshot.c.bank == bank)
    row = (await conn.execute(query)).first()
    if row is None:
        raise NotFound(f"no snapshot {snapshot_id!r}")
    return _snapshot(row)


async def get_kept(conn: AsyncConnection, tenant: str, snapshot_id: str, bank: str) -> SnapshotRow:
    """One of the bank's snapshots that has its weights; `NotFound` otherwise."""
    row = await get_snapshot(conn, tenant, snapshot_id, bank)
    if row.destroyed_at is not None:
        raise NotFound(f"snapshot {snapshot_id} is not kept any more")
    return row


async def is_kept(conn: AsyncConnection | Asking, tenant: str, snapshot_id: str, bank: str) -> bool:
    """Whether it is one of the bank's snapshots that have their weights."""
    return bool(list(await conn.execute(KEPT, {"tenant": tenant, "snapshot": snapshot_id, "bank": bank})))


async def list_snapshots(conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int) -> list[SnapshotRow]:
    """A page of the bank's kept snapshots, newest first, older than the one named `after`."""
    query = select(snapshot).where(snapshot.c.tenant == tenant, snapshot.c.bank == bank, snapshot.c.destroyed_at.is_(None))
    if after is not None:
        query = query.where(snapshot.c.ordinal < _ordinal_of(tenant, bank, after))
    return [_snapshot(row) for row in await conn.execute(query.order_by(snapshot.c.ordinal.desc()).limit(limit))]


async def usable(conn: AsyncConnection, tenant: str, bank: str, *, gone_since: datetime | None = None) -> list[SnapshotRow]:
    """All kept snapshots of the bank, newest first; and those that were destroyed at `gone_since` or later."""
    wanted: list[ColumnElement[bool]] = [snapshot.c.destroyed_at.is_(None)]
    if gone_since is not None:
        wanted.append(snapshot.c.destroyed_at >= gone_since)
    query = select(snapshot).where(snapshot.c.tenant == tenant, snapshot.c.bank == bank, or_(*wanted))
    return [_snapshot(row) for row in await conn.execute(query.order_by(snapshot.c.ordinal.desc()))]


async def heads(conn: AsyncConnection, tenant: str, bank: str) -> list[HeadRow]:
    """The bank's head history, newest first."""
    columns = (head.c.bank, head.c.version, head.c.snapshot, head.c.moved_by, head.c.reason, head.c.created_at)
    query = select(*columns).where(head.c.tenant == tenant, head.c.bank == bank).order_by(head.c.version.desc())
    return [HeadRow(**row._mapping) for row in await conn.execute(query)]


async def head_at(conn: AsyncConnection, tenant: str, bank: str, at: datetime) -> SnapshotRow | None:
    """The snapshot that was the bank's head at a time, None before its first."""
    query = select(head.c.snapshot).where(head.c.tenant == tenant, head.c.bank == bank, head.c.created_at <= at)
    name = (await conn.execute(query.order_by(head.c.version.desc()).limit(1))).scalar()
    return None if name is None else await get_snapshot(conn, tenant, name, bank)


async def destroy_snapshots(conn: AsyncConnection, tenant: str, bank: str, ids: Sequence[str], now: datetime) -> list[str]:
    """Give up the snapshots' weights for good; the digests of blobs that nothing needs any more, condemned."""
    mine = (snapshot.c.tenant == tenant) & (snapshot.c.bank == bank) & snapshot.c.id.in_(list(ids))
    levels = (await conn.execute(select(snapshot.c.levels).where(mine))).scalars().all()
    await conn.execute(update(snapshot).where(mine).values(destroyed_at=now))
    return await blob_rows.condemn_unused(conn, tenant, {level["sha256"] for each in levels for level in each})


async def amend(conn: AsyncConnection, tenant: str, bank: str, snapshot_id: str, said: Mapping[str, object]) -> SnapshotRow:
    """Change what people say about a snapshot: `label`, `note`, `pinned`. Retention sees a pin that was set before it, or comes first.

    Raises:
        NotFound: the bank has no such snapshot, or does not keep it any more.
    """
    await lock(conn, tenant, bank)
    await get_kept(conn, tenant, snapshot_id, bank)
    if said:
        mine = (snapshot.c.tenant == tenant) & (snapshot.c.bank == bank) & (snapshot.c.id == snapshot_id)
        await conn.execute(update(snapshot).where(mine).values(**said))
    return await get_snapshot(conn, tenant, snapshot_id, bank)


async def retire(conn: AsyncConnection, tenant: str, bank: str, snapshot_id: str, now: datetime) -> list[str]:
    """Give up one snapshot because somebody wishes so; the digests as from `destroy_snapshots`.

    Raises:
        NotFound: as for `amend`. Conflict: it is the head, the genesis (from which every fold can begin), or pinned.
    """
    await lock(conn, tenant, bank)
    row = await get_kept(conn, tenant, snapshot_id, bank)
    if row.kind == "genesis":
        raise Conflict("the genesis snapshot holds nothing and is what every fold can begin with; it stays")
    if (await find_bank(conn, tenant, bank)).head == row.id:
        raise Conflict(f"snapshot {row.id} is the head; roll back to another one first")
    if row.pinned:
        raise Conflict(f"snapshot {row.id} is pinned; unpin it first")
    return await destroy_snapshots(conn, tenant, bank, [row.id], now)


async def spare_autos(conn: AsyncConnection, tenant: str, bank: str, keep: int, prepared_before: datetime | None = None) -> list[str]:
    """The automatic snapshots beyond the newest `keep`, pinned and labelled ones left alone; and of the candidates of consolidations that
    their gates refused those beyond as many. None of them was ever the head, or is.

    Those that were prepared for a rollback are not counted among them, and are spare from some time on.
    """
    query = select(snapshot.c.id, snapshot.c.kind, snapshot.c.note, snapshot.c.gate, snapshot.c.created_at).where(
        snapshot.c.tenant == tenant,
        snapshot.c.bank == bank,
        snapshot.c.kind.in_(("auto", "consolidation")),
        snapshot.c.pinned.is_(False),
        snapshot.c.label.is_(None),
        snapshot.c.destroyed_at.is_(None),
    )
    rows = (await conn.execute(query.order_by(snapshot.c.ordinal.desc()))).all()
    refused = [row.id for row in rows if row.kind == "consolidation" and row.gate is not None and not row.gate["passed"]]
    autos = [row for row in rows if row.kind == "auto"]
    prepared = [row for row in autos if (row.note or "").startswith(PREPARED)]
    spare = [row.id for row in autos if row not in prepared][keep:] + refused[keep:]
    return spare + [row.id for row in prepared if prepared_before is not None and row.created_at < prepared_before]


async def _tell(conn: AsyncConnection, tenant: str, bank: str, draft: SnapshotDraft, now: datetime) -> None:
    """What a committed snapshot means to those who listen; that a bank was made is not told."""
    if draft.kind == "genesis":
        return
    told = {"snapshot": draft.id, "kind": draft.kind, "seq": draft.seq, "digest": draft.digest}
    await changes.emit(conn, tenant, "snapshot.created", bank, told, now)
    if draft.kind == "rollback":
        await changes.emit(conn, tenant, "rollback.done", bank, told | {"pre_rollback": draft.parent}, now)
    elif draft.kind == "consolidation" and draft.gate is not None:
        kind = "consolidation.promoted" if draft.gate["passed"] else "consolidation.gate_failed"
        await changes.emit(conn, tenant, kind, bank, told | {"gate": draft.gate}, now)


def _ordinal_of(tenant: str, bank: str, snapshot_id: str) -> ScalarSelect[int]:
    query = select(snapshot.c.ordinal).where(snapshot.c.tenant == tenant, snapshot.c.bank == bank, snapshot.c.id == snapshot_id)
    return query.scalar_subquery()


def _snapshot(row: Row[Any]) -> SnapshotRow:
    fields = dict(row._mapping)
    for gone in ("tenant", "ordinal"):
        del fields[gone]
    fields["spans"] = tuple((after, upto) for after, upto in fields["spans"])
    fields["held"] = tuple((after, upto) for after, upto in fields["held"] or ())
    fields["sleeps"] = tuple(fields["sleeps"] or ())
    fields["heard"] = tuple((after, upto) for after, upto in fields["heard"] or ())
    fields["levels"] = tuple(LevelBlob(**level) for level in fields["levels"])
    return SnapshotRow(**fields)
