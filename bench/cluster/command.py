"""`python -m bench cluster`: a whole cluster on this machine, to be tried out; it goes away when the command ends."""

import asyncio
import contextlib
import signal
import tempfile
from pathlib import Path

import click

from bench.cluster.running import Shape, cluster
from bench.cluster.servers import NotStarted


@click.command("cluster")
@click.option("--apis", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 16))
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 16))
def command(apis: int, workers: int, jobs: int) -> None:
    """PostgreSQL, two Redis, an S3 store, apis, workers and jobs, every one the command that production runs; until Ctrl-C."""
    try:
        asyncio.run(_run(Shape(apis, workers, jobs)))
    except NotStarted as error:
        raise click.ClickException(str(error)) from None


async def _run(shape: Shape) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as home, contextlib.suppress(asyncio.CancelledError):
        click.echo("starting PostgreSQL, Redis, S3, and the service's processes …")
        async with cluster(Path(home), shape) as running:
            for name, url in running.urls.items():
                click.echo(f"{name}  {url}  (API page at /docs)")
            click.echo(f"admin key  {running.key}\nlogs in {home}; Ctrl-C stops everything")
            await stop.wait()
