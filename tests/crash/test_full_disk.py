"""A full disk under the real process: it refuses, goes on answering, and loses and doubles nothing once there is room again."""

import asyncio
import resource
import sys

import pytest

from bench.killing import Victim

pytestmark = [pytest.mark.serial, pytest.mark.skipif(sys.platform != "linux", reason="the limit of another process's files is Linux's")]
ROOM = 64 << 10  # bytes that a file may have while the disk is "full"; the database and a level's weights have more


def limit_files(pid: int, size: int | None) -> None:
    """No file of the process grows beyond `size`; None: as the disk allows."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (hard if size is None else size, hard))


async def write(client, name, stop, acked, refused):
    """Teach one after the other; what is refused is sent again under its key."""
    number = 0
    while not stop.is_set():
        item = {"input": f"{name} asks for the {number}th time", "right": f"answer {number % 7}"}
        response = await client.post("/v1/corrections", json=item, headers={"Idempotency-Key": f"{name} {number}"})
        if response.status_code == 201:
            acked[item["input"]] = response.json()["seq"]
            number += 1
        else:
            assert response.status_code in (409, 503, 507), response.text
            refused += [item["input"]] * (response.status_code == 507)
            await asyncio.sleep(0.02)


@pytest.mark.timeout(900)
async def test_full_disk_costs_refusals_and_nothing_that_was_acknowledged(tmp_path):
    victim, stop, acked, refused = Victim(tmp_path), asyncio.Event(), {}, []
    await victim.start()
    async with victim.client() as client:
        writers = [asyncio.ensure_future(write(client, f"customer {number}", stop, acked, refused)) for number in range(3)]
        for _ in range(3):
            before = len(acked)
            while len(acked) < before + 20:  # noqa: ASYNC110 (the writers set no event)
                await asyncio.sleep(0.02)
            limit_files(victim.pid, ROOM)
            before = len(refused)
            snapshot = await client.post("/v1/snapshots", json={})
            assert (snapshot.status_code, snapshot.json()["code"]) == (507, "storage-full")
            asked = await client.post("/v1/recall", json={"input": next(iter(acked))})
            assert asked.status_code == 200, "what is warm can be asked while nothing can be written"
            while len(refused) == before:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
            limit_files(victim.pid, None)
        stop.set()
        await asyncio.gather(*writers)
        assert (await client.post("/v1/snapshots", json={})).status_code == 201
    await victim.kill()
    await victim.start()
    async with victim.client() as client:
        rows, cursor = [], None
        while cursor or not rows:
            page = (await client.get("/v1/events", params={"limit": 200} | ({"cursor": cursor} if cursor else {}))).json()
            rows, cursor = rows + page["items"], page["next_cursor"]
        assert {row["input"]: row["seq"] for row in rows} == acked
        assert [row["seq"] for row in rows] == list(range(1, len(acked) + 1))
    await victim.kill()
