"""A whole cluster on this machine: real servers, and the service's own commands as processes that can be killed and started again.

A breakable one can be cut apart: every process reaches every server, and the apis each worker, through a relay of its own.
"""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe

import httpx

from bench.cluster.relay import Relay
from bench.cluster.servers import BUCKET, LOG_FILE, SMALL_LOG_FILE, NotStarted, Postgres, Redis, Server, Store, free_port
from bench.ending import end_with_parent
from service.processes.encoders import for_new_banks
from service.settings import SettingsRefused, from_environment

START_S = 240.0  # a cold disk and a busy machine
STOP_S = 60.0
SERVERS = ("postgres", "redis", "broker", "s3")
ENCODER = ("encoder", "encoder_sha256", "encoder_start", "encoder_start_sha256")  # settings that processes have from the environment


class Process:
    """One command of the service, started and stopped by turns on the same ports."""

    def __init__(self, name: str, words: tuple[str, ...], environ: Mapping[str, str], health: str, log: Path) -> None:
        self.name, self.health, self.log = name, health, log
        self._words, self._environ = words, environ
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it and do not wait for anything."""
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.cli", *self._words),
                stdout=log,
                stderr=log,
                env=dict(self._environ),
                preexec_fn=end_with_parent,
            )

    async def ready(self) -> None:
        """Wait until it says that it is ready.

        Raises:
            NotStarted: it ended, or was not in time; the message has what it said.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S), httpx.AsyncClient() as client:
                while self.alive:
                    if await self.is_ready(client):
                        return
                    await asyncio.sleep(0.05)
        raise NotStarted(f"{self.name} is not ready: {self.log.read_text(errors='replace')[-3_000:]}")

    async def is_ready(self, client: httpx.AsyncClient) -> bool:
        """Whether it says that it is ready."""
        try:
            return (await client.get(f"{self.health}/health/ready", timeout=5)).is_success
        except httpx.TransportError:
            return False

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.returncode is None

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    async def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            await self._process.wait()

    async def stop_when_done(self) -> int | None:
        """Wait for a command that ends by itself; its exit code."""
        return None if self._process is None else await self._process.wait()

    async def stop(self) -> int | None:
        """Let it end in order; its exit code."""
        self.signal(signal.SIGTERM)
        if self._process is None:
            return None
        try:
            async with asyncio.timeout(STOP_S):
                return await self._process.wait()
        except TimeoutError:
            await self.kill()
            return None


@dataclass(frozen=True, slots=True)
class Shape:
    """How many of each process, and what they are told besides."""

    apis: int = 2
    workers: int = 2
    jobs: int = 1
    breakable: bool = False
    settings: Mapping[str, str] = field(default_factory=dict)  # names without PALIMPSEST_


