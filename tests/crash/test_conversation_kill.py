"""What was said to a bank and answered for survives `kill -9`: folded from the ledger to the same bits, and learned once."""

import pytest

from bench.killing import Victim

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
