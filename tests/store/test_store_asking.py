"""Short questions: one message, held to the tenant by the server like any transaction, and as sure."""

import asyncio
import contextlib

import pytest
from keeping import append, behind_its_back, draft, new_bank, new_tenant, waiting_for_a_lock
from sqlalchemy import bindparam, func, select, text, update
from waiting import PATIENCE_S

from service.errors import Capacity
from service.store import banks, fences, history
from service.store.db import Database
from service.store.tables import bank as bank_table

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

ALL_BANKS = select(bank_table.c.tenant, bank_table.c.id)  # as wrong as can be: of every tenant
WHO = select(text("pg_backend_pid(), current_user::text, current_setting('app.tenant', true)"), bindparam("number"))
WAIT = select(func.pg_advisory_xact_lock(bindparam("number")))


async def test_fence_is_what_a_transaction_reads_and_none_of_a_bank_that_there_is_not(database, tenant, bank):
    asking = database.asking(tenant)
    for epoch in range(3):
        async with database.read(tenant) as conn:
            row = await banks.find_bank(conn, tenant, bank.id)
        assert await fences.fence(asking, tenant, bank.id) == (row.epoch, row.head_version) == (epoch, 0)
        async with database.write(tenant) as conn:
            await banks.acquire(conn, tenant, bank.id, "somebody")
    assert await fences.fence(asking, tenant, "bnk_unknown") is None
    stranger = await new_tenant(database)
    assert await fences.fence(database.asking(stranger), stranger, bank.id) is None


async def test_support_is_what_a_transaction_reads(database, bank):
    await append(database, bank, *(draft(f"q{n}", f"a{n % 2}", embedding=bytes(range(256)) * 6) for n in range(9)))
    for limit, below in ((16, 9), (2, 9), (2, 5), (16, 1)):
        async with database.read(bank.tenant) as conn:
            read = await history.newest_of(conn, bank.tenant, bank.id, 1, limit, below)
        assert await history.newest_of(database.asking(bank.tenant), bank.tenant, bank.id, 1, limit, below) == read


@on_postgresql
async def test_question_that_forgets_the_tenant_sees_its_rows_only_also_in_a_message_with_others(database):
    tenants = [await new_tenant(database) for _ in range(8)]
    owned = {tenant: (await new_bank(database, tenant)).id for tenant in tenants}
    for _ in range(3):
        found = await asyncio.gather(*(database.asking(tenant).execute(ALL_BANKS, {}) for tenant in tenants))
        assert [list(rows) for rows in found] == [[(tenant, owned[tenant])] for tenant in tenants]
    assert list(await database.asking("").execute(ALL_BANKS, {})) == []


@on_postgresql
async def test_questions_are_asked_by_the_role_of_the_service_and_leave_no_tenant_behind(database, tenant):
    ((_, role, named, _),) = await database.asking(tenant).execute(WHO, {"number": 0})
    assert (role, named) == ("palimpsest_app", tenant)
    ((_, _, named, _),) = await database.asking("").execute(WHO, {"number": 0})
    assert named == ""


async def test_questions_cannot_write(database, bank):
    raising = update(bank_table).values(epoch=bindparam("raised")).returning(bank_table.c.id)
    with pytest.raises(Capacity):
        await database.asking(bank.tenant).execute(raising, {"raised": 7})
    assert await fences.fence(database.asking(bank.tenant), bank.tenant, bank.id) == (0, 0)


@on_postgresql
@pytest.mark.parametrize("value", ["bnk_1' OR true --", "bnk;", "bnk_1\n", "ä", "x" * 65])
async def test_value_that_could_be_more_than_a_value_is_refused_before_it_is_sent(database, tenant, value):
    with pytest.raises(ValueError, match="cannot be"):
        await fences.fence(database.asking(tenant), tenant, value)
    with pytest.raises(ValueError, match="cannot be"):
        await fences.fence(database.asking(value), tenant, "bnk_1")


@pytest.fixture
def patience(monkeypatch):
    """An answer that a test holds up is waited for."""
    monkeypatch.setattr("service.store.asking.ANSWER_S", PATIENCE_S)