@dataclass(slots=True)
class Cluster:
    """Running servers and processes."""

    key: str
    postgres: Postgres
    redis: Redis
    broker: Redis
    store: Store
    processes: dict[str, Process]
    urls: dict[str, str]  # of the apis, by name
    relays: dict[tuple[str, str], Relay]  # (process, server) and ("api", worker)

    def of(self, command: str) -> list[Process]:
        """The processes of a command: api, worker or jobs."""
        return [process for name, process in self.processes.items() if name.startswith(command)]

    async def one_ready(self, command: str, client: httpx.AsyncClient) -> Process:
        """One of a command's processes that says that it is ready, as soon as there is one.

        Raises:
            NotStarted: none was in time; the message has what they said.
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                while True:
                    for process in self.of(command):
                        if process.alive and await process.is_ready(client):
                            return process
                    await asyncio.sleep(0.05)
        said = [f"{process.name}: {process.log.read_text(errors='replace')[-1_000:]}" for process in self.of(command)]
        raise NotStarted(f"no {command} is ready: {' '.join(said)}")

    def server(self, name: str) -> Server:
        """One of `SERVERS`."""
        return dict(zip(SERVERS, (self.postgres, self.redis, self.broker, self.store), strict=True))[name]


@contextlib.asynccontextmanager
async def cluster(home: Path, shape: Shape, environ: Mapping[str, str] = os.environ) -> AsyncIterator[Cluster]:
    """Start all of it below `home`, give it when every process is ready, stop it. Of the settings in `environ` it has those of the encoder.

    Raises:
        NotStarted: a server or a process did not come up, or the settings of the encoder cannot be used.
    """
    encoder = _encoder(environ)
    postgres = Postgres(home / "postgres", SMALL_LOG_FILE if shape.breakable else LOG_FILE)
    redis = Redis(home / "redis", durable=False)
    broker, store = Redis(home / "broker", durable=True), Store(home / "s3")
    made = Cluster(token_urlsafe(32), postgres, redis, broker, store, {}, {}, {})
    try:
        await asyncio.gather(*(server.start() for server in (postgres, redis, broker, store)))
        await postgres.create("palimpsest")
        await _arrange(made, home, shape, environ, encoder)
        await asyncio.gather(*(process.start() for process in made.processes.values()))
        await asyncio.gather(*(process.ready() for process in made.processes.values()))
        yield made
    finally:
        await asyncio.gather(*(process.stop() for process in made.processes.values()))
        for relay in made.relays.values():
            await relay.close()
        for server in (store, broker, redis, postgres):
            server.kill()


async def _arrange(made: Cluster, home: Path, shape: Shape, environ: Mapping[str, str], encoder: Mapping[str, str]) -> None:
    """The database's schema, and every process with its environment, of which `encoder` is a part; none is started."""
    pepper, cleaned = token_urlsafe(32), {name: value for name, value in environ.items() if not name.startswith("PALIMPSEST_")}
    cleaned.pop("PYTHONDONTWRITEBYTECODE", None)
    first = cleaned | {
        "PALIMPSEST_DATABASE": made.postgres.url("palimpsest"),
        "PALIMPSEST_BOOTSTRAP_KEY": made.key,
        "PALIMPSEST_KEY_PEPPER": pepper,
        "PALIMPSEST_VAR_DIR": str(home / "migrate"),
    }
    migrating = Process("migrate", ("migrate",), first, "", home / "migrate.log")
    await migrating.start()
    if await migrating.stop_when_done():
        raise NotStarted(f"palimpsest migrate: {(home / 'migrate.log').read_text()}")
    numbers = {"api": shape.apis, "worker": shape.workers, "jobs": shape.jobs}
    for command, number in numbers.items():
        for place in range(1, number + 1):
            await _add(made, home, shape, cleaned | {"PALIMPSEST_KEY_PEPPER": pepper, **encoder}, command, f"{command}-{place}")


def _encoder(environ: Mapping[str, str]) -> dict[str, str]:
    """The encoder of all processes. A start that is left to the banks is settled here: a bench writes banks around the service, too."""
    names = {f"PALIMPSEST_{name.upper()}": name for name in ENCODER}
    try:
        settings = for_new_banks(from_environment({name: environ[name] for name in names if name in environ}))
    except SettingsRefused as refused:
        raise NotStarted(str(refused)) from None
    return {name: str(getattr(settings, field)) for name, field in names.items()}


async def _add(made: Cluster, home: Path, shape: Shape, environ: Mapping[str, str], command: str, name: str) -> None:
    ports = {server: await _through(made, shape, name, server, made.server(server).port) for server in SERVERS}
    shown = free_port()
    own = {
        "VAR_DIR": str(home / name),
        "DATABASE": made.postgres.url("palimpsest", ports["postgres"]),
        "REDIS": made.redis.url(ports["redis"]),
        "BROKER": made.broker.url(ports["broker"]),
        "BLOBS": f"s3://{BUCKET}/objects",
        "LOG_LEVEL": "warning",
        "HOST": "127.0.0.1",
        **shape.settings,
    }
    if command == "api":
        own["PORT"], made.urls[name] = str(shown), f"http://127.0.0.1:{shown}"
    else:
        own["METRICS_PORT"] = str(shown)
    if command == "worker":
        port = free_port()
        own["LISTEN"] = f"tcp://127.0.0.1:{port}"
        own["ADVERTISE"] = f"tcp://127.0.0.1:{await _through(made, shape, 'api', name, port)}"
    variables = {**environ, **made.store.environ(ports["s3"]), **{f"PALIMPSEST_{key}": value for key, value in own.items()}}
    made.processes[name] = Process(name, (command,), variables, f"http://127.0.0.1:{shown}", home / f"{name}.log")


async def _through(made: Cluster, shape: Shape, process: str, server: str, port: int) -> int:
    """The port by which the process reaches what listens on `port`."""
    if not shape.breakable:
        return port
    made.relays[process, server] = relay = Relay(port)
    await relay.start()
    return relay.port
