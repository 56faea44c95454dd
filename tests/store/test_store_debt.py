"""What a bank was taught since its last consolidation, and which banks owe one."""

from datetime import timedelta

import pytest
from keeping import NOW, append, draft, later, new_bank, new_tenant
from sqlalchemy import select

from service.errors import NotOwner
from service.store import banks, debt, jobs
from service.store.rows import DueBank
from service.store.tables import bank as bank_table

NEVER = {"tokens": 10**9, "events": 10**9, "early": 10**9, "age": timedelta(days=9_999)}


async def owed(database, bank) -> tuple:
    columns = (bank_table.c.debt_tokens, bank_table.c.debt_events, bank_table.c.debt_since)
    async with database.read(bank.tenant) as conn:
        return tuple((await conn.execute(select(*columns).where(bank_table.c.id == bank.id))).one())


async def teach(database, bank, tokens: int, *, events: int = 1, at: float = 0.0) -> None:
    await append(database, bank, *(draft(f"q{n}", tokens=tokens // events) for n in range(events)), now=later(at))


async def repay(database, bank, tokens: int, events: int, at: float = 0.0) -> None:
    async with database.write(bank.tenant) as conn:
        await banks.repay(conn, bank.tenant, bank.id, tokens=tokens, events=events, now=later(at))


async def due(database, at: float = 0.0, limit: int = 10, **bounds) -> list[str]:
    async with database.sweep() as conn:
        return [row.id for row in await debt.due(conn, later(at), limit=limit, **NEVER | bounds)]


async def queue(database, bank, kind: str = "consolidation") -> str:
    async with database.write(bank.tenant) as conn:
        job, _ = await jobs.enqueue(conn, bank.tenant, kind=kind, bank=bank.id, payload={}, dedupe=None, now=NOW)
    return job.id


async def test_what_is_taught_is_owed_since_the_first_of_it(database, bank):
    assert await owed(database, bank) == (0, 0, None)
    await append(database, bank, draft(tokens=7), draft(tokens=5), now=later(3))
    await teach(database, bank, 100, at=9)
    assert await owed(database, bank) == (112, 3, later(3))


async def test_what_was_refused_is_not_owed(database, bank):
    with pytest.raises(NotOwner):
        await append(database, bank, draft(), epoch=7)
    assert await owed(database, bank) == (0, 0, None)


REPAYMENTS = {
    "all": ((12, 3), (0, 0, None)),
    "some": ((10, 2), (2, 1, later(60))),
    "nothing": ((0, 0), (12, 3, later(60))),
    "more than there is": ((99, 99), (0, 0, None)),
    "all tokens": ((12, 2), (0, 1, later(60))),
    "all events": ((2, 3), (10, 0, later(60))),
}


@pytest.mark.parametrize(("paid", "left"), REPAYMENTS.values(), ids=REPAYMENTS.keys())
async def test_consolidation_repays_what_it_covered_and_the_rest_counts_from_then(database, bank, paid, left):
    other = await new_bank(database, bank.tenant, "other")
    for each in (bank, other):
        await teach(database, each, 12, events=3)
    await repay(database, bank, *paid, at=60)
    assert await owed(database, bank) == left
    assert await owed(database, other) == (12, 3, NOW)


async def test_debt_that_was_repaid_begins_anew_with_the_next_lesson(database, bank):
    await teach(database, bank, 12, events=3)
    await repay(database, bank, 12, 3, at=60)
    await teach(database, bank, 5, at=90)
    assert await owed(database, bank) == (5, 1, later(90))


async def test_bank_is_due_when_any_of_its_bounds_is_reached_and_not_before(database, bank):
    await teach(database, bank, 100, events=4)
    assert await due(database) == []
    for bound in ({"tokens": 100}, {"events": 4}, {"age": timedelta(seconds=60)}):
        assert await due(database, 60, **bound) == [bank.id], bound
    for bound in ({"tokens": 101}, {"events": 5}, {"age": timedelta(seconds=61)}):
        assert await due(database, 60, **bound) == [], bound


async def test_young_bank_is_due_early_and_an_older_one_when_it_owes_a_quarter(database, bank):
    await teach(database, bank, 30, events=3)
    assert await due(database, early=4) == []
    await teach(database, bank, 10)
    assert await due(database, early=4) == [bank.id]
    await repay(database, bank, 40, 4, at=60)
    await teach(database, bank, 60, events=6, at=70)
    assert await due(database, 80, early=7) == []
    assert await due(database, 80, early=6) == [bank.id]
    await repay(database, bank, 60, 6, at=90)
    await teach(database, bank, 30, events=3, at=95)
    assert await due(database, 99, early=1) == [], "3 of 13 are less than a quarter"
    await teach(database, bank, 20, events=2, at=96)
    assert await due(database, 99, early=1) == [bank.id], "5 of 15 are more"


async def test_banks_that_are_due_early_come_after_those_that_have_reached_a_bound(database, bank):
    await teach(database, bank, 30, events=3)
    full = await new_bank(database, bank.tenant, "full")
    await teach(database, full, 90, events=9, at=10)
    young = await new_bank(database, await new_tenant(database), "young")
    await teach(database, young, 30, events=3, at=-10)
    assert await due(database, early=3) == [young.id, bank.id], "nobody is full: oldest debt first, one of each tenant"
    assert await due(database, early=3, events=9) == [full.id, young.id]


async def test_bank_without_a_debt_is_never_due(database, bank):
    await teach(database, bank, 12)
    await repay(database, bank, 12, 1)
    assert await due(database, 9_999, tokens=0, events=0, early=0, age=timedelta(0)) == []


async def test_due_bank_comes_with_what_it_owes(database, bank):
    await teach(database, bank, 12, events=3, at=5)
    async with database.sweep() as conn:
        (found,) = await debt.due(conn, later(9), limit=1, **NEVER | {"events": 1})
    assert found == DueBank(tenant=bank.tenant, id=bank.id, tokens=12, events=3, since=later(5))


async def test_bank_with_an_open_consolidation_is_not_due(database, bank):
    await teach(database, bank, 12)
    await queue(database, bank, "rebuild")
    assert await due(database, events=1) == [bank.id], "another kind of job does not consolidate"
    job = await queue(database, bank)
    assert await due(database, events=1) == []
    async with database.sweep() as conn:
        await jobs.claim(conn, job, by="worker", now=NOW, ttl_s=60)
    assert await due(database, events=1) == []
    async with database.sweep() as conn:
        await jobs.finish(conn, job, by="worker", status="succeeded", result=None, error=None, now=NOW)
    assert await due(database, events=1) == [bank.id]


async def test_bank_whose_consolidation_failed_is_left_alone_for_an_hour(database, bank):
    await teach(database, bank, 12)
    job = await queue(database, bank)
    async with database.sweep() as conn:
        await jobs.claim(conn, job, by="worker", now=NOW, ttl_s=60)
        await jobs.finish(conn, job, by="worker", status="failed", result=None, error={"code": "internal", "detail": "x"}, now=NOW)
    assert await due(database, 3_599, events=1) == []
    assert await due(database, 3_601, events=1) == [bank.id]


async def test_weights_that_no_consolidation_covers_are_owed_with_what_came_after_them(database, bank):
    other = await new_bank(database, bank.tenant, "other")
    for each in (bank, other):
        await teach(database, each, 12, events=3)
    await repay(database, bank, 12, 3, at=60)
    await teach(database, bank, 10, events=2, at=70)

    async def owe(seq: int, tokens: int, events: int, at: float) -> None:
        async with database.write(bank.tenant) as conn:
            await debt.owe(conn, bank.tenant, bank.id, seq=seq, tokens=tokens, events=events, now=later(at))

    await owe(3, 12, 3, 80)
    assert await owed(database, bank) == (22, 5, later(70)), "the oldest of it was taught then"
    await owe(5, 7, 1, 90)
    assert await owed(database, bank) == (7, 1, later(70))
    await owe(5, 0, 0, 95)
    assert await owed(database, bank) == (0, 0, None)
    await owe(4, 0, 0, 99)
    assert await owed(database, bank) == (5, 1, later(99))
    assert await owed(database, other) == (12, 3, NOW)


async def test_oldest_debt_comes_first_and_one_bank_of_each_tenant(database):
    many, few = await new_tenant(database), await new_tenant(database)
    greedy = [await new_bank(database, many, f"bank {n}") for n in range(4)]
    modest = await new_bank(database, few)
    for at, bank in enumerate((greedy[2], greedy[0], modest, greedy[3])):
        await teach(database, bank, 12, at=at)
    await teach(database, greedy[1], 1_000, at=9)  # the largest debt is not the oldest
    found = []
    for _ in range(5):
        round_ = await due(database, 10, events=1)
        found.append(round_)
        for bank in (*greedy, modest):
            if bank.id in round_:
                await queue(database, bank)
    assert found == [[greedy[2].id, modest.id], [greedy[0].id], [greedy[3].id], [greedy[1].id], []]


async def test_number_of_due_banks_is_limited_to_the_oldest(database):
    made = [await new_bank(database, await new_tenant(database)) for _ in range(4)]
    for at, bank in enumerate(made):
        await teach(database, bank, 12, at=4 - at)
    assert await due(database, events=1, limit=2) == [made[3].id, made[2].id]
