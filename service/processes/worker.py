"""The process `palimpsest worker`: runs the model for the apis of a cluster, one process for each device.

It says that it is alive (`beat`), takes calls over a socket, follows what jobs did to its warm banks, and on SIGTERM hands over: it takes
no more calls, ends those it has, saves what its next owners would have to fold, and leaves. Killed instead, it costs them that fold.
"""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from service.cluster.coord import Coord, CoordDown, Notice, WorkerInfo
from service.cluster.frames import FrameServer, tls_context
from service.cluster.redis_coord import RedisCoord
from service.cluster.rpc import serve_engine
from service.errors import PalimpsestError
from service.ids import new_id
from service.processes.parts import check_schema, first_bank, local_engine, refuse_alone, settle, utc_now
from service.processes.vitals import shown, vitals
from service.settings import Settings
from service.store import erasure, tenants
from service.store.db import Database
from service.telemetry import Metrics, places

if TYPE_CHECKING:
    from workers.engine import LocalEngine

BEATS = 4  # renewals of a heartbeat within its time
MISSED = timedelta(days=1)  # longer than Redis is away
SETTLED = 32  # events that a bank's next owner folds in a moment: fewer need no snapshot
log = structlog.get_logger()


@dataclass(slots=True)
class Station:
    """A worker among others: its heartbeat, and the notices that concern its banks."""

    settings: Settings
    coord: Coord
    engine: "LocalEngine"
    server: FrameServer
    name: str
    started_at: float
    silent: bool = False  # the last beat did not reach the coordinator

    async def beat(self) -> None:
        """Say that this worker is alive, again and again."""
        first = True
        while True:
            try:
                known = await self.coord.beat(self._info(), self.settings.heartbeat_s)
                if first or not known or self.silent:
                    await self.coord.tell(Notice(kind="workers-changed"))
                first, self.silent = False, False
            except CoordDown:  # nobody can find it by its heartbeat; those who know its address go on
                if not self.silent:
                    log.warning("coordination is down", action="beat", worker=self.name)
                self.silent = True
            await asyncio.sleep(self.settings.heartbeat_s / BEATS)

    async def follow(self) -> None:
        """Let warm banks follow what was done to them elsewhere. Where no notice comes, the bank's row tells before the next answer."""
        async for notice in self.coord.listen():
            try:
                if notice.kind == "head-moved" and notice.tenant and notice.bank:
                    await self.engine.changed(notice.tenant, notice.bank)
                elif notice.kind == "bank-gone" and notice.bank:
                    self.engine.forget_bank(notice.bank)
                elif notice.kind == "tenant-erased":
                    self.engine.forget_tenant(notice.tenant)
                elif notice.kind == "missed":  # what is out of date is seen before the next answer, but nobody asks for the erased
                    for tenant in await self._erased():
                        self.engine.forget_tenant(tenant)
            except PalimpsestError as error:
                log.warning("notice not followed", action="follow", bank=notice.bank, why=error.code)
            except Exception as error:  # one bank's trouble must not make this worker deaf
                log.error("notice not followed", action="follow", bank=notice.bank, error=type(error).__qualname__, places=places(error))

    async def _erased(self) -> list[str]:
        async with self.engine.replay.database.sweep() as conn:
            return await erasure.erased_since(conn, utc_now() - MISSED)

    async def leave(self) -> None:
        """Hand over: no more calls, those in progress to their end, states saved."""
        with contextlib.suppress(CoordDown):
            await self.coord.leave(self.name)
            await self.coord.tell(Notice(kind="workers-changed"))
        await self.server.drain(self.settings.drain_s)
        begin = time.perf_counter()
        saved = await self.engine.settle(SETTLED)
        log.info("drained", action="drain", worker=self.name, saved=saved, ms=round(1e3 * (time.perf_counter() - begin)))

    def _info(self) -> WorkerInfo:
        return WorkerInfo(
            id=self.name,
            address=self.settings.advertise or self.settings.listen,
            capacity=1.0,
            in_flight=self.server.in_flight,
            warm=len(self.engine.banks),
            version=version("palimpsest"),
            started_at=self.started_at,
        )


async def work(settings: Settings, stop: asyncio.Event) -> None:
    """Take calls until `stop` is set, then drain.

    Raises:
        SettingsRefused, EncoderRefused: a setting is missing or cannot be used.
    """
    async with run_worker(settings) as station:
        settle()
        print(f"Palimpsest worker {station.name} takes calls on {settings.listen}", flush=True)
        await stop.wait()
        await station.leave()


@contextlib.asynccontextmanager
async def run_worker(settings: Settings) -> AsyncIterator[Station]:
    """A worker that takes calls."""
    refuse_alone(settings, "database", "redis", "listen", "blobs", "broker")
    await check_schema(settings)
    from service.bell import Bell
    from workers.celery_app import PREFIX, make_app

    metrics, coord = Metrics(), RedisCoord(settings.redis)
    database = Database(settings.database_url, stage=metrics.stage)
    tls = tls_context(settings.tls_cert, settings.tls_key, settings.tls_ca, server=True) if settings.tls_cert else None
    bell = Bell(make_app(settings.broker), PREFIX)
    try:
        async with local_engine(settings, database, metrics, ring=bell.ring) as engine:
            await first_bank(database, engine, await tenants.ensure_tenant(database, "default", utc_now()))
            name = new_id("wrk")
            server = FrameServer(serve_engine(engine), max_in_flight=settings.max_in_flight, worker=name, refused=metrics.refused)
            await server.start(settings.listen, tls)
            station = Station(settings, coord, engine, server, name, time.time())
            beside = [asyncio.ensure_future(each) for each in (station.beat(), station.follow())]
            try:
                async with shown(vitals(metrics, _ready(database)), settings.host, settings.metrics_port):
                    yield station
            finally:
                for task in beside:
                    task.cancel()
                await asyncio.gather(*beside, return_exceptions=True)
                await server.close()
    finally:
        bell.close()
        await coord.close()
        await database.close()


def _ready(database: Database):  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def ready() -> bool:
        try:
            await database.ping()
        except PalimpsestError:
            return False
        return True

    return ready
