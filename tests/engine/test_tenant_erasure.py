"""A tenant is erased beside a service that has its banks warm: nothing of it stays in memory or in Redis."""

import asyncio
import contextlib
import time
from collections.abc import AsyncGenerator

import pytest
from fixtures_redis import redis_running
from fixtures_service import client_of, serving
from fixtures_store import fresh_url
from msgspec import structs
from saying import PIN, ask, snapshot, teach
from waiting import PATIENCE_S, until

from service.cluster import redis_coord
from service.cluster.coord import MemoryCoord, Notice
from service.cluster.engine import Actor
from service.cluster.frames import FrameServer
from service.cluster.redis_coord import RedisCoord
from service.cluster.rpc import serve_engine
from service.embedded import Embedded
from service.errors import NotFound
from service.processes.erasing import erase_tenant
from service.processes.worker import Station

ACTOR = Actor(key_id="test", request_id="test")


class Coord(MemoryCoord):
    """One that knows when its listener has dealt with what it heard first: that it may have missed something."""

    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self.dealt = asyncio.Event()

    async def listen(self) -> AsyncGenerator[Notice, None]:
        async for notice in super().listen():
            yield notice
            self.dealt.set()


@contextlib.asynccontextmanager
async def following(service: Embedded):
    """The service's engine as a worker's, following notices; the coordinator that they come from."""
    coord = Coord()
    station = Station(service.settings, coord, service.engine, FrameServer(serve_engine(service.engine), max_in_flight=1), "wrk", 0.0)
    task = asyncio.ensure_future(station.follow())
    try:
        await coord.dealt.wait()
        yield coord
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def in_memory(service: Embedded) -> tuple[int, int]:
    """Warm banks, and snapshots beside them."""
    return len(service.engine.banks), len(service.engine._old)


async def until_nothing(service: Embedded) -> None:
    async def empty() -> bool:
        return in_memory(service) == (0, 0)

    await until(empty, "nothing is in memory")


async def make_warm(service: Embedded) -> None:
    async with client_of(service) as client:
        await teach(client, PIN, "change_pin")
        saved = await snapshot(client)
        await teach(client, PIN, "ask_the_branch")
        assert (await ask(client, PIN, at=saved["id"]))["answers"][0]["value"] == "change_pin"
    assert in_memory(service) == (1, 1)


@pytest.mark.parametrize("told", [True, False])
async def test_worker_drops_what_was_erased_when_it_is_told_or_was_not(tmp_path, encoder, told):
    # the service's own sweep would drop them too: it does not come round here, so that only the worker can
    async with serving(tmp_path / "var", encoder, sweep_s=3_600) as service:
        await make_warm(service)
        if told:
            async with following(service) as coord:
                await erase_tenant(service.settings, service.tenant)
                assert in_memory(service) == (1, 1)
                await coord.tell(Notice("tenant-erased", service.tenant))
                await until_nothing(service)
        else:  # it hears from the coordinator again, and has missed some
            await erase_tenant(service.settings, service.tenant)
            async with following(service):
                await until_nothing(service)


async def test_service_of_one_process_drops_what_a_command_beside_it_has_erased(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, sweep_s=0.1) as service:
        await make_warm(service)
        await erase_tenant(service.settings, service.tenant)
        await until_nothing(service)


async def test_worker_keeps_what_was_not_erased(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder) as service:
        await make_warm(service)
        async with following(service) as coord:
            await coord.tell(Notice("tenant-erased", "ten_another"))
            await asyncio.sleep(0.1)
            assert in_memory(service)[0] == 1


async def test_names_of_sessions_go_from_redis(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(redis_coord, "TIMEOUT_S", PATIENCE_S)  # that Redis may be taken for down on a slow machine is tested elsewhere
    with redis_running() as server:
        coord = RedisCoord(server.url)
        async with serving(tmp_path / "var", encoder) as service:
            for tenant in (service.tenant, "ten_another"):
                await coord.remember_session(tenant, "Mrs Quillfeather", "bnk_1", 60.0)
            await erase_tenant(structs.replace(service.settings, redis=server.url), service.tenant)
            assert await coord.session_bank(service.tenant, "Mrs Quillfeather") is None
            assert await coord.session_bank("ten_another", "Mrs Quillfeather") == "bnk_1"
        await coord.close()


async def test_erasure_waits_for_a_save_that_is_under_way(tmp_path, encoder, request):
    """What the save puts into the store before it is refused does not stay there."""
    with fresh_url("postgresql", tmp_path, request) as url:
        async with serving(tmp_path / "var", encoder, database=url) as service:
            await make_warm(service)
            blobs = service.engine.versions.blobs
            put, begun, go = blobs.put, asyncio.Event(), asyncio.Event()

            async def slow(tenant: str, data: bytes) -> str:
                begun.set()
                await go.wait()
                return await put(tenant, data)

            blobs.put = slow
            saving = asyncio.ensure_future(
                service.engine.snapshot(service.tenant, "default", label=None, note=None, pin=False, actor=ACTOR)
            )
            await begun.wait()
            erasing = asyncio.ensure_future(erase_tenant(service.settings, service.tenant))
            await asyncio.sleep(0.3)
            assert not erasing.done()
            go.set()
            await erasing
            with pytest.raises(NotFound):
                await saving
            assert await blobs.list(service.tenant) == []
