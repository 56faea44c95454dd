"""Jobs: start a consolidation, see what became of a job, cancel one that has not begun. The row first, then the bell."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.deps import Connection
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Order, Pager
from service.api.texts import known_form
from service.errors import Conflict, NotFound
from service.store import jobs
from service.store.rows import JobRow

TAGS = ["jobs"]
PROMISED = ("rebuild", "erase")  # acknowledged as forgotten


@post(
    "/v1/consolidations",
    operation_id="consolidate",
    summary="Move what fast levels hold into slow ones",
    tags=TAGS,
    opt=needs("snapshots:write"),
    dto=Strict[wire.NewConsolidation],
    status_code=202,
)
async def consolidate(caller: NamedDependency[Caller], data: JSONBody[wire.NewConsolidation]) -> Response[wire.JobStarted]:
    """A gate decides whether the result becomes the head. One that is queued or running already is reused."""
    row = await caller.bank_row(data.bank)

    async def work(_: str | None) -> wire.JobStarted:
        async with caller.deps.database.write(caller.tenant) as conn:
            job, found = await jobs.enqueue(
                conn,
                caller.tenant,
                kind="consolidation",
                bank=row.id,
                payload={"by": caller.principal.key_id},
                dedupe=f"consolidation:{row.id}",
                now=caller.deps.now(),
            )
            if not found:
                await caller.note(conn, "consolidation", row.id, {"job": job.id})
        caller.deps.ring(job.id, job.kind)
        return wire.JobStarted(job_id=job.id, deduplicated=found)

    return await once(caller, work, status=202)


@get("/v1/jobs", operation_id="list_jobs", summary="Jobs", tags=TAGS)
async def list_jobs(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, order: Order = "oldest"
) -> Response[wire.Page[wire.Job]]:
    """Of one bank, or of all of them when the key is for the whole tenant and no bank is named."""
    every = bank is None and caller.principal.banks is None
    bank_id = None if every else (await caller.bank_row(bank)).id
    pager, newest = Pager(f"jobs:{bank_id}:{order}", str, limit, cursor), order == "newest"
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: jobs.list_jobs(conn, caller.tenant, bank_id, after, number, newest), _id, _shown)
    return replies.send(page)


@get("/v1/jobs/{job_id:str}", operation_id="get_job", summary="One job", tags=TAGS)
async def get_job(caller: NamedDependency[Caller], job_id: FromPath[str]) -> Response[wire.Job]:
    """Any key that may use the job's bank may look."""
    async with caller.deps.database.read(caller.tenant) as conn:
        return replies.send(_shown(await _visible(conn, caller, job_id)))


@post(
    "/v1/jobs/{job_id:str}/cancel",
    operation_id="cancel_job",
    summary="Cancel a job that is still queued",
    tags=TAGS,
    opt=needs("admin"),
    status_code=200,
)
async def cancel_job(caller: NamedDependency[Caller], job_id: FromPath[str]) -> Response[wire.Job]:
    """A job that runs or has ended is left alone: 409."""

    async def work(_: str | None) -> wire.Job:
        async with caller.deps.database.write(caller.tenant) as conn:
            job = await _visible(conn, caller, job_id)
            if job.status == "canceled":
                return _shown(job)
            if job.kind in PROMISED:
                raise Conflict("what was promised to be forgotten is forgotten: this job cannot be canceled")
            ended = await jobs.cancel(conn, caller.tenant, job.id, caller.deps.now())
            if ended.status != "canceled":  # a runner was quicker
                raise Conflict(f"the job is {ended.status}; only a queued one can be canceled")
            await caller.note(conn, "job.cancel", job.id, {"kind": job.kind, "bank": job.bank})
            return _shown(ended)

    return await once(caller, work, status=200)


async def _visible(conn: Connection, caller: Caller, job_id: FromPath[str]) -> JobRow:
    job = await jobs.get_job(conn, caller.tenant, known_form(job_id))
    if not caller.sees(job.bank):
        raise NotFound(f"this key has no job {job_id}")
    return job


def _id(row: JobRow) -> str:
    return row.id


def _shown(row: JobRow) -> wire.Job:
    return wire.Job(
        id=row.id,
        kind=row.kind,  # type: ignore[arg-type]  # the column's CHECK lists the same words
        bank=row.bank,
        status=row.status,  # type: ignore[arg-type]
        progress=row.progress,
        attempts=row.attempts,
        result=row.result,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
        finished_at=row.finished_at,
    )
