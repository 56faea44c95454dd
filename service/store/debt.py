"""What a bank owes a consolidation, and which banks owe one: they were taught enough that none has covered, or long enough ago.

An append adds to the debt and a consolidation repays what it covered (`ledger.append`, `banks.repay`). Where a head moves to weights whose
slow level covers less, the debt is what these hold beside it (`owe`).
"""

from datetime import datetime, timedelta

from sqlalchemy import and_, case, func, literal, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.jobs import OPEN
from service.store.rows import DueBank
from service.store.tables import bank, event, job

PART = 4  # a young bank is due when it owes a fourth of all that it was taught
AGAIN = timedelta(hours=1)  # a bank whose consolidation failed is not due before: what made it fail is not gone in a moment


async def owe(conn: AsyncConnection, tenant: str, bank_id: str, *, seq: int, tokens: int, events: int, now: datetime) -> None:
    """The bank's weights at `seq` hold so much that no consolidation has covered; what was taught after `seq` is owed as well.

    In the transaction that moves the head, so that nobody appends meanwhile.
    """
    late = (event.c.tenant == tenant) & (event.c.bank == bank_id) & (event.c.seq > seq)
    more = (await conn.execute(select(func.count(), func.coalesce(func.sum(event.c.tokens), 0)).where(late))).one()
    owed = {"debt_events": events + int(more[0]), "debt_tokens": tokens + int(more[1])}
    since = func.coalesce(bank.c.debt_since, literal(now, bank.c.debt_since.type)) if any(owed.values()) else None
    mine = (bank.c.tenant == tenant) & (bank.c.id == bank_id)
    await conn.execute(update(bank).where(mine).values(**owed, debt_since=since))


async def due(conn: AsyncConnection, now: datetime, *, tokens: int, events: int, early: int, age: timedelta, limit: int) -> list[DueBank]:
    """The banks whose debt has reached a bound, oldest debt first, without those that have an open consolidation or one that just failed.

    `early` events are enough where they are a good part of all that the bank was taught: a young bank learns most from a consolidation,
    and all of them together cost a few times the last one. Banks that are due for that alone come after all others.

    The transaction is a sweep. Of each tenant only the first: one with many banks does not keep the others waiting.
    """
    full = or_(bank.c.debt_tokens >= tokens, bank.c.debt_events >= events, bank.c.debt_since <= now - age)
    young = and_(bank.c.debt_events >= early, PART * bank.c.debt_events >= bank.c.seq)
    just_failed = (job.c.status == "failed") & (job.c.finished_at > now - AGAIN)
    covered = select(job.c.id).where(
        job.c.tenant == bank.c.tenant,
        job.c.bank == bank.c.id,
        job.c.kind == "consolidation",
        or_(job.c.status.in_(OPEN), just_failed),
    )
    waits = case((full, 0), else_=1).label("waits")
    order = (waits, bank.c.debt_since, bank.c.id)
    place = func.row_number().over(partition_by=bank.c.tenant, order_by=order).label("place")
    columns = (
        bank.c.tenant,
        bank.c.id,
        bank.c.debt_tokens.label("tokens"),
        bank.c.debt_events.label("events"),
        bank.c.debt_since.label("since"),
    )
    found = select(*columns, waits, place).where(bank.c.debt_since.is_not(None), or_(full, young), ~covered.exists()).subquery()
    query = select(*(found.c[column.name] for column in columns)).where(found.c.place == 1)
    return [DueBank(**row._mapping) for row in await conn.execute(query.order_by(found.c.waits, found.c.since, found.c.id).limit(limit))]
