"""Jobs: rows are the truth about what is to be done, and a claim says who does it until when."""

import pytest
from keeping import NOW, later, new_bank, new_tenant

from service.errors import NotFound
from service.store import jobs

TTL = 60


async def queue(database, tenant: str, *, kind="consolidate", bank=None, dedupe=None, at=0.0, payload=None):
    async with database.write(tenant) as conn:
        return await jobs.enqueue(conn, tenant, kind=kind, bank=bank, payload=payload or {}, dedupe=dedupe, now=later(at))


async def claim(database, job, by="worker", at=0.0):
    async with database.sweep() as conn:
        return await jobs.claim(conn, job.id, by=by, now=later(at), ttl_s=TTL)


async def finish(database, job, by="worker", status="succeeded", at=0.0, **more) -> bool:
    async with database.sweep() as conn:
        return await jobs.finish(conn, job.id, by=by, status=status, **{"result": None, "error": None} | more, now=later(at))


async def extend(database, job, by="worker", progress=0.5, at=0.0) -> bool:
    async with database.sweep() as conn:
        return await jobs.extend(conn, job.id, by=by, progress=progress, now=later(at), ttl_s=TTL)


async def read(database, job):
    async with database.read(job.tenant) as conn:
        return await jobs.get_job(conn, job.tenant, job.id)


async def ready(database, at=0.0, limit=10) -> list[str]:
    async with database.sweep() as conn:
        return [job.id for job in await jobs.ready(conn, later(at), limit)]


async def test_queued_job_is_read_as_it_was_given(database, tenant, bank):
    payload = {"events": [1, 2], "why": "Où ? 💳", "none": None}
    job, known = await queue(database, tenant, kind="rebuild", bank=bank.id, payload=payload)
    assert not known
    assert await read(database, job) == job
    assert (job.kind, job.bank, job.status, job.payload, job.progress, job.attempts) == ("rebuild", bank.id, "queued", payload, 0.0, 0)
    assert (job.claimed_by, job.result, job.error, job.finished_at, job.created_at) == (None, None, None, None, NOW)


async def test_claimed_job_is_nobody_elses_until_its_claim_runs_out(database, tenant):
    job, _ = await queue(database, tenant)
    mine = await claim(database, job, "one")
    assert (mine.status, mine.claimed_by, mine.claim_until, mine.attempts) == ("running", "one", later(TTL), 1)
    assert await claim(database, job, "two", at=TTL) is None
    assert await claim(database, job, "one", at=TTL) is None
    theirs = await claim(database, job, "two", at=TTL + 1)
    assert (theirs.claimed_by, theirs.attempts) == ("two", 2)


async def test_claim_that_is_extended_does_not_run_out(database, tenant):
    job, _ = await queue(database, tenant)
    await claim(database, job, "one")
    assert await extend(database, job, "one", 0.25, at=TTL)
    assert await claim(database, job, "two", at=2 * TTL) is None
    assert (await read(database, job)).progress == 0.25
    assert not await extend(database, job, "two", 0.5, at=TTL)
    assert (await read(database, job)).progress == 0.25


async def test_who_lost_the_claim_can_neither_extend_nor_end_nor_release_the_job(database, tenant):
    job, _ = await queue(database, tenant)
    await claim(database, job, "slow")
    await claim(database, job, "quick", at=TTL + 1)
    before = await read(database, job)
    assert not await extend(database, job, "slow")
    assert not await finish(database, job, "slow", result={"by": "slow"})
    async with database.sweep() as conn:
        assert not await jobs.release(conn, job.id, by="slow", now=NOW)
    assert await read(database, job) == before
    assert await finish(database, job, "quick", result={"by": "quick"}, at=70)
    ended = await read(database, job)
    assert (ended.status, ended.result, ended.progress, ended.finished_at) == ("succeeded", {"by": "quick"}, 1.0, later(70))
    assert (ended.claimed_by, ended.claim_until) == (None, None)


@pytest.mark.parametrize("status", ["succeeded", "failed"])
async def test_ended_job_is_never_done_again(database, tenant, status):
    job, _ = await queue(database, tenant)
    await claim(database, job)
    await extend(database, job, progress=0.5)
    error = {"code": "internal", "detail": "it broke"} if status == "failed" else None
    assert await finish(database, job, status=status, error=error)
    ended = await read(database, job)
    assert (ended.status, ended.error, ended.progress) == (status, error, 1.0 if status == "succeeded" else 0.5)
    assert await claim(database, job, at=10 * TTL) is None
    assert not await finish(database, job, status="failed")
    assert await ready(database, 10 * TTL) == []
    assert await read(database, job) == ended


