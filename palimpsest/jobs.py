"""Jobs that a call has started, and how one waits for them."""

import time
from collections.abc import Callable
from pathlib import Path

from palimpsest.errors import JobFailed, JobUnfinished
from palimpsest.exchange import Call, Exchange, segment
from palimpsest.replies import Forgotten, Job
from palimpsest.steps import Disk, Driven, Pause, Steps, Way, method, on_disk

FIRST_LOOK_S, LONGEST_S = 0.05, 1.0  # between looks at a job: twice as long each time


def waiting(exchange: Exchange, job_id: str, progress: Callable[[Job], object] | None, timeout_s: float | None) -> Steps[Job]:
    """The job once it has succeeded; see `Methods.wait`."""
    begin, wait_s, told = time.monotonic(), FIRST_LOOK_S, None
    while True:
        job = yield from looking(exchange, job_id)
        if progress is not None and told != (job.status, job.progress):
            told = (job.status, job.progress)
            progress(job)
        if job.status == "succeeded":
            return job
        if job.ended:
            raise JobFailed(job)
        left_s = LONGEST_S if timeout_s is None else timeout_s - (time.monotonic() - begin)
        if timeout_s is not None and left_s <= 0:
            raise JobUnfinished(job, timeout_s)
        yield Pause(min(wait_s, left_s))
        wait_s = min(2 * wait_s, LONGEST_S)


def looking(exchange: Exchange, job_id: str) -> Steps[Job]:
    """The job as it is now."""
    return exchange.perform(Call(method="GET", path=f"/v1/jobs/{segment(job_id)}", reply=Job))


class StartedJob(Driven[Way]):
    """A job that was started just now, or found open (`deduplicated`)."""

    def __init__(self, way: Way, exchange: Exchange, job_id: str, *, deduplicated: bool) -> None:
        self._way, self._exchange = way, exchange
        self.id, self.deduplicated = job_id, deduplicated

    @method
    def wait(self, *, progress: Callable[[Job], object] | None = None, timeout_s: float | None = None) -> Steps[Job]:
        """The job once it has succeeded, as `Methods.wait` gives it."""
        return waiting(self._exchange, self.id, progress, timeout_s)

    @method
    def now(self) -> Steps[Job]:
        """The job as it is now."""
        return looking(self._exchange, self.id)


class StartedExport(StartedJob[Way]):
    """An export that was started: its bundle is there once the job has succeeded, and is kept for a day."""

    @method
    def save(self, file: str | Path, *, progress: Callable[[Job], object] | None = None, timeout_s: float | None = None) -> Steps[Path]:
        """Wait for the job, and put the bundle into a file: all of it, or nothing.

        Raises:
            JobFailed, JobUnfinished: as `Methods.wait`. OSError: it cannot be written.
        """
        job = yield from waiting(self._exchange, self.id, progress, timeout_s)
        path = f"/v1/exports/{segment(str((job.result or {})['export']))}"
        bundle = yield from self._exchange.perform(Call(method="GET", path=path, reply=bytes))
        yield from on_disk(Disk(Path(file), bundle))
        return Path(file)


class Forgetting(Driven[Way]):
    """What a forget did: `mode`, `corrections`, and the job that makes the weights exact (None for `suppress`).

    Of a dry run: no `id`, the `flips` of so many `probes`, a sample of `probes_of`, and a `confirm_token`, good until `confirm_until`.
    """

    def __init__(self, way: Way, exchange: Exchange, forgotten: Forgotten) -> None:
        self._way, self._exchange = way, exchange
        self.id, self.mode, self.effective_now = forgotten.id, forgotten.mode, forgotten.effective_now
        self.corrections, self.job_id = forgotten.corrections, forgotten.job_id
        self.dry_run, self.flips = forgotten.dry_run, forgotten.flips
        self.probes, self.probes_of = forgotten.probes, forgotten.probes_of
        self.confirm_token, self.confirm_until = forgotten.confirm_token, forgotten.confirm_until

    @method
    def wait(self, *, progress: Callable[[Job], object] | None = None, timeout_s: float | None = None) -> Steps[Job | None]:
        """The job once it has succeeded, as `Methods.wait` gives it; None when there is none to wait for."""
        if self.job_id is None:
            return None
        return (yield from waiting(self._exchange, self.job_id, progress, timeout_s))
