"""Corrections without an Idempotency-Key while the worker that has their bank is killed, or stands still for longer than anybody waits."""

import asyncio
import signal
import tempfile
from collections import Counter
from pathlib import Path

import httpx
import pytest

from bench.cluster.faults import HEARTBEAT_S
from bench.cluster.running import Cluster, Shape, cluster
from bench.running import client_of

pytestmark = [pytest.mark.serial, pytest.mark.timeout(1_200)]
WRITERS = 4
STILL_S = 6.0  # an api takes a worker that was silent for four seconds for lost


async def test_every_correction_is_answered_and_is_in_the_ledger_once():
    shape = Shape(apis=1, workers=2, jobs=0, settings={"HEARTBEAT_S": str(HEARTBEAT_S)})
    with tempfile.TemporaryDirectory(prefix="palimpsest-lost-") as home:  # one that PostgreSQL's own user may enter
        async with cluster(Path(home), shape) as running, client_of(running.urls["api-1"], running.key) as client:
            await lose_workers(running, client)


async def lose_workers(running: Cluster, client: httpx.AsyncClient) -> None:
    """Kill each worker, then stop each, while corrections are taught; compare what was acknowledged with the ledger."""
    taught: list[tuple[str, str]] = []
    stop = asyncio.Event()

    async def write(name: str) -> None:
        number = 0
        while not stop.is_set():
            text = f"{name} {number}"
            said = await client.post("/v1/corrections", json={"input": text, "right": f"answer {number % 5}"})
            if (
                said.status_code == 409 and said.json()["code"] == "writer-busy"
            ):  # two workers took the bank from each other: nothing is kept
                await asyncio.sleep(float(said.headers["Retry-After"]))
                continue
            assert said.status_code == 201, said.text
            taught.append((said.json()["id"], text))
            number += 1

    writing = [asyncio.ensure_future(write(f"writer {name}")) for name in range(WRITERS)]
    for worker in running.of("worker"):  # whichever has the bank, it is met
        await asyncio.sleep(1.0)
        await worker.kill()
        await asyncio.sleep(1.0)
        await worker.start()
        await worker.ready()
    for worker in running.of("worker"):
        worker.signal(signal.SIGSTOP)
        await asyncio.sleep(STILL_S)
        worker.signal(signal.SIGCONT)
        await asyncio.sleep(1.0)
    stop.set()
    await asyncio.gather(*writing)
    kept, cursor = [], None
    while True:
        page = (await client.get("/v1/events", params={"limit": 200} | ({"cursor": cursor} if cursor else {}))).json()
        kept += [(row["id"], row["input"]) for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert len(taught) > 4 * WRITERS
    assert Counter(kept) == Counter(taught)
