"""Which banks owe a consolidation: they were taught enough since the last one, or long enough ago."""

from datetime import datetime, timedelta

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.jobs import OPEN
from service.store.rows import DueBank
from service.store.tables import bank, job


async def due(conn: AsyncConnection, now: datetime, *, tokens: int, events: int, age: timedelta, limit: int) -> list[DueBank]:
    """The banks whose debt has reached a bound and that no open consolidation covers, oldest debt first. The transaction is a sweep.

    Of each tenant only the first: one with many banks does not keep the others waiting.
    """
    reached = or_(bank.c.debt_tokens >= tokens, bank.c.debt_events >= events, bank.c.debt_since <= now - age)
    covered = select(job.c.id).where(
        job.c.tenant == bank.c.tenant, job.c.bank == bank.c.id, job.c.kind == "consolidation", job.c.status.in_(OPEN)
    )
    order = (bank.c.debt_since, bank.c.id)
    place = func.row_number().over(partition_by=bank.c.tenant, order_by=order).label("place")
    columns = (
        bank.c.tenant,
        bank.c.id,
        bank.c.debt_tokens.label("tokens"),
        bank.c.debt_events.label("events"),
        bank.c.debt_since.label("since"),
    )
    found = select(*columns, place).where(bank.c.debt_since.is_not(None), reached, ~covered.exists()).subquery()
    query = select(*(column for column in found.c if column.name != "place")).where(found.c.place == 1)
    return [DueBank(**row._mapping) for row in await conn.execute(query.order_by(found.c.since, found.c.id).limit(limit))]
