"""The sweeper behind the bell: whatever a lost message or a dead process left lying is found in the tables and taken up again.

Any number of processes may sweep at once: what two find, one does.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import TYPE_CHECKING

import structlog

from service.processes.parts import utc_now
from service.settings import Settings
from service.store import bundles, debt, erasure, idempotency, jobs
from service.store.db import Database
from service.telemetry import Metrics, places

if TYPE_CHECKING:
    from workers.maintenance import Maintenance

ERASED, ERASED_NOW = timedelta(days=1), timedelta(minutes=5)  # how far the first look for erased tenants goes back, and all others
AGAIN_S = 60.0  # a message that no runner has taken by then is lost
TIDY_S = 3_600.0  # between looks for blobs that nothing needs
SWEPT = 100  # jobs rung, and banks found due, at once
log = structlog.get_logger()


class Sweeper:
    """Looks for jobs that nobody works on, banks due for consolidation, replies and blobs that nobody needs.

    `erased` is told of each tenant that was erased: where nobody else tells of one that a command beside this process has erased.
    """

    def __init__(
        self,
        settings: Settings,
        database: Database,
        maintenance: "Maintenance",
        ring: Callable[[str, str], None],
        metrics: Metrics,
        erased: Callable[[str], None] | None = None,
    ) -> None:
        self._settings, self._database, self._maintenance, self._ring, self._metrics = settings, database, maintenance, ring, metrics
        self._erased, self._looks_back = erased, ERASED
        self._rung: dict[str, float] = {}  # when this process rang for a job that it has not seen begun
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to look, now and again."""
        every = ((self.sweep, self._settings.sweep_s), (self._maintenance.tidy, TIDY_S))
        self._tasks = [asyncio.get_running_loop().create_task(self._repeat(look, seconds)) for look, seconds in every]

    async def stop(self) -> None:
        """Stop between two looks: a sweep is never cut off inside a transaction."""
        self._stopping.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def begun(self, job_id: str) -> None:
        """A runner has looked at the job: the next message about it is a new one."""
        self._rung.pop(job_id, None)

    async def sweep(self) -> None:
        """One look at the tables."""
        await self._enqueue_due()
        async with self._database.sweep() as conn:
            waiting = await jobs.ready(conn, utc_now(), SWEPT)
            await idempotency.purge(conn, utc_now() - idempotency.KEPT)
            await bundles.purge(conn, utc_now())
            gone = set(await erasure.erased_since(conn, utc_now() - self._looks_back)) if self._erased else set[str]()
        ages = [(utc_now() - job.created_at).total_seconds() for job in waiting]
        self._metrics.jobs_waiting(Counter(job.kind for job in waiting), max(ages, default=0.0))
        if self._erased is not None:
            for tenant in gone:
                self._erased(tenant)  # again and again for a while: one of its banks may just have been on its way into memory
        self._looks_back = ERASED_NOW
        now = time.monotonic()
        self._rung = {job_id: at for job_id, at in self._rung.items() if now - at < AGAIN_S}
        for job in waiting:
            if job.id not in self._rung:
                self._rung[job.id] = now
                self._ring(job.id, job.kind)

    async def _enqueue_due(self) -> None:
        """Jobs for banks that have learned enough since their last consolidation, oldest debt first, one of each tenant at a time."""
        settings, now = self._settings, utc_now()
        async with self._database.sweep() as conn:
            due = await debt.due(
                conn,
                now,
                tokens=settings.consolidate_tokens,
                events=settings.consolidate_events,
                early=settings.consolidate_early,
                age=timedelta(seconds=settings.consolidate_age_s),
                limit=SWEPT,
            )
        for bank in due:
            async with self._database.write(bank.tenant) as conn:
                await jobs.enqueue(
                    conn,
                    bank.tenant,
                    kind="consolidation",
                    bank=bank.id,
                    payload={"by": "sweeper"},
                    dedupe=f"consolidation:{bank.id}",
                    now=now,
                )

    async def _repeat(self, look: Callable[[], Awaitable[None]], seconds: float) -> None:
        while not self._stopping.is_set():
            try:
                with self._metrics.stage(look.__name__):
                    await look()
            except Exception as error:  # a full disk or a busy database: look again later; a sweeper that died would be missed by nobody
                log.warning("sweep failed", action="sweep", error=type(error).__qualname__, places=places(error))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
