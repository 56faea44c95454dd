"""Whom the load is for: a service started as a user does, one that runs already, or a whole cluster on this machine."""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.load.processes import listening_on, started_here
from bench.running import running_service


@dataclass(frozen=True, slots=True)
class Target:
    """A service; its `urls` are used in turn."""

    name: str
    urls: tuple[str, ...]
    key: str
    metrics: tuple[str, ...]  # the processes that count warm banks
    database: str = ""  # of PostgreSQL, if it is known
    ours: bool = True  # goes away afterwards, with all that it was taught

    def processes(self) -> dict[str, int]:
        """The ids of its processes on this machine, by name."""
        return started_here() if self.ours else listening_on(self.urls)


@contextlib.asynccontextmanager
async def started(settings: Mapping[str, str]) -> AsyncIterator[Target]:
    """A service of its own, with settings beside those of the environment.

    Raises:
        NotServing: it did not start.
    """
    async with running_service({**os.environ, **_named(settings)}) as running:
        yield Target("palimpsest serve", (running.url,), running.key, (running.url,))


@contextlib.asynccontextmanager
async def running(urls: tuple[str, ...], key: str, database: str) -> AsyncIterator[Target]:
    """A service that runs already."""
    yield Target(", ".join(urls), urls, key, urls, database, ours=False)


@contextlib.asynccontextmanager
async def clustered(apis: int, workers: int, settings: Mapping[str, str]) -> AsyncIterator[Target]:
    """A cluster of its own on this machine.

    Raises:
        NotStarted: a server or a process did not come up.
    """
    from bench.cluster.running import Shape, cluster

    with tempfile.TemporaryDirectory(prefix="palimpsest-load-") as home:
        async with cluster(Path(home), Shape(apis, workers, settings=settings)) as made:
            metrics = tuple(process.health for process in made.of("worker"))
            name = f"cluster of {apis} apis and {workers} workers"
            yield Target(name, tuple(made.urls.values()), made.key, metrics, made.postgres.url("palimpsest"))


def _named(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"PALIMPSEST_{name}": value for name, value in settings.items()}