@contextlib.asynccontextmanager
async def held_up(database, asking):
    """A question that the server answers when the context is left, and the server's process that is at it."""
    async with behind_its_back(database) as conn:
        await conn.execute(WAIT, {"number": 4_711})
        question = asyncio.create_task(asking.execute(WAIT, {"number": 4_711}))
        yield question, await waiting_for_a_lock(database)


@on_postgresql
async def test_question_survives_that_the_server_has_closed_every_connection(database, postgres, tenant, bank, patience):
    asking = database.asking(tenant)
    async with held_up(database, asking) as (slow, _):
        ((second, *_),) = await asking.execute(WHO, {"number": 0})
    await slow
    ((first, *_),) = await asking.execute(WHO, {"number": 1})
    assert first != second, "both connections are open"
    for pid in (first, second):
        postgres.kill_backend(pid)
    assert await fences.fence(asking, tenant, bank.id) == (0, 0)


@on_postgresql
async def test_question_whose_server_is_killed_under_it_is_refused_and_the_next_one_answered(database, postgres, tenant, bank, patience):
    asking = database.asking(tenant)
    ((before, *_),) = await asking.execute(WHO, {"number": 0})
    async with held_up(database, asking) as (slow, pid):
        assert pid == before
        postgres.kill_backend(pid)
        again = await waiting_for_a_lock(database)
        assert again != pid, "it was asked once more, by a new connection"
        postgres.kill_backend(again)
        with pytest.raises(Capacity):
            await asyncio.wait_for(slow, PATIENCE_S)
    assert await fences.fence(asking, tenant, bank.id) == (0, 0)


async def test_asker_that_leaves_takes_nobodys_answer_along(database, tenant, bank):
    asking = database.asking(tenant)
    leaving = [asyncio.create_task(fences.fence(asking, tenant, bank.id)) for _ in range(4)]
    staying = [asyncio.create_task(fences.fence(asking, tenant, bank.id)) for _ in range(4)]
    await asyncio.sleep(0)
    for task in leaving:
        task.cancel()
    assert await asyncio.gather(*staying) == [(0, 0)] * 4
    assert all(task.cancelled() for task in leaving)


async def test_answer_is_never_older_than_the_question(database, tenant, bank):
    """Whatever is on its way when the owner changes: who asks afterwards is told of the new one."""
    asking = database.asking(tenant)
    for epoch in range(1, 30):
        before = [asyncio.create_task(fences.fence(asking, tenant, bank.id)) for _ in range(5)]
        await asyncio.sleep(0)
        async with database.write(tenant) as conn:
            await banks.acquire(conn, tenant, bank.id, "next")
        assert await asyncio.gather(*(fences.fence(asking, tenant, bank.id) for _ in range(5))) == [(epoch, 0)] * 5
        assert {found.epoch for found in await asyncio.gather(*before)} <= {epoch - 1, epoch}


@on_postgresql
async def test_slow_question_does_not_hold_up_the_others(database, tenant, bank, patience):
    asking = database.asking(tenant)
    async with held_up(database, asking) as (slow, _):
        for _ in range(20):
            assert await asyncio.wait_for(fences.fence(asking, tenant, bank.id), PATIENCE_S) == (0, 0)
        assert not slow.done()
    await slow


async def test_questions_to_a_server_that_is_away_are_refused(tmp_path):
    database = Database(f"postgresql://postgres@/nothing?host={tmp_path}")
    for _ in range(2):
        with pytest.raises(Capacity) as refused:
            await fences.fence(database.asking("ten_1"), "ten_1", "bnk_1")
        assert refused.value.retry_after_s == 1
    await database.close()


async def test_questions_to_a_file_that_is_not_there_are_refused_and_make_none(tmp_path):
    database = Database(f"sqlite+aiosqlite:///{tmp_path}/nothing.db")
    for _ in range(2):
        with pytest.raises(Capacity) as refused:
            await fences.fence(database.asking("ten_1"), "ten_1", "bnk_1")
        assert refused.value.retry_after_s == 1
    await database.close()
    assert list(tmp_path.iterdir()) == []
