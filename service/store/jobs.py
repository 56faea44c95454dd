"""Jobs: rows that say what is to be done, and claims that say who does it until when."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Row, and_, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service import telemetry, tracing
from service.errors import NotFound
from service.ids import new_id
from service.store.failures import refers_to_nothing
from service.store.rows import JobRow
from service.store.tables import job

OPEN = ("queued", "running")


async def enqueue(
    conn: AsyncConnection, tenant: str, *, kind: str, bank: str | None, payload: dict[str, Any], dedupe: str | None, now: datetime
) -> tuple[JobRow, bool]:
    """Queue a job; an open one with the same `dedupe` is returned instead, with True. Its payload names the request that caused it."""
    cause = {"request": telemetry.working_on().get("request"), "traceparent": tracing.traceparent()}
    values = {
        "id": new_id("job"),
        "tenant": tenant,
        "kind": kind,
        "bank": bank,
        "status": "queued",
        "payload": payload | {name: value for name, value in cause.items() if value},
        "dedupe": dedupe,
        "progress": 0.0,
        "attempts": 0,
        "created_at": now,
        "updated_at": now,
    }
    same = select(job).where(job.c.tenant == tenant, job.c.dedupe == dedupe, job.c.status.in_(OPEN))
    found = (await conn.execute(same)).first() if dedupe is not None else None
    if found is None:
        try:
            async with conn.begin_nested():
                await conn.execute(insert(job).values(values))
            return await get_job(conn, tenant, str(values["id"])), False
        except IntegrityError as error:  # another transaction queued it between the two statements
            if refers_to_nothing(error):
                raise
            found = (await conn.execute(same)).one()
    return _job(found), True


async def claim(conn: AsyncConnection, job_id: str, *, by: str, now: datetime, ttl_s: float) -> JobRow | None:
    """Take the job if nobody has it, or whoever had it was silent for too long; None otherwise."""
    free = or_(job.c.status == "queued", and_(job.c.status == "running", job.c.claim_until < now))
    until = now + timedelta(seconds=ttl_s)
    taken = update(job).where(job.c.id == job_id, free)
    taken = taken.values(status="running", claimed_by=by, claim_until=until, attempts=job.c.attempts + 1, updated_at=now)
    row = (await conn.execute(taken.returning(job))).first()
    return None if row is None else _job(row)


async def extend(conn: AsyncConnection, job_id: str, *, by: str, progress: float, now: datetime, ttl_s: float) -> bool:
    """Keep the claim and note the progress; False if it is somebody else's now."""
    until = now + timedelta(seconds=ttl_s)
    return await _mine(conn, job_id, by, {"claim_until": until, "progress": progress, "updated_at": now})


async def finish(
    conn: AsyncConnection, job_id: str, *, by: str, status: str, result: dict[str, Any] | None, error: dict[str, Any] | None, now: datetime
) -> bool:
    """End the job; False if the claim is somebody else's now, and nothing is changed."""
    ended: dict[str, Any] = {"status": status, "result": result, "error": error, "finished_at": now, "updated_at": now}
    if status == "succeeded":
        ended["progress"] = 1.0
    return await _mine(conn, job_id, by, ended | {"claimed_by": None, "claim_until": None})


async def release(conn: AsyncConnection, job_id: str, *, by: str, now: datetime) -> bool:
    """Put the job back into the queue for a later try."""
    return await _mine(conn, job_id, by, {"status": "queued", "claimed_by": None, "claim_until": None, "updated_at": now})


async def release_claims(conn: AsyncConnection, now: datetime) -> None:
    """Put every running job of all tenants back into the queue: nobody who could hold its claim is alive."""
    running = update(job).where(job.c.status == "running")
    await conn.execute(running.values(status="queued", claimed_by=None, claim_until=None, updated_at=now))


async def cancel(conn: AsyncConnection, tenant: str, job_id: str, now: datetime) -> JobRow:
    """Cancel a job that is still queued; any other is returned as it is. `NotFound` for a foreign one."""
    queued = update(job).where(job.c.tenant == tenant, job.c.id == job_id, job.c.status == "queued")
    await conn.execute(queued.values(status="canceled", finished_at=now, updated_at=now))
    return await get_job(conn, tenant, job_id)


class Waiting(NamedTuple):
    """A job that nobody works on."""

    id: str
    tenant: str
    kind: str
    created_at: datetime


async def ready(conn: AsyncConnection, now: datetime, limit: int) -> list[Waiting]:
    """The jobs of all tenants that nobody works on: every tenant's oldest, then every tenant's next: none waits behind another's."""
    free = or_(job.c.status == "queued", and_(job.c.status == "running", job.c.claim_until < now))
    turn = func.row_number().over(partition_by=job.c.tenant, order_by=job.c.created_at).label("turn")
    query = select(job.c.id, job.c.tenant, job.c.kind, job.c.created_at, turn).where(free).order_by("turn", job.c.created_at).limit(limit)
    return [Waiting(row.id, row.tenant, row.kind, row.created_at) for row in await conn.execute(query)]


async def get_job(conn: AsyncConnection, tenant: str, job_id: str) -> JobRow:
    """One of the tenant's jobs, or `NotFound`."""
    row = (await conn.execute(select(job).where(job.c.tenant == tenant, job.c.id == job_id))).first()
    if row is None:
        raise NotFound(f"no job {job_id!r}")
    return _job(row)


async def list_jobs(
    conn: AsyncConnection, tenant: str, bank: str | None, after: str | None, limit: int, descending: bool = False
) -> list[JobRow]:
    """A page of the tenant's jobs (of a bank), by id."""
    query = select(job).where(job.c.tenant == tenant).order_by(job.c.id.desc() if descending else job.c.id).limit(limit)
    if after is not None:
        query = query.where(job.c.id < after if descending else job.c.id > after)
    if bank is not None:
        query = query.where(job.c.bank == bank)
    return [_job(row) for row in await conn.execute(query)]


async def pending_for(conn: AsyncConnection, tenant: str, bank: str, kinds: Sequence[str]) -> list[JobRow]:
    """The bank's open jobs of these kinds."""
    query = select(job).where(job.c.tenant == tenant, job.c.bank == bank, job.c.kind.in_(list(kinds)), job.c.status.in_(OPEN))
    return [_job(row) for row in await conn.execute(query)]


async def scrub(conn: AsyncConnection, tenant: str, bank: str) -> None:
    """Take the questions out of the bank's jobs: one may be that of an erased correction."""
    query = select(job.c.id, job.c.payload).where(job.c.tenant == tenant, job.c.bank == bank, job.c.kind == "bisection")
    for row in (await conn.execute(query)).all():
        kept = {name: value for name, value in row.payload.items() if name not in ("input", "key")}
        await conn.execute(update(job).where(job.c.tenant == tenant, job.c.id == row.id).values(payload=kept))


async def _mine(conn: AsyncConnection, job_id: str, by: str, values: dict[str, Any]) -> bool:
    held = update(job).where(job.c.id == job_id, job.c.claimed_by == by, job.c.status == "running").values(values)
    return bool((await conn.execute(held)).rowcount)


def _job(row: Row[Any]) -> JobRow:
    fields = dict(row._mapping)
    del fields["dedupe"]
    return JobRow(**fields)
