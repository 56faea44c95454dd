"""The bell: the only producer of Celery messages. A message says "look at this job"; the row decides, and the sweeper stands behind.

Each sort of work has a queue, so that processes can be set aside for one: a long consolidation does not hold up a promised erasure.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import structlog
from celery import Celery

QUEUES = {"consolidation": "consolidation", "rebuild": "rebuild", "erase": "rebuild"}  # by kind of job
OTHER = "housekeeping"  # of every other kind
QUEUE_NAMES = tuple(sorted({*QUEUES.values(), OTHER}))
RUN_JOB = "palimpsest.run_job"  # the task's name; workers/tasks.py registers it
log = structlog.get_logger()


class Bell:
    """Rings without making the caller wait: sending may block on a broker, so a thread of its own does it."""

    def __init__(self, app: Celery, prefix: str) -> None:
        self._app, self._prefix = app, prefix
        self._heard, self._closing = True, False
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bell")

    def ring(self, job_id: str, kind: str) -> None:
        """Send the message soon; a broker that cannot be reached is logged and costs one sweep."""
        self._thread.submit(self._send, job_id, queue_of(self._prefix, kind))

    def close(self) -> None:
        """Send what is queued, then stop; of a broker that did not hear the last one no other is sent: the sweeper rings again."""
        self._closing = True
        self._thread.shutdown(wait=True)

    def _send(self, job_id: str, queue: str) -> None:
        if self._closing and not self._heard:
            return
        try:
            self._app.send_task(RUN_JOB, [job_id], queue=queue)
            self._heard = True
        except Exception as error:  # the sweeper finds the row; nothing is lost
            self._heard = False
            log.warning("bell not heard", action="ring", job=job_id, why=type(error).__name__)


def queue_of(prefix: str, kind: str) -> str:
    """The queue for jobs of this kind."""
    return f"{prefix}.{QUEUES.get(kind, OTHER)}"


def queues(prefix: str, names: Sequence[str] = QUEUE_NAMES) -> list[str]:
    """The queues of these names."""
    return [f"{prefix}.{name}" for name in names]
