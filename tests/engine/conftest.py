"""The engine's promises are kept however it is called: by an api in its own process, and over a socket as in a cluster."""

import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest_asyncio
from fixtures_service import ADMIN_KEY, client_of, serving_app

from service import keys
from service.api.app import Deps, build_app
from service.cluster.coord import MemoryCoord, WorkerInfo
from service.cluster.frames import FrameServer
from service.cluster.remote import RemoteEngine
from service.cluster.rpc import serve_engine
from service.embedded import Embedded
from service.processes.parts import utc_now
from service.store import banks
from service.telemetry import Metrics


@pytest_asyncio.fixture(params=["direct", "framed"])
async def client(request, service, tmp_path) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's client of the fresh service, by either way to its engine."""
    async with contextlib.AsyncExitStack() as stack:
        direct = request.param == "direct"
        given = client_of(service) if direct else framed(service, tmp_path / "worker.sock")
        yield await stack.enter_async_context(given)


@contextlib.asynccontextmanager
async def framed(service: Embedded, socket: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of another api over the same database, which reaches the engine as a worker's."""
    coord = MemoryCoord(time.monotonic)
    server = FrameServer(serve_engine(service.engine), max_in_flight=256, worker="wrk_1")
    address = await server.start(f"unix://{socket}")
    await coord.beat(WorkerInfo(id="wrk_1", address=address), 600)

    async def bank_of(tenant: str, named: str) -> str:
        async with service.database.read(tenant) as conn:
            return (await banks.find_bank(conn, tenant, named)).id

    engine = RemoteEngine(coord, bank_of=bank_of, deadlines_s={"recall": 60.0})  # a test may meet a busy machine
    deps = Deps(
        settings=service.settings,
        database=service.database,
        engine=engine,
        pepper=keys.load_pepper(service.settings),
        coord=coord,
        metrics=Metrics(),
        ring=lambda job_id, kind: None,  # the sweeper of the service finds it
        now=utc_now,
        ready=lambda: True,
    )
    app = build_app(deps)
    try:
        async with serving_app(app, ADMIN_KEY) as client:
            yield client
    finally:
        await app.close()
        await engine.close()
        await server.close()
