"""A client that asks again right after a crash: its key is not held by the dead process, and what it asked for happens once."""

import asyncio
import contextlib
import sqlite3
import time

import httpx
import pytest

from bench.killing import Victim

SENT = {"items": [{"input": f"what does tariff {number} cost?", "right": f"price {number}"} for number in range(100)]}
KEY = {"Idempotency-Key": "sent before the crash"}


def key_status(var_dir) -> str | None:
    """Where the one idempotency key of the database stands."""
    with contextlib.closing(sqlite3.connect(f"file:{var_dir / 'palimpsest.db'}?mode=ro", uri=True)) as conn:
        row = conn.execute("SELECT status FROM idempotency").fetchone()
    return row[0] if row else None


async def reached(var_dir, wanted: str) -> None:
    until = time.monotonic() + 20
    while key_status(var_dir) != wanted:
        assert time.monotonic() < until, f"the key is {key_status(var_dir)}, never {wanted}"
        await asyncio.sleep(0.001)


@pytest.mark.serial
@pytest.mark.parametrize("status", ["pending", "committed"])
async def test_key_of_a_killed_request_is_free_at_once_and_its_corrections_are_taught_once(tmp_path, status):
    victim = Victim(tmp_path)
    await victim.start()
    async with victim.client() as client:
        asking = asyncio.ensure_future(client.post("/v1/corrections/batch", json=SENT, headers=KEY))
        await reached(victim.var_dir, status)
        await victim.kill()
        with pytest.raises(httpx.TransportError):
            await asking
    assert key_status(victim.var_dir) == status
    await victim.start()
    async with victim.client() as client:
        begin = time.perf_counter()
        answered = await client.post("/v1/corrections/batch", json=SENT, headers=KEY)
        assert answered.status_code == 201, answered.text
        assert time.perf_counter() - begin < 10  # the lease alone would be two minutes
        assert [item["seq"] for item in answered.json()["items"]] == list(range(1, 101))
        assert answered.headers.get("idempotent-replayed") == ("true" if status == "committed" else None)
        assert (await client.get("/v1/memory")).json()["events"] == 100
    await victim.kill()
