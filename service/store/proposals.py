"""Proposals: what users seem to have corrected, until somebody confirms or dismisses it. Then the row goes, with its texts.

A proposal becomes the correction of the same number: confirmed twice, it is taught once.
"""

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Row, delete, insert, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service import wire
from service.errors import NotFound
from service.store.failures import refers_to_nothing
from service.store.tables import proposal

KEPT = timedelta(days=30)  # what nobody has looked at for so long is dropped when the next one comes
OPEN_MAX = 1_000  # of one bank; beyond them the oldest goes


async def propose(
    conn: AsyncConnection,
    tenant: str,
    bank: str,
    *,
    id: str,
    input: str,
    wrong: str,
    right: str,
    session_id: str | None,
    created_by: str,
    now: datetime,
) -> wire.Proposal:
    """Keep a proposal, or the one that says the same already; the bank's old ones go."""
    mine = (proposal.c.tenant == tenant) & (proposal.c.bank == bank)
    texts = {"input": input, "wrong": wrong, "right": right}
    digest = hashlib.sha256(json.dumps(texts).encode()).digest()
    values = {"id": id, "bank": bank, "digest": digest, "session": session_id, "created_by": created_by, "created_at": now, **texts}
    await conn.execute(delete(proposal).where(mine, proposal.c.created_at < now - KEPT))
    try:
        async with conn.begin_nested():
            await conn.execute(insert(proposal).values(tenant=tenant, **values))
    except IntegrityError as error:
        if refers_to_nothing(error):
            raise NotFound(f"no bank {bank}; it may have been deleted meanwhile") from None
    too_old = select(proposal.c.id).where(mine).order_by(proposal.c.id.desc()).offset(OPEN_MAX).limit(1)
    await conn.execute(delete(proposal).where(mine, proposal.c.id <= too_old.scalar_subquery()))
    return _shown((await conn.execute(select(proposal).where(mine, proposal.c.digest == digest))).one())


async def get_proposal(conn: AsyncConnection, tenant: str, id: str) -> wire.Proposal:
    """One of the tenant's proposals, or `NotFound`."""
    row = (await conn.execute(select(proposal).where(proposal.c.tenant == tenant, proposal.c.id == id))).first()
    if row is None:
        raise NotFound(f"no proposal {id}; it may have been confirmed, dismissed or dropped for its age")
    return _shown(row)


async def list_proposals(conn: AsyncConnection, tenant: str, bank: str, after: str | None, limit: int) -> list[wire.Proposal]:
    """A page of the bank's proposals by id."""
    query = select(proposal).where(proposal.c.tenant == tenant, proposal.c.bank == bank, proposal.c.id > (after or ""))
    return [_shown(row) for row in await conn.execute(query.order_by(proposal.c.id).limit(limit))]


async def drop_proposal(conn: AsyncConnection, tenant: str, id: str) -> None:
    """It is confirmed or dismissed: nothing of it is kept here."""
    await conn.execute(delete(proposal).where(proposal.c.tenant == tenant, proposal.c.id == id))


async def scrub(conn: AsyncConnection, tenant: str, bank: str, texts: Sequence[str]) -> None:
    """Drop the proposals that quote one of the texts."""
    query = select(proposal).where(proposal.c.tenant == tenant, proposal.c.bank == bank)
    for row in (await conn.execute(query)).all():
        if any(text in said for text in texts for said in (row.input, row.wrong, row.right)):
            await drop_proposal(conn, tenant, row.id)


def _shown(row: Row[Any]) -> wire.Proposal:
    return wire.Proposal(
        id=row.id,
        bank=row.bank,
        input=row.input,
        wrong=row.wrong,
        right=row.right,
        session_id=row.session,
        created_by=row.created_by,
        created_at=row.created_at,
    )
