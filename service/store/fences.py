"""What a bank is fenced with: while both numbers are what a warm copy was made with, nobody has changed the bank behind its back.

Loading a bank, a forget and an erasure raise the epoch; a rollback, a rebuild and a consolidation raise the head's version.
"""

from collections.abc import Iterable
from typing import NamedTuple

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.tables import bank as banks


class Fence(NamedTuple):
    """Epoch and head version of a bank."""

    epoch: int
    head_version: int


async def fences(conn: AsyncConnection, tenant: str, bank_ids: Iterable[str]) -> dict[str, Fence]:
    """The fences of those of the tenant's banks that exist."""
    query = select(banks.c.id, banks.c.epoch, banks.c.head_version).where(banks.c.tenant == tenant, banks.c.id.in_(list(bank_ids)))
    return {row.id: Fence(row.epoch, row.head_version) for row in await conn.execute(query)}
