"""What was said to a bank and answered for survives `kill -9`: folded from the ledger to the same bits, and learned once."""

import tempfile
from pathlib import Path

import httpx
import pytest
from waiting import until

from bench.cluster.faults import HEARTBEAT_S
from bench.cluster.running import Shape, cluster
from bench.killing import Victim
from bench.running import client_of

pytestmark = pytest.mark.serial
BODY = {
    "model": "hope:default",
    "messages": [{"role": "user", "content": "What is the gate code?"}, {"role": "assistant", "content": "The gate code is nine."}],
    "max_tokens": 1,
}


async def said(client, headers=None):
    """The answer; whoever is told that the model is made anew, and has taught nothing, comes again."""

    async def answered() -> httpx.Response | None:
        response = await client.post("/v1/chat/completions", json=BODY, headers=headers)
        if response.status_code == 409 and response.json()["error"]["code"] == "state-unavailable":
            return None
        assert response.status_code == 200, response.text
        return response

    return (await until(answered, "an answer", 1.0)).json()


async def memory(client):
    """What is told of the bank once its language model is there."""

    async def told() -> dict | None:
        found = (await client.get("/v1/memory")).json()
        return found if found["language"]["unavailable"] is None else None

    return await until(told, "the language model is there", 1.0)


async def test_turn_that_was_answered_for_is_in_the_weights_after_kill_9(tmp_path):
    victim = Victim(tmp_path)
    await victim.start()
    async with victim.client() as client:
        for name in ("first", "second", "last"):
            answered = await said(client, {"Idempotency-Key": name})
        before = await memory(client)
    await victim.kill()
    await victim.start()
    async with victim.client() as client:
        assert (await memory(client))["language"] == before["language"]
        assert await said(client, {"Idempotency-Key": "last"}) == answered
        assert (await client.get("/v1/memory")).json()["events"] == before["events"] == 3
    await victim.kill()


@pytest.mark.timeout(1_200)
async def test_conversation_goes_on_with_another_worker_and_every_turn_that_was_answered_for_is_in_it():
    shape = Shape(apis=1, workers=2, jobs=0, settings={"HEARTBEAT_S": str(HEARTBEAT_S)})
    with tempfile.TemporaryDirectory(prefix="palimpsest-talk-") as home:  # one that PostgreSQL's own user may enter
        async with cluster(Path(home), shape) as running, client_of(running.urls["api-1"], running.key) as client:
            answered = []
            for worker in running.of("worker"):  # whichever has the bank, it is met
                answered += [await said(client) for _ in range(2)]
                before = (await memory(client))["language"]
                await worker.kill()
                assert (await memory(client))["language"] == before
                await worker.start()
                await worker.ready()
            assert [each["memory"]["turn"]["seq"] for each in answered] == [1, 2, 3, 4]
            assert before["turns"] == 4
