"""Several writers at once, each with connections of its own as other processes have, on both dialects.

On SQLite a check of the epoch before the insert would pass too; on PostgreSQL it lets an overtaken owner write (engineering traps 1 and 5).
"""

import asyncio
import contextlib
import random

import pytest_asyncio
from keeping import NOW, chain_length, draft, find, later
from sqlalchemy import select, update

from service.errors import NotOwner
from service.store import banks, forgets, history, idempotency, jobs, ledger
from service.store.db import Database
from service.store.tables import bank as bank_table

WRITERS = 4


@pytest_asyncio.fixture
async def others(database_url):
    """The same database as other processes see it."""
    opened = [Database(database_url) for _ in range(WRITERS)]
    yield opened
    for other in opened:
        await other.close()


async def test_contending_owners_lose_and_repeat_no_position(database, bank, others):
    acked: list[tuple[int, str]] = []
    fenced = 0

    async def own(which: int, mine: Database) -> None:
        nonlocal fenced
        dice = random.Random(which)
        for _ in range(6):
            async with mine.write(bank.tenant) as conn:
                taken = await banks.acquire(conn, bank.tenant, bank.id, f"worker-{which}")
            known = taken.seq  # what this owner has folded
            with contextlib.suppress(NotOwner):
                for _ in range(dice.randint(1, 5)):
                    drafts = [draft(f"q{which}", f"a{dice.randint(0, 9)}") for _ in range(dice.randint(1, 3))]
                    async with mine.write(bank.tenant) as conn:
                        rows = await ledger.append(conn, bank.tenant, bank.id, drafts, epoch=taken.epoch, head_version=0, now=NOW)
                        await asyncio.sleep(dice.random() / 500)
                    assert rows[0].seq == known + 1, "an owner's memory lacks what another wrote"
                    known = rows[-1].seq
                    acked.extend((row.seq, row.id) for row in rows)
                    await asyncio.sleep(dice.random() / 100)
                continue
            fenced += 1

    await asyncio.gather(*(own(which, mine) for which, mine in enumerate(others)))
    async with database.read(bank.tenant) as conn:
        rows = await history.page(conn, bank.tenant, bank.id, None, 10_000)
    assert sorted(acked) == [(row.seq, row.id) for row in rows]
    assert [row.seq for row in rows] == list(range(1, len(rows) + 1))
    epochs = [row.epoch for row in rows]
    assert epochs == sorted(epochs), "an owner wrote after it was overtaken"
    assert (await find(database, bank)).seq == await chain_length(database, bank) == len(rows)
    assert fenced, "nobody was overtaken: this shows nothing"


async def test_owner_that_was_overtaken_inside_its_transaction_writes_nothing(database, bank, others):
    """The new owner takes the bank after the old one has begun, and before it appends."""
    async with database.write(bank.tenant) as conn:
        old = await banks.acquire(conn, bank.tenant, bank.id, "old")
    begun, taken = asyncio.Event(), asyncio.Event()

    async def overtaken() -> None:
        async with others[0].write(bank.tenant) as conn:
            if database.dialect == "postgresql":  # SQLite lets nobody in while a writer is inside
                assert (await banks.find_bank(conn, bank.tenant, bank.id)).epoch == old.epoch
                begun.set()
                await taken.wait()
            await ledger.append(conn, bank.tenant, bank.id, [draft()], epoch=old.epoch, head_version=0, now=NOW)

    async def overtake() -> None:
        if database.dialect == "postgresql":
            await begun.wait()
        async with others[1].write(bank.tenant) as conn:
            await banks.acquire(conn, bank.tenant, bank.id, "new")
        taken.set()

    first = asyncio.create_task(overtake())
    await asyncio.sleep(0)
    (outcome,) = await asyncio.gather(overtaken(), return_exceptions=True)
    await first
    now = await find(database, bank)
    if isinstance(outcome, NotOwner):
        assert now.seq == 0
    else:  # it was first after all, and all of it counts
        assert database.dialect == "sqlite"
        assert now.seq == 1
    assert now.epoch == old.epoch + 1
    assert await chain_length(database, bank) == now.seq


async def test_each_acquisition_gets_an_epoch_of_its_own(bank, others):
    async def take(which: int, mine: Database) -> int:
        async with mine.write(bank.tenant) as conn:
            return (await banks.acquire(conn, bank.tenant, bank.id, f"worker-{which}")).epoch

    epochs = await asyncio.gather(*(take(n, others[n % WRITERS]) for n in range(12)))
    assert sorted(epochs) == list(range(1, 13))


async def test_concurrent_read_modify_writes_lose_nothing(database, bank):
    """Eight loops of 25: with the driver's own late BEGIN on SQLite, most of them are lost without an error."""
    mine = bank_table.c.id == bank.id

    async def loop() -> None:
        for _ in range(25):
            async with database.write(bank.tenant) as conn:
                query = select(bank_table.c.epoch).where(mine)
                value = (await conn.execute(query if database.dialect == "sqlite" else query.with_for_update())).scalar_one()
                await asyncio.sleep(0)
                await conn.execute(update(bank_table).where(mine).values(epoch=value + 1))

    await asyncio.gather(*(loop() for _ in range(8)))
    assert (await find(database, bank)).epoch == 200


