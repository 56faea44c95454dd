"""The tasks: thin, and the same wherever they run. A task gets a job's id and hands it to a runner."""

import threading
from collections.abc import Callable
from uuid import uuid4

from celery import Celery
from celery.worker import WorkController

RUN_JOB = "palimpsest.run_job"
PARALLEL = 2  # jobs of one embedded process at a time: a long fold does not hold up a short one


def register(app: Celery, run: Callable[[str], None]) -> None:
    """Define the tasks of `app`; `run` works on one job until it has ended."""

    @app.task(name=RUN_JOB, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        run(job_id)


class WorkerThread:
    """A Celery worker in a thread of this process. It installs no signal handlers; `stop` ends it in a few seconds."""

    def __init__(self, app: Celery) -> None:
        self._controller = WorkController(
            app=app,
            hostname=f"embedded-{uuid4().hex[:8]}",
            pool_cls="threads",
            concurrency=PARALLEL,
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        self._thread = threading.Thread(target=self._controller.start, name="celery", daemon=True)

    def start(self) -> None:
        """Begin to consume."""
        self._thread.start()

    def stop(self, within_s: float = 5.0) -> None:
        """Stop consuming; jobs that are still running are taken up again by the sweeper of the next start."""
        self._controller.stop(in_sighandler=False)
        self._thread.join(within_s)
