"""The process `palimpsest api`: the HTTP edge of a cluster. It runs no model and holds nothing that another one does not have."""

import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from service import keys
from service.processes.parts import check_schema, refuse_alone, utc_now
from service.settings import Settings
from service.store import banks
from service.store.db import Database
from service.telemetry import Metrics

if TYPE_CHECKING:
    from service.api.edge import Edge


@contextlib.asynccontextmanager
async def run_api(settings: Settings) -> AsyncIterator["Edge"]:
    """The ASGI application, with everything that it asks; closed in order.

    Raises:
        SettingsRefused: a setting is missing or cannot be used, or the database has another schema.
    """
    from service.api.app import Deps, build_app
    from service.bell import Bell
    from service.cluster.frames import tls_context
    from service.cluster.redis_coord import RedisCoord
    from service.cluster.remote import RemoteEngine
    from workers.celery_app import PREFIX, make_app  # the one module of workers without torch

    refuse_alone(settings, "database", "redis", "broker", "key_pepper")
    await check_schema(settings)
    metrics, coord = Metrics(), RedisCoord(settings.redis)
    database = Database(settings.database_url, stage=metrics.stage)

    async def bank_of(tenant: str, named: str) -> str:
        async with database.read(tenant) as conn:
            return (await banks.find_bank(conn, tenant, named)).id

    tls = tls_context(settings.tls_cert, settings.tls_key, settings.tls_ca, server=False) if settings.tls_cert else None
    engine = RemoteEngine(coord, bank_of=bank_of, tls=tls, told=metrics.call)
    metrics.watch_workers(lambda: engine.workers_alive)
    bell = Bell(make_app(settings.broker), PREFIX)
    deps = Deps(
        settings=settings,
        database=database,
        coord=coord,
        engine=engine,
        pepper=keys.load_pepper(settings),
        metrics=metrics,
        ring=bell.ring,
        now=utc_now,
        ready=lambda: True,
    )
    app = build_app(deps)
    try:
        yield app
    finally:
        await app.close()
        await engine.close()
        bell.close()
        await coord.close()
        await database.close()
