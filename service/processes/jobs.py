"""The process `palimpsest jobs`: claims jobs and does them, and sweeps. It holds nothing; any number of them may run.

It folds and commits by itself, beside the workers that serve the banks, and tells them afterwards.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING

import structlog

from service.cluster.coord import Coord, CoordDown, Notice
from service.cluster.redis_coord import RedisCoord, refuse_redis_cluster
from service.processes.encoders import settled
from service.processes.parts import check_schema, encoder_digest, language_model, load_words, memory, refuse_alone, utc_now
from service.processes.vitals import shown, vitals
from service.processes.working_off import jobs_worked_off
from service.settings import Settings, SettingsRefused
from service.store.blobs import open_blobs
from service.store.db import Database
from service.store.watched_blobs import WatchedBlobs
from service.telemetry import Metrics

if TYPE_CHECKING:
    from model import RecallConfig
    from workers.maintenance import Maintenance
    from workers.rebuilding import Changed

log = structlog.get_logger()


async def run_jobs(queues: Sequence[str], settings: Settings, stop: asyncio.Event) -> None:
    """Work until `stop` is set; jobs that do not end in time go back to the queue.

    Raises:
        SettingsRefused: a setting is missing or cannot be used, or there is no such queue.
    """
    from model import RecallConfig
    from service.bell import QUEUE_NAMES, Bell
    from service.bell import queues as queues_of
    from workers.celery_app import PREFIX, make_app

    if odd := [name for name in queues if name not in QUEUE_NAMES]:
        raise SettingsRefused(f"there is no queue {odd[0]!r}; the queues are {', '.join(QUEUE_NAMES)}")
    refuse_alone(settings, "database", "redis", "broker", "blobs", "key_pepper")  # the last signs webhooks
    await refuse_redis_cluster(settings.broker)
    await check_schema(settings)
    metrics, coord = Metrics(), RedisCoord(settings.redis)
    database = Database(settings.database_url, stage=metrics.stage)
    celery = make_app(settings.broker)
    bell, taken = Bell(celery, PREFIX), queues_of(PREFIX, tuple(queues) or QUEUE_NAMES)
    try:
        config = RecallConfig(encoder_digest=encoder_digest(await settled(settings, database)))
        async with (
            maintained(settings, database, metrics, config, changed=_teller(coord)) as maintenance,
            jobs_worked_off(settings, database, maintenance, metrics, celery=celery, bell=bell, queues=taken),
            shown(vitals(metrics, _ready(database)), settings.host, settings.metrics_port),
        ):
            print("Palimpsest jobs are taken", flush=True)
            await stop.wait()
    finally:
        bell.close()
        await coord.close()
        await database.close()


@contextlib.asynccontextmanager
async def maintained(
    settings: Settings, database: Database, metrics: Metrics, config: "RecallConfig", *, changed: "Changed"
) -> AsyncIterator["Maintenance"]:
    """What does the jobs in a process that keeps no bank warm and encodes nothing, closed at the end.

    Raises:
        SettingsRefused: what the settings name cannot be used.
    """
    import torch

    from workers.maintenance import Maintenance
    from workers.threads import OwnThread

    recall = await asyncio.to_thread(memory, settings, config)
    language = language_model(settings)
    thread = OwnThread("jobs", lambda: torch.set_num_threads(settings.model_threads))
    try:
        yield Maintenance(
            database,
            WatchedBlobs(open_blobs(settings.blobs_url), metrics.stage),
            recall,
            await asyncio.to_thread(load_words, settings),
            language,
            thread=thread,
            stage=metrics.stage,
            changed=changed,
            refused=metrics.snapshot_refused,
            now=utc_now,
        )
    finally:
        thread.close()
        language.close()


def _teller(coord: Coord):  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def changed(tenant: str, bank: str) -> None:
        with contextlib.suppress(CoordDown):  # every worker looks at the bank's row before it answers: this only saves it the fold
            await coord.tell(Notice(kind="head-moved", tenant=tenant, bank=bank))

    return changed


def _ready(database: Database):  # type: ignore[no-untyped-def]  # noqa: ANN202
    async def ready() -> bool:
        try:
            await database.ping()
        except Exception:  # whatever it is, this process cannot work now
            return False
        return True

    return ready
