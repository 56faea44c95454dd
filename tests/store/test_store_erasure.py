"""Erasing a tenant: nothing of it is left in any table or file, its neighbours are as they were, and nobody writes for it afterwards."""

import asyncio
import contextlib
import functools
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from keeping import NOW, behind_its_back, draft, later, new_bank, new_tenant
from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection
from waiting import PATIENCE_S
from world import BANK, World, key, owned

from service.errors import NotFound, NotOwner
from service.ids import new_id
from service.store import audit, banks, blob_rows, erasure, idempotency, jobs, ledger, sessions, tenants
from service.store.db import Database
from service.store.tables import metadata


async def erase(database, tenant: str, now=NOW) -> None:
    async with database.write(tenant) as conn:
        await erasure.erase_tenant(conn, tenant, now)


async def everything(database) -> dict[str, list[dict]]:
    """All rows of all tenants."""
    async with behind_its_back(database) as conn:
        return {name: [dict(row._mapping) for row in await conn.execute(select(table))] for name, table in metadata.tables.items()}


def holding(found: dict[str, list[dict]], word: str) -> set[str]:
    """The tables in which a word is, in whatever column and form."""
    return {name for name, rows in found.items() if word in str(rows) or word.encode() in b"".join(map(joined_bytes, rows))}


def joined_bytes(row: dict) -> bytes:
    return b"\0".join(value for value in row.values() if isinstance(value, bytes))


async def test_erased_tenant_leaves_its_tombstone_and_its_neighbour_as_it_was(database):
    gone, kept = [await World(name).build(database) for name in ("Olga", "Tom")]
    before = await everything(database)
    (name,) = [row["name"] for row in before["tenant"] if row["id"] == gone.tenant]
    words = [gone.bank.id, *gone.ids, gone.head.id, gone.auto.id, gone.forget.id, gone.job.id, "Olga", name]
    assert holding(before, gone.tenant) == set(metadata.tables) - {"erased_tenant"}
    assert all(holding(before, word) for word in words)
    async with behind_its_back(database) as conn:
        neighbour = await owned(conn, kept.tenant)
    await erase(database, gone.tenant, later(5))
    found = await everything(database)
    assert holding(found, gone.tenant) == {"erased_tenant"}
    assert {word: holding(found, word) for word in words} == {word: set() for word in words}
    assert found["erased_tenant"] == [{"id": gone.tenant, "erased_at": later(5)}]
    async with behind_its_back(database) as conn:
        assert await owned(conn, kept.tenant) == neighbour


@pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
async def test_compaction_after_an_erasure_leaves_nothing_of_the_tenant_in_any_file(database, database_url):
    gone, kept = [await World(name).build(database) for name in ("Olga", "Tom")]
    folder = Path(database_url.removeprefix("sqlite+aiosqlite:///")).parent
    words = [gone.bank.id, *gone.ids, gone.head.id, gone.auto.id, gone.forget.id, gone.job.id, "Olga"]

    def left() -> set[str]:
        files = [path.read_bytes() for path in folder.iterdir()]
        return {word for word in words if any(word.encode() in data for data in files)}

    assert left() == set(words), "they were never where they are looked for"
    await erase(database, gone.tenant)
    await database.compact()
    assert left() == set()
    assert any(kept.bank.id.encode() in path.read_bytes() for path in folder.iterdir())


async def test_tenant_is_erased_once_and_its_name_is_free_again(database):
    name, other = "acme", await new_tenant(database)
    tenant = await tenants.ensure_tenant(database, name, NOW)
    await erase(database, tenant)
    for nobody in (tenant, new_id("ten")):
        with pytest.raises(NotFound):
            await erase(database, nobody)
    again = await tenants.ensure_tenant(database, name, NOW)
    assert again not in (tenant, other)
    async with database.sweep() as conn:
        assert await erasure.erased_since(conn, NOW) == [tenant]


async def test_erased_tenants_are_told_since_a_time_in_order(database):
    made = [await new_tenant(database) for _ in range(3)]
    for at, tenant in ((9, made[0]), (3, made[1]), (6, made[2])):
        await erase(database, tenant, later(at))
    async with database.sweep() as conn:
        assert await erasure.erased_since(conn, later(6)) == [made[2], made[0]]
        assert await erasure.erased_since(conn, later(3)) == [made[1], made[2], made[0]]
        assert await erasure.erased_since(conn, later(10)) == []


async def test_erasure_that_is_broken_off_has_erased_nothing(database):
    world = await World("Olga").build(database)
    before = await everything(database)

    async def fail() -> None:
        async with database.write(world.tenant) as conn:
            await erasure.erase_tenant(conn, world.tenant, NOW)
            raise LookupError

    with pytest.raises(LookupError):
        await fail()
    assert await everything(database) == before


@pytest_asyncio.fixture
async def others(database_url):
    """The same database as other processes see it."""
    opened = [Database(database_url) for _ in range(4)]
    yield opened
    for other in opened:
        await other.close()


async def until_gone(work: Callable[[], Awaitable[None]]) -> None:
    """Repeat the work until its bank or its tenant is gone; any other refusal comes through."""
    with contextlib.suppress(NotOwner, NotFound):
        while True:
            await work()


async def test_whoever_comes_after_the_erasure_is_told_that_the_tenant_is_gone(database, tenant, bank):
    await erase(database, tenant)

    async def later(write: Callable[[AsyncConnection], Awaitable[object]]) -> None:
        with pytest.raises(NotFound, match=r"or its tenant erased|no bank"):
            async with database.write(tenant) as conn:
                await write(conn)

    await later(lambda conn: banks.create_bank(conn, tenant, "new", id="bnk_new", **BANK))
    await later(lambda conn: idempotency.begin(conn, tenant, "key", request_hash=b"r" * 32, now=NOW, lease_s=9))
    await later(lambda conn: audit.record(conn, tenant, actor="a", request_id="r", action="x", target="t", detail={}, now=NOW))
    await later(lambda conn: jobs.enqueue(conn, tenant, kind="rebuild", bank=bank.id, payload={}, dedupe=None, now=NOW))
    await later(lambda conn: blob_rows.stage(conn, tenant, [("0" * 64, 1)], NOW))
    await later(lambda conn: sessions.open_session(conn, tenant, bank.id, "s", now=NOW, before=NOW))
    await later(lambda conn: tenants.add_key(conn, tenant, **key("key_new")))
    assert holding(await everything(database), tenant) == {"erased_tenant"}


@pytest.mark.parametrize("after_s", [0.0, 0.01, 0.02, 0.04])
async def test_whoever_writes_at_the_same_time_is_erased_as_well_or_finds_nothing(database, others, tenant, bank, after_s):
    """Neither is left behind by the other, and the erasure is not refused for what others do."""

    async def teach(mine: Database) -> None:
        async with mine.write(tenant) as conn:
            await ledger.append(conn, tenant, bank.id, [draft(session_id="s")], epoch=0, head_version=0, now=NOW)
            await asyncio.sleep(0.001)
            await audit.record(conn, tenant, actor="a", request_id="r", action="x", target="t", detail={}, now=NOW)

    async def create(mine: Database) -> None:
        await new_bank(mine, tenant, f"bank {new_id('x')}")

    async def erase_soon() -> None:
        await asyncio.sleep(after_s)
        await erase(database, tenant)

    work = zip((teach, teach, create, create), others, strict=True)
    busy = [until_gone(functools.partial(each, mine)) for each, mine in work]
    await asyncio.wait_for(asyncio.gather(erase_soon(), *busy), PATIENCE_S)
    assert holding(await everything(database), tenant) == {"erased_tenant"}
