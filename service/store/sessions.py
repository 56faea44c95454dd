"""Sessions: conversations in a bank, each under the name that its corrections carry.

A session that nobody used since `before` is gone: nothing here shows it, whether its row is still there or not, and the next opening makes
it anew. Rows of such sessions are deleted by `purge` as others are opened. What was taught in a session is the ledger's and stays; a
correction that names one uses it, and opens it if need be (`ledger.append`).
"""

from datetime import datetime
from typing import Any

from sqlalchemy import Row as Found
from sqlalchemy import case, delete, literal, select, tuple_, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.store.rows import Row
from service.store.tables import UtcTime, session


class SessionRow(Row, frozen=True, kw_only=True):
    """A session; `bank` is the id of the bank that it is in."""

    bank: str
    id: str
    created_at: datetime
    last_used_at: datetime


async def open_session(conn: AsyncConnection, tenant: str, bank: str, session_id: str, *, now: datetime, before: datetime) -> SessionRow:
    """The session of this id, used now: a new one, or the one that there is.

    Raises:
        NotFound: the tenant has no such bank (any more).
    """
    upsert = upsert_sqlite if conn.dialect.name == "sqlite" else upsert_postgresql
    begun = case((session.c.last_used_at < before, literal(now, UtcTime())), else_=session.c.created_at)
    opened = upsert(session).values(tenant=tenant, bank=bank, id=session_id, created_at=now, last_used_at=now)
    opened = opened.on_conflict_do_update(index_elements=["tenant", "bank", "id"], set_={"created_at": begun, "last_used_at": now})
    try:
        async with conn.begin_nested():
            return _session((await conn.execute(opened.returning(session))).one())
    except IntegrityError:
        raise NotFound(f"no bank {bank!r}") from None


async def use_session(conn: AsyncConnection, tenant: str, bank: str, session_id: str, *, now: datetime, before: datetime) -> SessionRow:
    """The session, used now; `NotFound` if it is gone."""
    used = update(session).where(*_live(tenant, bank, before), session.c.id == session_id).values(last_used_at=now)
    return _found((await conn.execute(used.returning(session))).first(), session_id)


async def get_session(conn: AsyncConnection, tenant: str, bank: str, session_id: str, *, before: datetime) -> SessionRow:
    """One of the bank's sessions, or `NotFound`."""
    query = select(session).where(*_live(tenant, bank, before), session.c.id == session_id)
    return _found((await conn.execute(query)).first(), session_id)


async def list_sessions(
    conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int, *, before: datetime
) -> list[SessionRow]:
    """A page of the bank's sessions by id."""
    query = select(session).where(*_live(tenant, bank, before), session.c.id > (after or "")).order_by(session.c.id).limit(limit)
    return [_session(row) for row in await conn.execute(query)]


async def close_session(conn: AsyncConnection, tenant: str, bank: str, session_id: str, *, before: datetime) -> None:
    """End a session; `NotFound` if it is gone."""
    closed = delete(session).where(*_live(tenant, bank, before), session.c.id == session_id)
    _found((await conn.execute(closed.returning(session))).first(), session_id)


async def purge(conn: AsyncConnection, tenant: str, before: datetime, limit: int) -> int:
    """Delete up to `limit` rows of the tenant's sessions that are gone; how many it were.

    Rows that another transaction holds are left to a later call: who waited for one could be waited for.
    """
    expired = select(session.c.bank, session.c.id).where(session.c.tenant == tenant, session.c.last_used_at < before)
    # two statements: in one, PostgreSQL may run the inner one again for each row and delete more than the limit
    gone = [(row.bank, row.id) for row in await conn.execute(expired.limit(limit).with_for_update(skip_locked=True))]
    if gone:
        await conn.execute(delete(session).where(session.c.tenant == tenant, tuple_(session.c.bank, session.c.id).in_(gone)))
    return len(gone)


def _live(tenant: str, bank: str, before: datetime) -> tuple[Any, Any, Any]:
    return session.c.tenant == tenant, session.c.bank == bank, session.c.last_used_at >= before


def _found(row: Found[Any] | None, session_id: str) -> SessionRow:
    if row is None:
        raise NotFound(f"no session {session_id!r}; open it with POST /v1/sessions")
    return _session(row)


def _session(row: Found[Any]) -> SessionRow:
    return SessionRow(bank=row.bank, id=row.id, created_at=row.created_at, last_used_at=row.last_used_at)
