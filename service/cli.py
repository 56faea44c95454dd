"""The command `palimpsest`: run the processes of the service, examine it, manage its keys."""

import asyncio
import functools
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar, get_args

import click
import uvloop

from service.directory import DirectoryInUse
from service.errors import PalimpsestError
from service.keys import PepperRefused
from service.settings import Settings, SettingsRefused, from_environment
from service.wire import Scope

T = TypeVar("T")
REFUSALS = (DirectoryInUse, PalimpsestError, PepperRefused, SettingsRefused)


def _settings() -> Settings:
    try:
        return from_environment(os.environ)
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; what the service refuses to start with is told in one line instead of a traceback."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch and ONNX Runtime have threads of their own; these would fight over the cores
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(work)
    except Exception as refused:
        encoder = sys.modules.get("model.encoder")  # torch comes with it: not into a process that has not loaded it
        if isinstance(refused, REFUSALS) or (encoder is not None and isinstance(refused, encoder.EncoderRefused)):
            raise click.ClickException(str(refused)) from None
        raise


def _end_at_once(_number: int, _frame: object) -> None:
    """SIGTERM before anything is served: the start is given up as it is, since it survives `kill -9`, too.

    Without a handler the first process of a container would not get the signal at all.
    """
    os._exit(0)


@click.group(help=__doc__)
@click.version_option(package_name="palimpsest")
def main() -> None:
    """The commands of the service; `palimpsest.cli` has them beside those of a client."""


@main.command()
def serve() -> None:
    """Serve the API, the model and the jobs in this process."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from service.serving import serve_forever

    sys.exit(_run(serve_forever(_settings())))


@main.command()
def api() -> None:
    """Serve the API of a cluster: no model in this process, workers are asked."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from service.serving import serve_api

    sys.exit(_run(serve_api(_settings())))


@main.command()
def worker() -> None:
    """Run the model for the apis of a cluster; one process for each device."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from service.processes.worker import work
    from service.serving import run_until_stopped

    sys.exit(_run(run_until_stopped("worker", work, _settings())))


@main.command()
@click.option("--queue", "queues", multiple=True, metavar="NAME", help="Only jobs of this queue; several may be given.")
def jobs(queues: tuple[str, ...]) -> None:
    """Run the jobs of a cluster: consolidations, rebuilds, erasures, and the sweeper behind them."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from service.processes.jobs import run_jobs
    from service.serving import run_until_stopped

    sys.exit(_run(run_until_stopped("jobs", functools.partial(run_jobs, queues), _settings())))


@main.command()
@click.option("--url", help="Examine the service at this address; by default one is started on a scratch directory.")
@click.option("--key", envvar="PALIMPSEST_KEY", help="Admin key for --url.")
def doctor(url: str | None, key: str | None) -> None:
    """Learn, recall, supersede, consolidate, roll back and forget on a scratch bank; exit 0 only if all of it holds."""
    from service.serving import examine_service

    sys.exit(0 if _run(examine_service(_settings(), url, key)) else 1)


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema, and mint the first admin key of a new one."""
    from service.serving import prepare

    settings = _settings()
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    click.echo(_run(prepare(settings)))


@main.command()
@click.option("--name", default="admin", show_default=True)
@click.option("--scope", "scopes", type=click.Choice(get_args(Scope)), multiple=True, default=("admin",), help="Several may be given.")
@click.option("--expires", type=click.DateTime(), default=None, help="UTC time at which the key stops working.")
def key(name: str, scopes: tuple[str, ...], expires: datetime | None) -> None:
    """Mint a key for the default tenant, directly in the database; it is shown once."""
    from service.serving import mint_key

    click.echo(_run(mint_key(_settings(), name, scopes, expires)))


@main.command("erase-tenant")
@click.argument("tenant")
@click.option("--yes", is_flag=True, help="Do not ask.")
def erase_tenant(tenant: str, yes: bool) -> None:
    """Erase a tenant, by id or name, to its last row and byte. Nothing brings it back but a backup."""
    from service.processes.erasing import erase_tenant as erase

    if not yes:
        click.confirm(f"Erase everything of the tenant {tenant!r} for good?", abort=True)
    click.echo(_run(erase(_settings(), tenant)))


if __name__ == "__main__":
    main()
