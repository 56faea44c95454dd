"""A client that asks again right after a crash: its key is not held by the dead process, and what it asked for happens once."""

import asyncio
import contextlib
import sqlite3
import time

import httpx
import pytest
from waiting import PATIENCE_S, lasted

from bench.killing import Victim

SENT = {"items": [{"input": f"what does tariff {number} cost?", "right": f"price {number}"} for number in range(100)]}
KEY = {"Idempotency-Key": "sent before the crash"}
ORDER = ("pending", "committed", "done")
AT_ONCE_S = 10  # the lease alone would be a quarter of a minute


def key_status(var_dir) -> str | None:
    """Where the one idempotency key of the database stands."""
    with contextlib.closing(sqlite3.connect(f"file:{var_dir / 'palimpsest.db'}?mode=ro", uri=True)) as conn:
        row = conn.execute("SELECT status FROM idempotency").fetchone()
    return row[0] if row else None


async def reached(var_dir, status: str) -> None:
    """Wait until the key stands there, or is past it."""
    end = time.monotonic() + PATIENCE_S
    while key_status(var_dir) not in ORDER[ORDER.index(status) :]:
        assert time.monotonic() < end, f"the key is {key_status(var_dir)}, never {status}"
        await asyncio.sleep(0.001)


async def killed_at(folder, status: str) -> Victim:
    """A service that was killed while the key stood there. Where whoever looks is too slow for it, the next one is."""
    for number in range(10):
        (folder / f"{number}").mkdir()
        victim = Victim(folder / f"{number}")
        await victim.start()
        async with victim.client() as client:
            asking = asyncio.ensure_future(client.post("/v1/corrections/batch", json=SENT, headers=KEY))
            await reached(victim.var_dir, status)
            await victim.kill()
            (ended,) = await asyncio.gather(asking, return_exceptions=True)
        if key_status(victim.var_dir) == status:
            assert isinstance(ended, httpx.TransportError), "it was answered for, and is not done"
            return victim
    raise AssertionError(f"of ten services none could be killed while its key was {status}")


@pytest.mark.serial
@pytest.mark.parametrize("status", ["pending", "committed"])
async def test_key_of_a_killed_request_is_free_at_once_and_its_corrections_are_taught_once(tmp_path, status):
    victim = await killed_at(tmp_path, status)
    await victim.start()
    async with victim.client() as client:
        answered, took = await lasted(client.post("/v1/corrections/batch", json=SENT, headers=KEY))
        assert answered.status_code == 201, answered.text
        assert took < AT_ONCE_S
        assert [item["seq"] for item in answered.json()["items"]] == list(range(1, 101))
        assert answered.headers.get("idempotent-replayed") == ("true" if status == "committed" else None)
        assert (await client.get("/v1/memory")).json()["events"] == 100
    await victim.kill()
