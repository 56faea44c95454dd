"""What a bank is fenced with: while both numbers are what a warm copy was made with, nobody has changed the bank behind its back.

Loading a bank, a forget and an erasure raise the epoch; a rollback, a rebuild and a consolidation raise the head's version.
"""

from typing import NamedTuple

from sqlalchemy import bindparam, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.asking import Asking
from service.store.tables import bank as banks

FENCE = select(banks.c.epoch, banks.c.head_version).where(banks.c.tenant == bindparam("tenant"), banks.c.id == bindparam("bank"))


class Fence(NamedTuple):
    """Epoch and head version of a bank."""

    epoch: int
    head_version: int


async def fence(conn: AsyncConnection | Asking, tenant: str, bank: str) -> Fence | None:
    """The fence of the tenant's bank, None if there is no such bank."""
    rows = list(await conn.execute(FENCE, {"tenant": tenant, "bank": bank}))
    return Fence(*rows[0]) if rows else None
