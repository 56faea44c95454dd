"""What was said to a bank and answered for survives `kill -9`: folded from the ledger to the same bits, and learned once."""

import tempfile
from pathlib import Path

import pytest

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


async def test_turn_that_was_answered_for_is_in_the_weights_after_kill_9(tmp_path):
    victim = Victim(tmp_path)
    await victim.start()
    async with victim.client() as client:
        for name in ("first", "second", "last"):
            answered = await client.post("/v1/chat/completions", json=BODY, headers={"Idempotency-Key": name})
            assert answered.status_code == 200, answered.text
        before = (await client.get("/v1/memory")).json()
    await victim.kill()
    await victim.start()
    async with victim.client() as client:
        assert (await client.get("/v1/memory")).json()["language"] == before["language"]
        again = await client.post("/v1/chat/completions", json=BODY, headers={"Idempotency-Key": "last"})
        assert again.json() == answered.json()
        assert (await client.get("/v1/memory")).json()["events"] == before["events"] == 3
    await victim.kill()


@pytest.mark.timeout(600)
async def test_conversation_goes_on_with_another_worker_and_every_turn_that_was_answered_for_is_in_it():
    shape = Shape(apis=1, workers=2, jobs=0, settings={"HEARTBEAT_S": str(HEARTBEAT_S)})
    with tempfile.TemporaryDirectory(prefix="palimpsest-talk-") as home:  # one that PostgreSQL's own user may enter
        async with cluster(Path(home), shape) as running, client_of(running.urls["api-1"], running.key) as client:
            answered = []
            for worker in running.of("worker"):  # whichever has the bank, it is met
                answered += [(await client.post("/v1/chat/completions", json=BODY)).json() for _ in range(2)]
                before = (await client.get("/v1/memory")).json()["language"]
                await worker.kill()
                assert (await client.get("/v1/memory")).json()["language"] == before
                await worker.start()
                await worker.ready()
            assert [each["memory"]["turn"]["seq"] for each in answered] == [1, 2, 3, 4]
            assert before["turns"] == 4