async def test_read_modify_writes_of_several_processes_lose_nothing(database, bank, others):
    mine = bank_table.c.id == bank.id

    async def loop(other: Database) -> None:
        for _ in range(15):
            async with other.write(bank.tenant) as conn:
                query = select(bank_table.c.epoch).where(mine)
                value = (await conn.execute(query if other.dialect == "sqlite" else query.with_for_update())).scalar_one()
                await asyncio.sleep(0)
                await conn.execute(update(bank_table).where(mine).values(epoch=value + 1))

    await asyncio.gather(*(loop(other) for other in others))
    assert (await find(database, bank)).epoch == 15 * WRITERS


async def test_one_of_many_claims_a_job(database, tenant, others):
    async with database.write(tenant) as conn:
        queued = [
            (await jobs.enqueue(conn, tenant, kind="consolidate", bank=None, payload={}, dedupe=None, now=NOW))[0].id for _ in range(5)
        ]

    async def claim(which: int, job_id: str) -> str | None:
        async with others[which % WRITERS].sweep() as conn:
            claimed = await jobs.claim(conn, job_id, by=f"worker-{which}", now=NOW, ttl_s=60)
        return claimed and claimed.claimed_by

    for job_id in queued:
        takers = [taker for taker in await asyncio.gather(*(claim(which, job_id) for which in range(8))) if taker]
        async with database.read(tenant) as conn:
            row = await jobs.get_job(conn, tenant, job_id)
        assert takers == [row.claimed_by]
        assert row.attempts == 1


async def test_one_of_many_takes_over_a_job_whose_claim_ran_out(database, tenant, others):
    async with database.write(tenant) as conn:
        job, _ = await jobs.enqueue(conn, tenant, kind="consolidate", bank=None, payload={}, dedupe=None, now=NOW)
    async with database.sweep() as conn:
        await jobs.claim(conn, job.id, by="dead", now=NOW, ttl_s=60)

    async def claim(which: int) -> bool:
        async with others[which % WRITERS].sweep() as conn:
            return await jobs.claim(conn, job.id, by=f"worker-{which}", now=later(61), ttl_s=60) is not None

    assert sum(await asyncio.gather(*(claim(which) for which in range(8)))) == 1


async def test_equal_jobs_queued_at_once_are_one(database, tenant, others):
    async def queue(which: int) -> tuple[str, bool]:
        async with others[which % WRITERS].write(tenant) as conn:
            job, known = await jobs.enqueue(conn, tenant, kind="consolidate", bank=None, payload={"n": which}, dedupe="same", now=NOW)
        return job.id, known

    told = await asyncio.gather(*(queue(which) for which in range(8)))
    assert len({job for job, _ in told}) == 1
    assert [known for _, known in told].count(False) == 1
    async with database.read(tenant) as conn:
        assert len(await jobs.list_jobs(conn, tenant, None, None, 10)) == 1


async def test_one_of_many_requests_with_a_key_is_the_first(database, tenant, others):
    async def begin(which: int):
        async with others[which % WRITERS].write(tenant) as conn:
            return await idempotency.begin(conn, tenant, "key", request_hash=b"r" * 32, now=NOW, lease_s=60)

    told = await asyncio.gather(*(begin(which) for which in range(8)), return_exceptions=True)
    assert [type(outcome).__name__ for outcome in told].count("Fresh") == 1
    assert {type(outcome).__name__ for outcome in told} == {"Fresh", "IdempotencyInFlight"}


async def test_corrections_forgotten_by_many_at_once_have_the_heaviest_mark(database, bank, others):
    async with database.write(bank.tenant) as conn:
        rows = await ledger.append(conn, bank.tenant, bank.id, [draft(), draft()], epoch=0, head_version=0, now=NOW)
    ids = [row.id for row in rows]

    async def forget(which: int) -> str:
        mode = ("suppress", "erase", "rebuild", "suppress")[which]
        wanted = {"event_ids": ids, "mode": mode, "exact": mode != "suppress", "reason": None, "created_by": "k", "job_id": None}
        async with others[which].write(bank.tenant) as conn:
            return (await forgets.add_forget(conn, bank.tenant, bank.id, **wanted, now=NOW)).id

    told = await asyncio.gather(*(forget(which) for which in range(4)))
    async with database.read(bank.tenant) as conn:
        marks = await forgets.tombstones(conn, bank.tenant, bank.id)
        kept = await forgets.list_forgets(conn, bank.tenant, bank.id, None, 10)
    assert [(mark.seq, mark.mode, mark.exact) for mark in marks] == [(1, "erase", True), (2, "erase", True)]
    assert {forget.id for forget in kept} == set(told)


async def test_response_that_is_being_said_again_outlives_the_erasure_of_who_said_it_first(database, bank, others):
    async with database.write(bank.tenant) as conn:
        (first,) = await ledger.append(conn, bank.tenant, bank.id, [draft("q", "shared answer")], epoch=0, head_version=0, now=NOW)

    async def erase() -> None:
        async with others[0].write(bank.tenant) as conn:
            await forgets.redact(conn, bank.tenant, bank.id, [first.seq], NOW)

    async with others[1].write(bank.tenant) as conn:
        await ledger.append(conn, bank.tenant, bank.id, [draft("other", "shared answer")], epoch=0, head_version=0, now=NOW)
        erasing = asyncio.create_task(erase())
        await asyncio.sleep(0.1)
    await erasing
    async with database.read(bank.tenant) as conn:
        lessons = await history.lessons(conn, bank.tenant, bank.id, 0, 10, 10)
    assert [(lesson.seq, lesson.right) for lesson in lessons] == [(2, "shared answer")]
