"""Corrections as people see them: events of the ledger with what has become of each."""

from collections.abc import Sequence

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service import wire
from service.store import forgets, history, quarantines, snapshots
from service.store.lineage import holds, normal
from service.store.rows import BankRow, EventRow
from service.store.status import Standing
from service.store.tables import head, snapshot


async def standing(conn: AsyncConnection, tenant: str, bank: BankRow) -> Standing:
    """Which events the bank answers from now, which were forgotten, and which are in quarantine."""
    newest = await snapshots.get_snapshot(conn, tenant, bank.head, bank.id)
    gone = await forgets.tombstones(conn, tenant, bank.id)
    apart = await quarantines.held(conn, tenant, bank.id)
    whole = (*newest.spans, *newest.held)
    return Standing.of(whole, newest.seq, bank.seq, (mark.seq for mark in gone), (mark.seq for mark in apart))


async def shown(conn: AsyncConnection, tenant: str, bank: BankRow, events: Sequence[EventRow]) -> list[wire.Correction]:
    """The events as corrections, each with its status."""
    now = await standing(conn, tenant, bank)
    later = await history.later_same_input(conn, tenant, bank.id, [event.seq for event in events])
    return [_correction(event, now.status(event.seq, event.response, later.get(event.seq, []))) for event in events]


async def removal(conn: AsyncConnection, tenant: str, bank: str, seq: int) -> wire.Removal | None:
    """The move of the head that took an event out; None if the head's weights hold it, or it came after them."""
    joined = head.join(snapshot, (snapshot.c.tenant == head.c.tenant) & (snapshot.c.id == head.c.snapshot))
    query = select(snapshot.c.id, snapshot.c.kind, snapshot.c.seq, snapshot.c.spans, snapshot.c.held, head.c.created_at).select_from(joined)
    query = query.where(head.c.tenant == tenant, head.c.bank == bank).order_by(head.c.version.desc())
    by = None
    for row in await conn.execute(query):
        if row.seq < seq or holds(normal((*row.spans, *(row.held or ()))), seq):
            break
        by = wire.Removal(by=row.kind, id=row.id, at=row.created_at)
    return by


def _correction(event: EventRow, status: wire.CorrectionStatus) -> wire.Correction:
    return wire.Correction(
        id=event.id,
        seq=event.seq,
        status=status,
        input=event.input,
        right=event.right,
        wrong=event.wrong,
        session_id=event.session_id,
        metadata=event.metadata or {},
        created_at=event.created_at,
    )
