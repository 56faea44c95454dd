"""The blob store away for a while: warm banks go on, jobs wait for it and are done when it is back."""

import asyncio
from urllib.parse import urlsplit

import pytest_asyncio
from fixtures_s3 import BUCKET
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, teach
from waiting import PATIENCE_S

from bench.cluster.relay import Relay


@pytest_asyncio.fixture
async def store(s3, monkeypatch):
    """What stands between the service and its store."""
    relay = Relay(urlsplit(s3.url).port)
    await relay.start()
    for name, value in (s3.environment | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{relay.port}"}).items():
        monkeypatch.setenv(name, value)
    yield relay
    await relay.close()


async def test_warm_bank_learns_and_answers_and_jobs_wait_while_the_blob_store_is_down(tmp_path, encoder, store):
    # however long the store is away, no consolidation becomes due by what is taught meanwhile
    how = {"blobs": f"s3://{BUCKET}/{tmp_path.name}", "consolidate_early": 10**6}
    async with serving(tmp_path / "var", encoder, **how) as service, client_of(service) as client:
        forgotten = await teach(client, PIN, "change_pin")
        await teach(client, SPAIN, "transfer_time")
        store.refuse()
        forget = await client.post("/v1/forget", json={"corrections": [forgotten["id"]], "mode": "erase"})
        jobs = [forget.json()["job_id"], (await client.post("/v1/consolidations", json={})).json()["job_id"]]
        async with asyncio.timeout(2 * PATIENCE_S):
            while min([(await client.get(f"/v1/jobs/{job}")).json()["attempts"] for job in jobs]) < 7:
                await teach(client, PIN, "ask_the_branch")
                assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"
                await asyncio.sleep(0.1)
        waiting = [(await client.get(f"/v1/jobs/{job}")).json() for job in jobs]
        assert {job["status"] for job in waiting} <= {"queued", "running"}, waiting
        store.heal()
        assert [(await finished(client, job))["status"] for job in jobs] == ["succeeded", "succeeded"]
        assert "change_pin" not in {answer["value"] for answer in (await ask(client, PIN, top_k=20, min_confidence=0.0))["answers"]}
        lived = await digest(client)
    async with serving(tmp_path / "var", encoder, **how) as service, client_of(service) as client:
        assert await digest(client) == lived
