"""The bell rings over a real broker; one that falls silent holds up nobody, also not the end of a process."""

import asyncio
import time

import pytest
from fixtures_redis import redis_running
from waiting import PATIENCE_S, lasted, until

from bench.cluster.relay import Relay
from bench.cluster.servers import free_port
from service.bell import Bell
from workers import celery_app

QUEUE = "test.housekeeping"


@pytest.fixture
def broker():
    """A server on a port, which a relay can be before."""
    port = free_port()
    with redis_running("--port", f"{port}") as server:
        yield server, port


async def rung(server) -> int:
    return await asyncio.to_thread(server.command, "LLEN", QUEUE)


async def until_rung(server, number: int) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while await rung(server) != number:  # noqa: ASYNC110 (another process)
            await asyncio.sleep(0.02)


async def test_silent_broker_is_given_up_and_rung_again_once_it_is_heard(broker, monkeypatch):
    monkeypatch.setattr(celery_app, "SILENCE_S", 0.5)
    server, port = broker
    relay = Relay(port)
    await relay.start()
    bell = Bell(celery_app.make_app(f"redis://127.0.0.1:{relay.port}/0"), "test")
    bell.ring("job_1", "export")
    await until_rung(server, 1)
    relay.cut()
    bell.ring("job_2", "export")

    async def given_up() -> bool:
        return not bell._heard

    await until(given_up, "the second one is given up")
    relay.refuse()  # what is on its way is lost with its connection
    relay.heal()
    bell.ring("job_3", "export")
    await until_rung(server, 2)
    relay.cut()
    begin = time.monotonic()
    for number in range(100):
        bell.ring(f"job_{number}", "export")
    assert time.monotonic() - begin < 25, "nobody waits for the broker: half a second for each"
    _, seconds = await lasted(asyncio.to_thread(bell.close))
    assert seconds < 10, "its end waits for one of them at most"
    await relay.close()


async def test_broker_that_is_away_costs_a_log_line(monkeypatch):
    bell = Bell(celery_app.make_app(f"redis://127.0.0.1:{free_port()}/0"), "test")
    bell.ring("job_1", "export")
    await asyncio.to_thread(bell.close)
    with pytest.raises(RuntimeError):
        bell.ring("job_2", "export")
