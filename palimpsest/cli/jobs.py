"""`palimpsest jobs list`, `show`, `wait` and `cancel`: the jobs of a service, asked from outside."""

import click
from tqdm import tqdm

from palimpsest.cli.reaching import Shown, asks
from palimpsest.client import Client
from palimpsest.replies import Job


@click.group("jobs")
def jobs_command() -> None:
    """With a further word: list, show, wait for and cancel the jobs of a running service."""


@jobs_command.command("list")
@click.option("--limit", type=click.IntRange(1), help="Show so many at most.")
@asks
def list_jobs(memory: Client, show: Shown, limit: int | None) -> None:
    """List jobs, in the order they were queued."""
    show.many(memory.jobs(), _line, limit)


@jobs_command.command("show")
@click.argument("job")
@asks
def show_job(memory: Client, show: Shown, job: str) -> None:
    """Show one job."""
    found = memory.get_job(job)
    show.one(found, _line(found))


@jobs_command.command("wait")
@click.argument("job")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to wait at most.")
@asks
def wait_for_job(memory: Client, show: Shown, job: str, timeout_s: float | None) -> None:
    """Wait until a job has succeeded."""
    ended = watched(memory, job, timeout_s)
    show.one(ended, _line(ended))


@jobs_command.command("cancel")
@click.argument("job")
@asks
def cancel_job(memory: Client, show: Shown, job: str) -> None:
    """Cancel a consolidation that is still queued."""
    ended = memory.cancel_job(job)
    show.one(ended, _line(ended))


def watched(memory: Client, job_id: str, timeout_s: float | None = None) -> Job:
    """The job once it has succeeded, with a progress bar meanwhile."""
    with tqdm(total=100, desc=job_id, unit="%", disable=None, leave=False, bar_format="{desc} {bar} {n:.0f} %") as bar:
        return memory.wait(job_id, progress=lambda job: bar.update(100 * job.progress - bar.n), timeout_s=timeout_s)


def _line(job: Job) -> str:
    why = f"  {job.error.get('code')}: {job.error.get('detail')}" if job.error else ""
    return f"{job.id}  {job.created_at:%Y-%m-%d %H:%M:%S}  {job.kind:<13}  {job.status:<9}  {job.progress:>4.0%}{why}"