async def test_released_job_is_queued_again_and_remembers_its_tries(database, tenant):
    job, _ = await queue(database, tenant)
    await claim(database, job)
    async with database.sweep() as conn:
        assert await jobs.release(conn, job.id, by="worker", now=NOW)
    assert await ready(database) == [job.id]
    assert (await claim(database, job, "two")).attempts == 2


async def test_ready_jobs_are_the_free_ones_of_all_tenants_oldest_first(database, tenant):
    stranger = await new_tenant(database)
    made = {}
    for name, owner, at in (("third", tenant, 3), ("first", stranger, 1), ("silent", tenant, 2), ("busy", tenant, 0), ("done", tenant, 0)):
        made[name], _ = await queue(database, owner, at=at)
    await claim(database, made["silent"])
    await claim(database, made["busy"], at=2 * TTL)
    await claim(database, made["done"])
    await finish(database, made["done"])
    assert await ready(database, 2 * TTL) == [made[name].id for name in ("first", "silent", "third")]
    assert await ready(database, 2 * TTL, limit=2) == [made["first"].id, made["silent"].id]
    assert await ready(database, TTL) == [made["first"].id, made["third"].id], "its claim has not run out yet"


async def test_claims_released_at_a_start_are_those_of_running_jobs(database, tenant):
    running, queued, done = [(await queue(database, tenant))[0] for _ in range(3)]
    await claim(database, running)
    await claim(database, done)
    await finish(database, done)
    async with database.sweep() as conn:
        await jobs.release_claims(conn, NOW)
    assert set(await ready(database)) == {running.id, queued.id}
    assert (await read(database, done)).status == "succeeded"
    assert (await claim(database, running)).attempts == 2


async def test_open_job_with_the_same_purpose_is_returned_instead_of_a_second(database, tenant):
    job, known = await queue(database, tenant, dedupe="rebuild bank 1")
    again, known_again = await queue(database, tenant, dedupe="rebuild bank 1", payload={"other": True})
    assert (known, known_again) == (False, True)
    assert again == job
    running = await claim(database, job)
    assert await queue(database, tenant, dedupe="rebuild bank 1") == (running, True)
    assert not (await queue(database, tenant, dedupe="rebuild bank 2"))[1]
    assert not (await queue(database, await new_tenant(database), dedupe="rebuild bank 1"))[1]
    await finish(database, job)
    later_on, known = await queue(database, tenant, dedupe="rebuild bank 1")
    assert not known
    assert later_on.id != job.id


async def test_jobs_without_a_purpose_are_all_queued(database, tenant):
    assert len({(await queue(database, tenant))[0].id for _ in range(3)}) == 3


async def test_only_a_queued_job_can_be_canceled(database, tenant):
    job, _ = await queue(database, tenant, dedupe="x")
    running, _ = await queue(database, tenant)
    claimed = await claim(database, running)
    async with database.write(tenant) as conn:
        assert (await jobs.cancel(conn, tenant, job.id, later(4))).status == "canceled"
        assert await jobs.cancel(conn, tenant, running.id, later(4)) == claimed
        with pytest.raises(NotFound):
            await jobs.cancel(conn, tenant, "job_unknown", NOW)
    assert (await read(database, job)).finished_at == later(4)
    assert await claim(database, job) is None
    assert not (await queue(database, tenant, dedupe="x"))[1], "a canceled one does not stand in the way"


async def test_jobs_are_paged_by_id_and_found_by_bank_and_kind(database, tenant):
    banks = [await new_bank(database, tenant, name) for name in ("a", "b")]
    made = []
    for bank in banks:
        for kind in ("rebuild", "consolidate", "rebuild"):
            made.append((await queue(database, tenant, kind=kind, bank=bank.id))[0])
    ids = sorted(job.id for job in made)
    done = made[0]
    await claim(database, done)
    await finish(database, done)
    async with database.read(tenant) as conn:
        first = await jobs.list_jobs(conn, tenant, None, None, 4)
        rest = await jobs.list_jobs(conn, tenant, None, first[-1].id, 4)
        assert [job.id for job in first + rest] == ids
        assert {job.id for job in await jobs.list_jobs(conn, tenant, banks[0].id, None, 9)} == {job.id for job in made[:3]}
        assert [job.id for job in await jobs.pending_for(conn, tenant, banks[0].id, ["rebuild"])] == [made[2].id]
        assert await jobs.pending_for(conn, tenant, banks[0].id, ["gc"]) == []
        with pytest.raises(NotFound):
            await jobs.get_job(conn, tenant, "job_unknown")
