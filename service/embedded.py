"""Composition root of the service in one process: api, engine, Celery thread and sweeper, nothing to install beside it.

The imports that load torch are inside functions, so that importing this module stays cheap.
"""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import msgspec
import structlog

from service import keys
from service.cluster.coord import MemoryCoord
from service.directory import held
from service.errors import PalimpsestError
from service.processes.parts import DEFAULT, first_bank, first_key, keep_key, load_encoder, local_engine, tell_of_unsafe_settings, utc_now
from service.processes.working_off import jobs_worked_off
from service.settings import Settings, from_environment
from service.store import banks, blob_rows, idempotency, jobs, tenants
from service.store.blobs import Blobs
from service.store.db import Database
from service.store.schema import migrate
from service.telemetry import Metrics, configure_logging

if TYPE_CHECKING:
    from model import RecallConfig
    from model.encoder import Encoder
    from workers.engine import LocalEngine
    from workers.jobs import JobRunner
    from workers.maintenance import Maintenance

__all__ = ["DEFAULT", "Embedded", "load_encoder", "open_engine", "run_embedded", "run_for_client", "utc_now"]
AT_START = 8  # banks that are loaded before the first request
log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Embedded:
    """A running embedded service."""

    settings: Settings
    database: Database
    engine: "LocalEngine"
    app: Any  # the ASGI application
    maintenance: "Maintenance"
    runner: "JobRunner"
    tenant: str
    first_key: str | None  # the admin key made at the first start; None afterwards, or when a bootstrap key was given


@contextlib.asynccontextmanager
async def open_engine(
    settings: Settings, *, encoder: "Encoder | None" = None, config: "RecallConfig | None" = None
) -> AsyncIterator[tuple["LocalEngine", str]]:
    """The engine over the settings' database, without api and jobs, and the default tenant: for benchmarks in this process."""
    async with _engine(settings, encoder, config, Metrics(), ring=lambda job_id, kind: None) as (database, engine):
        tenant, _ = await first_key(database, settings)
        await first_bank(database, engine, tenant)
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
    from service.bell import Bell, queues
    from workers.celery_app import make_app
    from workers.maintenance import Maintenance

    metrics = Metrics()
    prefix = f"palimpsest-{uuid4().hex[:8]}"  # the memory broker is shared by the whole process
    celery = make_app("memory://localhost/")
    bell = Bell(celery, prefix)
    async with _engine(settings, encoder, config, metrics, ring=bell.ring) as (database, engine):
        tenant, minted = await first_key(database, settings)
        await first_bank(database, engine, tenant)
        maintenance = Maintenance(
            database,
            engine.replay.blobs,
            engine.recall_model,
            engine.words,
            engine.language,
            thread=engine.heavy,
            stage=metrics.stage,
            changed=engine.changed,
            refused=metrics.snapshot_refused,
            now=utc_now,
        )
        pepper = keys.load_pepper(settings)
        deps = Deps(
            settings=settings,
            database=database,
            engine=engine,
            pepper=pepper,
            coord=MemoryCoord(time.monotonic),
            metrics=metrics,
            ring=bell.ring,
            now=utc_now,
            ready=lambda: True,
        )
        app = build_app(deps)
        try:
            how = {"celery": celery, "bell": bell, "queues": queues(prefix), "erased": engine.forget_tenant}
            async with jobs_worked_off(settings, database, maintenance, metrics, **how) as runner:
                await _warm(database, engine, tenant)
                try:
                    yield Embedded(settings, database, engine, app, maintenance, runner, tenant, minted)
                finally:
                    await app.close()
        finally:
            bell.close()


@contextlib.asynccontextmanager
async def run_for_client(directory: Path) -> AsyncIterator[tuple[Any, str]]:
    """A service for a program that has it in itself: the application, and the key of that program, an admin's, which the directory keeps.

    Settings come from the environment, but for those that would keep anything elsewhere.

    Raises:
        DirectoryInUse, EncoderRefused, SettingsRefused: nothing was started.
    """
    if not structlog.is_configured():  # a program that uses structlog has its own way with log lines
        configure_logging("warning", libraries_too=False)
    key = keys.kept_key(directory / "client-key")
    given = from_environment(os.environ)
    settings = msgspec.structs.replace(
        given, var_dir=directory, database="", blobs="", redis="", broker="", key_pepper="", bootstrap_key=key
    )
    async with run_embedded(settings) as service:
        async with service.database.read(service.tenant) as conn:
            known = await tenants.find_key(conn, keys.lookup_hash(keys.load_pepper(settings), key))
        if known is None:  # the directory was served before
            await keep_key(
                service.database, settings, service.tenant, key, name="program with its own service", scopes=("admin",), expires_at=None
            )
        yield service.app, key


@contextlib.asynccontextmanager
async def _engine(
    settings: Settings,
    encoder: "Encoder | None",
    config: "RecallConfig | None",
    metrics: Metrics,
    *,
    ring: Callable[[str, str], None],
) -> AsyncIterator[tuple[Database, "LocalEngine"]]:
    with held(settings.var_dir):
        await asyncio.to_thread(migrate, settings.database_url)
        await tell_of_unsafe_settings(settings)
        database = Database(settings.database_url, stage=metrics.stage)
        try:
            async with local_engine(settings, database, metrics, ring=ring, encoder=encoder, config=config) as engine:
                await _take_over(database, engine.replay.blobs)
                yield database, engine
        finally:
            await database.close()


async def _take_over(database: Database, blobs: Blobs) -> None:
    """End what a process that died in this directory was doing: its leases, claims, deletions and half-written files need not age first."""
    if database.dialect != "sqlite":
        return  # a server's database may be in use by others, who are alive
    async with database.sweep() as conn:
        await idempotency.release_leases(conn)
        await jobs.release_claims(conn, utc_now())
        await blob_rows.release_deletions(conn)
    await blobs.drop_half_written(0.0)


async def _warm(database: Database, engine: "LocalEngine", tenant: str) -> None:
    """Load some banks and ask one, so that the first recall is served warm."""
    async with database.read(tenant) as conn:
        rows = await banks.list_banks(conn, tenant, None, AT_START, None)
    for row in rows:
        try:
            await engine.recall(tenant, row.id, ["ready?"], top_k=1, min_confidence=None, at=None, explain=False, min_seq=None)
        except PalimpsestError as error:  # one damaged bank must not keep the others from being served
            log.error("bank not ready", action="warm", bank=row.id, why=error.detail)
