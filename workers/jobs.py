"""Jobs: from a claimed row to its end. The row decides, the message only says "look" (the row may be claimed by one runner at a time).

A runner extends its claim while it works; a runner that died loses it after the claim's time and the sweeper hands the job to another.
Every handler is idempotent: done twice, it has the effect of once.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import uuid4

import structlog

from service import telemetry, tracing
from service.errors import Capacity, HeadMoved, NotFound, OtherEncoder, PalimpsestError, StateUnavailable, StorageFull, WriterBusy
from service.store import jobs
from service.store.db import Database
from service.store.rows import JobRow
from service.telemetry import Metrics, places
from workers.maintenance import Maintenance
from workers.replay import Progress

WAITED_FOR = (Capacity, StorageFull)  # a part of the service is away or full: a job waits for it, however long that takes
ATTEMPTS = 5  # claims before a job is given up that others are in the way of again and again
TRANSIENT = (HeadMoved, StateUnavailable, WriterBusy)
PROMISED = ("rebuild", "erase")  # acknowledged as forgotten: tried until it is so
FOR_GOOD = (NotFound, OtherEncoder)  # no trying helps before a person has done something

Handler = Callable[[JobRow, Progress], Awaitable[dict[str, Any]]]
log = structlog.get_logger()


@dataclass(slots=True)
class _Share:
    """How far a job has come; the claim's renewal writes it down."""

    done: float = 0.0


