"""The tasks: thin, and the same wherever they run. A task gets a job's id and hands it to a runner."""

import functools
import threading
from collections.abc import Callable, Sequence
from typing import Any
from uuid import uuid4

from celery import Celery
from celery.concurrency.thread import TaskPool
from celery.worker import WorkController

from service.bell import RUN_JOB

PARALLEL = 2  # jobs of one embedded process at a time: a long fold does not hold up a short one


def register(app: Celery, run: Callable[[str], None]) -> None:
    """Define the tasks of `app`; `run` works on one job until it has ended."""

    @app.task(name=RUN_JOB, shared=False)  # type: ignore[untyped-decorator]
    def run_job(job_id: str) -> None:
        run(job_id)


class Threads(TaskPool):  # the library has no types
    """Celery's thread pool, told which application its tasks belong to.

    By itself the pool looks a task up in the process's default application. There may be several here, and none of them is the default.
    """

    def on_apply(self, target: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        """Hand the call to a thread."""
        return super().on_apply(functools.partial(target, app=self.app), *args, **kwargs)


class WorkerThread:
    """A Celery worker in a thread of this process. It installs no signal handlers."""

    def __init__(self, app: Celery, queues: Sequence[str], *, parallel: int = PARALLEL) -> None:
        self._controller = WorkController(
            app=app,
            hostname=f"palimpsest-{uuid4().hex[:8]}",
            pool_cls=Threads,
            concurrency=parallel,
            queues=list(queues),
            loglevel="WARNING",
            without_gossip=True,
            without_mingle=True,
            without_heartbeat=True,
        )
        self._thread = threading.Thread(target=self._controller.start, name="celery", daemon=True)

    def start(self) -> None:
        """Begin to consume."""
        self._thread.start()

    def stop(self) -> None:
        """Take no more messages. The thread leaves its wait for them within two seconds; nothing here needs to wait for that."""
        self._controller.stop(in_sighandler=False)
