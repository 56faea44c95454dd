"""Composition root of the embedded service: api, engine, Celery thread and sweeper in one process, nothing to install beside it.

The only module besides `service.cli` that knows model, workers and service at once; the imports that load torch are inside functions, so
that importing this module stays cheap.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import structlog

from service import keys
from service.cluster.engine import Actor, Engine
from service.directory import held
from service.errors import PalimpsestError
from service.ids import new_id
from service.settings import Settings
from service.store import audit, banks, idempotency, jobs, tenants
from service.store.blobs import open_blobs
from service.store.db import Database, migrate
from service.telemetry import Metrics, places

if TYPE_CHECKING:
    from model import RecallConfig
    from model.encoder import Encoder
    from service.bell import Bell
    from workers.engine import LocalEngine
    from workers.jobs import JobRunner

DEFAULT = "default"  # the first tenant and its first bank
KEPT_REPLIES = timedelta(hours=24)  # how long an Idempotency-Key is remembered
AGAIN_S = 60.0  # a message that no runner has taken by then is lost
TIDY_S = 3_600.0  # between looks for blobs that nothing needs
SYSTEM = Actor(key_id="system", request_id="start")
log = structlog.get_logger()


def utc_now() -> datetime:
    """The service's clock."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running embedded service."""

    settings: Settings
    database: Database
    engine: "LocalEngine"
    app: Any  # the ASGI application
    runner: "JobRunner"
    tenant: str
    first_key: str | None  # the admin key made at the first start; None afterwards, or when a bootstrap key was given


def load_encoder(settings: Settings) -> "Encoder":
    """The sentence encoder that the settings name. Reads and checks 90 MB: not on the event loop."""
    from model.encoder import PINNED, Encoder, find_weights

    directory = find_weights(settings.encoder or None)
    return Encoder.load(directory, expected_sha256=settings.encoder_sha256 or PINNED, threads=settings.encoder_threads)


@contextlib.asynccontextmanager
async def open_engine(settings: Settings, *, encoder: "Encoder | None" = None) -> AsyncIterator[tuple["LocalEngine", str]]:
    """The engine over the settings' database, without api and jobs, and the default tenant: for benchmarks in this process."""
    async with _engine(settings, encoder, None, Metrics(), ring=lambda job_id: None) as (database, engine):
        tenant, _ = await _first_start(database, engine, settings)
        yield engine, tenant


@contextlib.asynccontextmanager
async def run_embedded(
    settings: Settings, *, encoder: "Encoder | None" = None, config: "RecallConfig | None" = None
) -> AsyncIterator[Embedded]:
    """Everything of the service but the HTTP socket: start it, give it, stop it in order.

    An encoder that is loaded already and another size of memory may be given.

    Raises:
        EncoderRefused, SettingsRefused: what the settings name cannot be used; nothing was started.
    """
    from service.api.app import Deps, build_app
    from service.bell import Bell
    from workers.celery_app import make_app
    from workers.jobs import JobRunner
    from workers.tasks import WorkerThread, register

    loop = asyncio.get_running_loop()
    metrics = Metrics()
    celery = make_app("memory://localhost/", queue=f"palimpsest-{uuid4().hex[:8]}")  # the memory broker is shared by the whole process
    bell = Bell(celery)
    async with _engine(settings, encoder, config, metrics, ring=bell.ring) as (database, engine):
        tenant, first_key = await _first_start(database, engine, settings)
        metrics.watch_warm_banks(lambda: len(engine.warm))
        runner = JobRunner(database, engine, claim_ttl_s=settings.claim_ttl_s, now=utc_now, ended=metrics.job)
        rung: dict[str, float] = {}  # when the sweeper rang for a job that no runner has looked at yet

        def run(job_id: str) -> None:
            rung.pop(job_id, None)
            _run_on(loop, runner.run(job_id))

        register(celery, run)
        worker = WorkerThread(celery)
        worker.start()
        stopping = asyncio.Event()
        sweepers = [loop.create_task(_sweep(settings, database, runner, bell, rung, stopping)), loop.create_task(_tidy(engine, stopping))]
        pepper = keys.load_pepper(settings)
        deps = Deps(
            settings=settings,
            database=database,
            engine=engine,
            pepper=pepper,
            metrics=metrics,
            ring=bell.ring,
            now=utc_now,
            ready=lambda: True,
        )
        app = build_app(deps)
        try:
            await _warm(database, engine, tenant, settings)
            yield Embedded(settings, database, engine, app, runner, tenant, first_key)
        finally:
            await app.close()
            stopping.set()
            await asyncio.gather(*sweepers, return_exceptions=True)
            await runner.close()
            await asyncio.to_thread(worker.stop)  # its pool waits for what the runner has just ended
            bell.close()


