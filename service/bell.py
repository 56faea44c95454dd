"""The bell: the only producer of Celery messages. A message says "look at this job"; the row decides, and the sweeper stands behind."""

from concurrent.futures import ThreadPoolExecutor

import structlog
from celery import Celery

RUN_JOB = "palimpsest.run_job"  # the task's name; workers/tasks.py registers it
log = structlog.get_logger()


class Bell:
    """Rings without making the caller wait: sending may block on a broker, so a thread of its own does it."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bell")

    def ring(self, job_id: str) -> None:
        """Send the message soon; a broker that cannot be reached is logged and costs one sweep."""
        self._thread.submit(self._send, job_id)

    def close(self) -> None:
        """Send what is queued, then stop."""
        self._thread.shutdown(wait=True)

    def _send(self, job_id: str) -> None:
        try:
            self._app.send_task(RUN_JOB, [job_id])
        except Exception as error:  # the sweeper finds the row; nothing is lost
            log.warning("bell not heard", action="ring", job=job_id, why=type(error).__name__)
