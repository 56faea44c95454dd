"""Branches: banks that began with the corrections of another bank, and know which.

The n-th event of a branch is the n-th of the `spans` that it began with; what was taught in it comes after them. So a correction that is
forgotten in the one bank is found in the other by arithmetic.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import Select, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotFound
from service.store.banks import find_bank
from service.store.lineage import Spans, count, holds, restrict
from service.store.rows import BranchRow
from service.store.tables import bank as banks
from service.store.tables import branch


async def add(conn: AsyncConnection, tenant: str, bank: str, *, id: str, spans: Spans, created_by: str, now: datetime) -> None:
    """Say that the bank `id` began with the events `spans` of `bank`. `NotFound` if one of them is not the tenant's."""
    await find_bank(conn, tenant, bank)
    await find_bank(conn, tenant, id)
    values = {"id": id, "bank": bank, "spans": msgspec.to_builtins(spans), "created_by": created_by, "created_at": now}
    await conn.execute(insert(branch).values(tenant=tenant, **values))


async def get(conn: AsyncConnection, tenant: str, branch_id: str) -> BranchRow:
    """One of the tenant's branches; `NotFound` otherwise."""
    row = await origin(conn, tenant, branch_id)
    if row is None:
        raise NotFound(f"no branch {branch_id!r}")
    return row


async def origin(conn: AsyncConnection, tenant: str, bank: str) -> BranchRow | None:
    """What a bank is a branch of, None if it is none."""
    row = (await conn.execute(_branches(tenant).where(branch.c.id == bank))).first()
    return None if row is None else _branch(row)


async def list_branches(
    conn: AsyncConnection, tenant: str, bank: str, after: str | None = None, limit: int | None = None
) -> list[BranchRow]:
    """The branches of a bank (a page of them) by id."""
    query = _branches(tenant).where(branch.c.bank == bank, branch.c.id > (after or "")).order_by(branch.c.id).limit(limit)
    return [_branch(row) for row in await conn.execute(query)]


async def copies(conn: AsyncConnection, tenant: str, bank: str, seqs: Iterable[int]) -> list[tuple[str, list[int]]]:
    """Where in the branches of a bank, and in branches of those, its events `seqs` are: each such branch, with positions in its ledger."""
    found: list[tuple[str, list[int]]] = []
    left = [(bank, list(seqs))]
    while left:
        name, held = left.pop()
        for each in await list_branches(conn, tenant, name):
            if copied := places(each.spans, held):
                found.append((each.id, copied))
                left.append(found[-1])
    return found


def places(spans: Spans, seqs: Iterable[int]) -> list[int]:
    """Where in a branch that began with `spans` those of the events are that it began with."""
    return [count(restrict(spans, seq)) for seq in seqs if holds(spans, seq)]


def _branches(tenant: str) -> Select[Any]:
    itself = (banks.c.tenant == branch.c.tenant) & (banks.c.id == branch.c.id)
    return select(branch, banks.c.name).select_from(branch.join(banks, itself)).where(branch.c.tenant == tenant)


def _branch(row: Any) -> BranchRow:  # noqa: ANN401
    fields = {name: value for name, value in row._mapping.items() if name in BranchRow.__struct_fields__}
    return BranchRow(**fields | {"spans": tuple((after, upto) for after, upto in row.spans)})