class JobRunner:
    """Claims and runs jobs."""

    def __init__(
        self,
        database: Database,
        maintenance: Maintenance,
        *,
        claim_ttl_s: float,
        now: Callable[[], datetime],
        metrics: Metrics,
    ) -> None:
        self._database, self._maintenance, self._ttl_s, self._now, self._metrics = database, maintenance, claim_ttl_s, now, metrics
        self._name = f"runner-{uuid4().hex[:12]}"
        self._running: set[asyncio.Task[Any]] = set()
        self._closing = False
        self._handlers: dict[str, Handler] = {
            "consolidation": self._consolidate,
            "rebuild": self._rebuild,
            "erase": self._erase,
            "export": self._export,
            "bisection": self._bisect,
            "preparation": self._prepare,
        }

    async def run(self, job_id: str) -> None:
        """Run the job unless it is done, or someone else holds its claim."""
        if self._closing:
            return
        task = asyncio.current_task()
        assert task is not None, "a coroutine runs in a task"
        self._running.add(task)
        try:
            await self._run(job_id)
        finally:
            self._running.discard(task)

    async def close(self, within_s: float = 5.0) -> None:
        """Take no more jobs; those that do not end in time go back to the queue for the next start."""
        self._closing = True
        if self._running:
            await asyncio.wait(self._running, timeout=within_s)
        for task in list(self._running):
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)

    async def _run(self, job_id: str) -> None:
        by = f"{self._name}-{uuid4().hex[:8]}"  # each run has a claim of its own: two runs of one process must not share one
        async with self._database.sweep() as conn:
            job = await jobs.claim(conn, job_id, by=by, now=self._now(), ttl_s=self._ttl_s)
        if job is None:
            return
        telemetry.begin(request=job.payload.get("request", ""), tenant=job.tenant, bank=job.bank or "", job=job.id)
        begun = self._now()
        if job.attempts == 1:
            self._metrics.job_begun(job.kind, (begun - job.created_at).total_seconds())
        log.info("job begun", action="job_begin", kind=job.kind, attempt=job.attempts)
        with tracing.job(f"process {job.kind}", job.payload.get("traceparent", ""), _told(job)):
            share = _Share()
            work = asyncio.ensure_future(self._handle(job, share))
            renewal = asyncio.ensure_future(self._renew(job_id, by, share, work))
            try:
                await self._end(job, by, await _outcome(job, work), begun)
            finally:
                await renewal  # it ends with the work

    async def _handle(self, job: JobRow, share: _Share) -> dict[str, Any]:
        async def progress(done: float) -> None:
            share.done = done

        return await self._handlers[job.kind](job, progress)

    async def _renew(self, job_id: str, by: str, share: _Share, work: asyncio.Future[dict[str, Any]]) -> None:
        while not (await asyncio.wait({work}, timeout=self._ttl_s / 4))[0]:
            try:
                async with self._database.sweep() as conn:
                    held = await jobs.extend(conn, job_id, by=by, progress=share.done, now=self._now(), ttl_s=self._ttl_s)
            except PalimpsestError as error:  # a busy database: the next one may come in time
                log.warning("claim not extended", action="extend", job=job_id, why=error.code)
                continue
            if not held:
                log.warning("claim lost", action="claim_lost", job=job_id)
                work.cancel()  # canceled by a person, or taken over since this process stood still
                return

    async def _end(self, job: JobRow, by: str, outcome: dict[str, Any] | BaseException, begun: datetime) -> None:
        if isinstance(outcome, BaseException):
            tracing.failed(outcome)
        async with self._database.sweep() as conn:
            stopped = self._closing and isinstance(outcome, asyncio.CancelledError)
            promised = job.kind in PROMISED and isinstance(outcome, Exception) and not isinstance(outcome, FOR_GOOD)
            in_the_way = isinstance(outcome, TRANSIENT) and job.attempts < ATTEMPTS
            if stopped or promised or in_the_way or isinstance(outcome, WAITED_FOR):
                await jobs.release(conn, job.id, by=by, now=self._now())
                return
            status, result, error = "failed", None, None
            match outcome:
                case dict():
                    status, result = "succeeded", outcome
                case PalimpsestError():
                    error = {"code": outcome.code, "detail": outcome.detail}
                case asyncio.CancelledError():
                    return  # the claim is somebody else's now
                case _:
                    error = {
                        "code": "internal",
                        "detail": "the job failed unexpectedly; the service's log has the reason under the job's id",
                    }
            await jobs.finish(conn, job.id, by=by, status=status, result=result, error=error, now=self._now())
        seconds = (self._now() - begun).total_seconds()
        self._metrics.job_ended(job.kind, status, seconds)
        log.info("job ended", action="job_end", kind=job.kind, status=status, ms=round(1e3 * seconds))

    async def _consolidate(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        return await self._maintenance.consolidate(job.tenant, _bank(job), moved_by=job.id, progress=progress)

    async def _rebuild(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        forget = job.payload.get("forget")  # none where a quarantine asked for it
        return await self._maintenance.rebuild(job.tenant, _bank(job), moved_by=job.id, progress=progress, forget=forget)

    async def _erase(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        return await self._maintenance.erase(job.tenant, job.payload["forget"], moved_by=job.id, progress=progress)

    async def _export(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        return await self._maintenance.export(job.tenant, _bank(job), job.payload)

    async def _bisect(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        return await self._maintenance.bisect(job.tenant, _bank(job), job.payload, progress=progress)

    async def _prepare(self, job: JobRow, progress: Progress) -> dict[str, Any]:
        return await self._maintenance.prepare(job.tenant, _bank(job), job.payload, progress=progress)


def _told(job: JobRow) -> tracing.Attributes:
    """A job as a message that is processed: the row is its body, Celery's message only says that it is there."""
    ids = tracing.ours(telemetry.working_on())
    return {"messaging.system": "celery", "messaging.operation.type": "process", "messaging.message.id": job.id, **ids}


def _bank(job: JobRow) -> str:
    if job.bank is None:
        raise NotFound(f"job {job.id} names no bank")
    return job.bank


async def _outcome(job: JobRow, work: asyncio.Future[dict[str, Any]]) -> dict[str, Any] | BaseException:
    try:
        return await work
    except PalimpsestError as error:
        return error
    except asyncio.CancelledError as cancelled:
        return cancelled
    except Exception as error:  # the job loop's own boundary: one job's fault must not stop the others
        log.error("job failed", action="job_failed", job=job.id, error=type(error).__qualname__, places=places(error))
        return error
