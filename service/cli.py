"""The command `palimpsest`: serve the service, examine it, manage its keys."""

import asyncio
import os
import signal
import sys
from collections.abc import Coroutine
from datetime import datetime
from typing import Any, TypeVar, get_args

import click

from service.directory import DirectoryInUse
from service.errors import PalimpsestError
from service.keys import PepperRefused
from service.settings import Settings, SettingsRefused, from_environment
from service.wire import Scope

T = TypeVar("T")


def _settings() -> Settings:
    try:
        return from_environment(os.environ)
    except SettingsRefused as refused:
        raise click.ClickException(str(refused)) from None


def _run(work: Coroutine[Any, Any, T]) -> T:
    """Run to the end; what the service refuses to start with is told in one line instead of a traceback."""
    from model.encoder import EncoderRefused

    try:
        return asyncio.run(work)
    except (DirectoryInUse, EncoderRefused, PalimpsestError, PepperRefused, SettingsRefused) as refused:
        raise click.ClickException(str(refused)) from None


def _end_at_once(_number: int, _frame: object) -> None:
    """SIGTERM before anything is served: the start is given up as it is, since it survives `kill -9`, too.

    Without a handler the first process of a container would not get the signal at all.
    """
    os._exit(0)


@click.group(help=__doc__)
@click.version_option(package_name="palimpsest")
def main() -> None:
    """Entry point."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # torch and ONNX Runtime have threads of their own; these would fight over the cores


@main.command()
def serve() -> None:
    """Serve the API, the model and the jobs in this process."""
    signal.signal(signal.SIGTERM, _end_at_once)
    from service.serving import serve_forever

    sys.exit(_run(serve_forever(_settings())))


@main.command()
@click.option("--url", help="Examine the service at this address; by default one is started on a scratch directory.")
@click.option("--key", envvar="PALIMPSEST_KEY", help="Admin key for --url.")
def doctor(url: str | None, key: str | None) -> None:
    """Learn, recall, supersede, consolidate, roll back and forget on a scratch bank; exit 0 only if all of it holds."""
    from service.serving import examine_service

    sys.exit(0 if _run(examine_service(_settings(), url, key)) else 1)


@main.command()
def migrate() -> None:
    """Bring the database to this version's schema."""
    from service.store.db import migrate as run

    settings = _settings()
    settings.var_dir.mkdir(parents=True, exist_ok=True)
    _run(asyncio.to_thread(run, settings.database_url))
    click.echo(f"{settings.database_url} is up to date")


@main.command()
@click.option("--name", default="admin", show_default=True)
@click.option("--scope", "scopes", type=click.Choice(get_args(Scope)), multiple=True, default=("admin",), help="Several may be given.")
@click.option("--expires", type=click.DateTime(), default=None, help="UTC time at which the key stops working.")
def key(name: str, scopes: tuple[str, ...], expires: datetime | None) -> None:
    """Mint a key for the default tenant, directly in the database; it is shown once."""
    from service.serving import mint_key

    click.echo(_run(mint_key(_settings(), name, scopes, expires)))


if __name__ == "__main__":
    main()
