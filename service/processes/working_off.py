"""Working off jobs: the Celery consumer that hears the bell, the runner that claims and does them, the sweeper behind both."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from service import keys
from service.outside import Outside
from service.processes.delivering import Deliverer
from service.processes.parts import utc_now
from service.processes.sweeping import Sweeper
from service.settings import Settings
from service.store.db import Database
from service.telemetry import Metrics

if TYPE_CHECKING:
    from service.bell import Bell
    from workers.jobs import JobRunner
    from workers.maintenance import Maintenance


@contextlib.asynccontextmanager
async def jobs_worked_off(
    settings: Settings,
    database: Database,
    maintenance: "Maintenance",
    metrics: Metrics,
    *,
    celery: Any,  # noqa: ANN401  # its type stays in its rooms
    bell: "Bell",
    queues: Sequence[str],
    erased: Callable[[str], None] | None = None,
) -> AsyncIterator["JobRunner"]:
    """Work off the jobs of `queues`; at the end those that do not end in time go back to the queue. `erased`: see `Sweeper`."""
    from workers.jobs import JobRunner
    from workers.tasks import WorkerThread, register

    loop = asyncio.get_running_loop()
    runner = JobRunner(database, maintenance, claim_ttl_s=settings.claim_ttl_s, now=utc_now, metrics=metrics)
    sweeper = Sweeper(settings, database, maintenance, bell.ring, metrics, erased)
    outside = Outside(private=settings.webhook_private)
    deliverer = Deliverer(database, outside, pepper=keys.load_pepper(settings), look_s=settings.sweep_s, retry_s=settings.webhook_retry_s)

    def run(job_id: str) -> None:
        sweeper.begun(job_id)
        _run_on(loop, runner.run(job_id))

    register(celery, run)
    consumer = WorkerThread(celery, queues)
    consumer.start()
    sweeper.start()
    deliverer.start()
    try:
        yield runner
    finally:
        await deliverer.stop()
        await sweeper.stop()
        await runner.close()
        await asyncio.to_thread(consumer.stop)  # its pool waits for what the runner has just ended


def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the service's loop and wait for it in this thread, but never for a loop that was closed."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    while not loop.is_closed():
        with contextlib.suppress(TimeoutError):
            return future.result(1.0)
    return None
