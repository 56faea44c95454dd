"""Bisection finds the correction that brought an answer, with about as many looks as the number of corrections has digits in binary."""

import math

import pytest
from fixtures_service import finished
from saying import PIN, SPAIN, ask, digest, snapshot, teach

CARD = "Can my daughter get a card of her own?"


async def bisect(client, status="succeeded", **body):
    response = await client.post("/v1/memory/bisect", json=body)
    assert response.status_code == 202, response.text
    job = await finished(client, response.json()["job_id"])
    assert job["status"] == status, job
    return job["result"] if status == "succeeded" else job["error"]


@pytest.mark.parametrize("place", [0, 23, 40, 63])
async def test_planted_correction_is_found_between_its_snapshots_in_few_probes(client, place):
    saved, planted = [], {}
    await teach(client, PIN, "change_pin")
    for part in range(4):
        items = []
        for number in range(16 * part, 16 * part + 16):
            items += [{"input": PIN, "right": "give it away"}] * (number == place)
            items.append({"input": f"another thing {number}", "right": f"answer {number % 5}"})
        taught = (await client.post("/v1/corrections/batch", json={"items": items})).json()["items"]
        planted.update(*[each for each, item in zip(taught, items, strict=True) if item["input"] == PIN])
        saved.append((await snapshot(client))["id"])
    lived = await digest(client)
    assert (await ask(client, PIN))["answers"][0]["value"] == "give it away"
    found = await bisect(client, input=PIN)
    assert (found["changed"], found["correction"], found["seq"]) == (True, planted["id"], planted["seq"])
    before = [name for number, name in enumerate(saved) if 16 * number + 15 < place]
    after = [name for number, name in enumerate(saved) if 16 * number + 15 >= place]
    genesis = (await client.get("/v1/snapshots")).json()["items"][-1]["id"]
    assert (found["last_snapshot_before"], found["first_snapshot_after"]) == ([genesis, *before][-1], after[0])
    assert found["events"] == 66
    assert found["probes"] <= 2 + math.ceil(math.log2(len(saved) + 1)) + math.ceil(math.log2(66)), "both ends, snapshots, events"
    assert await digest(client) == lived, "nothing was changed"


async def test_search_may_begin_at_a_snapshot_and_tells_when_nothing_has_changed_since(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, SPAIN, "transfer_time")
    assert await bisect(client, input=PIN, since=saved["id"]) == {"changed": False, "probes": 2, "events": 1}
    planted = await teach(client, PIN, "ask_the_branch")
    found = await bisect(client, input=PIN, since=saved["id"])
    assert (found["correction"], found["last_snapshot_before"], found["first_snapshot_after"]) == (planted["id"], saved["id"], None)


async def test_search_may_end_at_a_snapshot_that_answered_otherwise_than_the_present(client):
    await teach(client, PIN, "change_pin")
    good = await snapshot(client)
    planted = await teach(client, PIN, "give it away")
    await teach(client, SPAIN, "transfer_time")
    bad = await snapshot(client)
    mended = await teach(client, PIN, "ask_the_branch")
    assert (await bisect(client, input=PIN))["correction"] == mended["id"]
    found = await bisect(client, input=PIN, since=good["id"], until=bad["id"])
    assert (found["correction"], found["events"]) == (planted["id"], 2)
    assert (found["last_snapshot_before"], found["first_snapshot_after"]) == (good["id"], bad["id"])
    assert (await client.post("/v1/rollback", json={"to": good["id"]})).status_code == 200
    assert (await bisect(client, input=PIN, until=bad["id"]))["correction"] == planted["id"], "it need not be what the bank grew from"
    assert (await bisect(client, "failed", input=PIN, since=bad["id"], until=good["id"]))["code"] == "conflict"
    response = await client.post("/v1/memory/bisect", json={"input": PIN, "until": "snap_unknown"})
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


async def test_search_ends_at_no_snapshot_that_holds_what_was_forgotten(client):
    taught = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    job = (await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "rebuild"})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    assert (await bisect(client, "failed", input=PIN, until=saved["id"]))["code"] == "tainted-snapshot"


async def test_search_goes_along_the_present_lineage_only(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "give it away")
    undone = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    second = await teach(client, CARD, "get_card")
    assert (await bisect(client, input=CARD))["correction"] == second["id"]
    error = await bisect(client, "failed", input=CARD, since=undone["pre_rollback"])
    assert (error["code"], "did not grow" in error["detail"]) == ("conflict", True)
    response = await client.post("/v1/memory/bisect", json={"input": CARD, "since": "snap_unknown"})
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


async def test_erasure_takes_what_was_asked_out_of_the_jobs(client, service):
    taught = await teach(client, PIN, "change_pin")
    await bisect(client, input=PIN)
    job = (await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    async with service.database.read(service.tenant) as conn:
        payloads = (await conn.exec_driver_sql("SELECT payload FROM job WHERE kind = 'bisection'")).scalars().all()
    assert len(payloads) == 1
    assert "key" not in payloads[0].replace("key_", "")
    assert PIN not in payloads[0]