@contextlib.asynccontextmanager
async def _engine(
    settings: Settings,
    encoder: "Encoder | None",
    config: "RecallConfig | None",
    metrics: Metrics,
    *,
    ring: Callable[[str], None],
) -> AsyncIterator[tuple[Database, "LocalEngine"]]:
    import torch

    from model import Recall, RecallConfig
    from workers.encoding import Encoding
    from workers.engine import LocalEngine, Policy

    with held(settings.var_dir):
        await asyncio.to_thread(migrate, settings.database_url)
        if encoder is None:
            encoder = await asyncio.to_thread(load_encoder, settings)
        database = Database(settings.database_url)
        recall = await asyncio.to_thread(Recall, config or RecallConfig(encoder_digest=encoder.digest))
        engine = LocalEngine(
            database,
            open_blobs(settings.blobs_url),
            recall,
            Encoding(encoder, metrics.observe_stage),
            policy=Policy(settings.warm_banks, settings.snapshot_every, settings.auto_snapshots),
            observe=metrics.observe_stage,
            ring=ring,
            now=utc_now,
            start_thread=lambda: torch.set_num_threads(settings.model_threads),
        )
        try:
            await _take_over(database)
            yield database, engine
        finally:
            await engine.close()
            await database.close()


async def _take_over(database: Database) -> None:
    """End what a process that died in this directory was doing: its leases and claims need not run out first."""
    if database.dialect != "sqlite":
        return  # a server's database may be in use by others, who are alive
    async with database.write() as conn:
        await idempotency.release_leases(conn)
        await jobs.release_claims(conn, utc_now())


async def _first_start(database: Database, engine: Engine, settings: Settings) -> tuple[str, str | None]:
    """The default tenant, bank and admin key of an empty database; each step is taken only if it is missing."""
    async with database.read() as conn:
        tenant = await tenants.find_tenant(conn, DEFAULT)
        has_key = await tenants.any_key(conn)
    if tenant is None:
        async with database.write() as conn:
            tenant = await tenants.create_tenant(conn, DEFAULT, utc_now())
    async with database.read() as conn:
        had_bank = await audit.happened(conn, tenant, "bank.create")
    if not had_bank:  # one that was deleted since does not come back
        await engine.create_bank(tenant, DEFAULT, actor=SYSTEM)
    if has_key:
        return tenant, None
    pepper = keys.load_pepper(settings)
    minted = settings.bootstrap_key or keys.mint().key
    async with database.write() as conn:
        await tenants.add_key(
            conn,
            tenant,
            id=new_id("key"),
            name="first admin key",
            prefix=keys.visible_prefix(minted),
            lookup_hash=keys.lookup_hash(pepper, minted),
            scopes=("admin",),
            banks=None,
            expires_at=None,
            now=utc_now(),
        )
    return tenant, None if settings.bootstrap_key else minted


def _run_on(loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine on the service's loop and wait for it in this thread, but never for a loop that was closed."""
    future = asyncio.run_coroutine_threadsafe(work, loop)
    while not loop.is_closed():
        with contextlib.suppress(TimeoutError):
            return future.result(1.0)
    return None


async def _warm(database: Database, engine: "LocalEngine", tenant: str, settings: Settings) -> None:
    """Load some banks and ask one, so that the first recall is served warm."""
    async with database.read() as conn:
        rows = await banks.list_banks(conn, tenant, None, min(8, settings.warm_banks), None)
    for row in rows:
        try:
            await engine.recall(tenant, row.id, ["ready?"], top_k=1, min_confidence=None, at=None, explain=False, min_seq=None)
        except PalimpsestError as error:  # one damaged bank must not keep the others from being served
            log.error("bank not ready", action="warm", bank=row.id, why=error.detail)


async def _sweep(
    settings: Settings, database: Database, runner: "JobRunner", bell: "Bell", rung: dict[str, float], stopping: asyncio.Event
) -> None:
    """Ring for every job that nobody works on, and drop replies that are older than a day."""
    while not stopping.is_set():
        try:
            for job_id in await runner.ready():
                if time.monotonic() - rung.get(job_id, -AGAIN_S) >= AGAIN_S:
                    rung[job_id] = time.monotonic()
                    bell.ring(job_id)
            async with database.write() as conn:
                await idempotency.purge(conn, utc_now() - KEPT_REPLIES)
        except Exception as error:  # a full disk or a busy database: look again later; a sweeper that died would be missed by nobody
            log.warning("sweep failed", action="sweep", error=type(error).__qualname__, places=places(error))
        await _pause(stopping, settings.sweep_s)


async def _tidy(engine: "LocalEngine", stopping: asyncio.Event) -> None:
    """Delete left-over blobs: at the start, when whoever left them has just died, and every hour."""
    while not stopping.is_set():
        try:
            await engine.tidy()
        except Exception as error:  # as above
            log.warning("tidying failed", action="tidy", error=type(error).__qualname__, places=places(error))
        await _pause(stopping, TIDY_S)


async def _pause(stopping: asyncio.Event, seconds: float) -> None:
    """Wait so long, or until the service stops: a sweep is never cut off inside a transaction."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(stopping.wait(), seconds)
