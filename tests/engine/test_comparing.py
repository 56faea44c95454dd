"""The diff of two snapshots is what brute force finds, and verifying tells what is wrong with one."""

from dataclasses import replace

import numpy as np
import pytest
from saying import PIN, SPAIN, snapshot, teach
from test_lineage_property import RESPONSES, SITUATIONS

from model.state import HEAVY
from service.store import snapshots
from workers.reading import NEWEST
from workers.replay import lineage
from workers.warm_bank import Pages

WHOLE = {"blob fast": True, "blob middle": True, "blob slow": True, "ledger": True, "load": True}


async def diff(client, before, after, expect=200):
    response = await client.get(f"/v1/snapshots/{before}/diff/{after}")
    assert response.status_code == expect, response.text
    return response.json()


async def test_diff_agrees_with_brute_force(client, service):
    chance = np.random.default_rng(5)
    taught, inputs, ends = [], {}, []
    for _ in range(3):
        for _ in range(4):
            text, right = SITUATIONS[chance.integers(len(SITUATIONS))], RESPONSES[chance.integers(len(RESPONSES))]
            taught.append((await teach(client, text, right))["id"])
            inputs[taught[-1]] = text
        ends.append(((await snapshot(client))["id"], list(taught)))
    hidden = taught[2]
    await client.post("/v1/forget", json={"corrections": [hidden], "mode": "suppress"})
    moved = await client.post("/v1/rollback", json={"to": ends[0][0], "keep": [taught[9]]})
    assert moved.status_code == 200, moved.text
    ends.append(("head", [*ends[0][1], taught[9]]))
    for before, had in ends:
        for after, has in ends:
            told = await diff(client, before, after)
            assert [row["id"] for row in told["gained"]] == [name for name in reversed(taught) if name in has and name not in had]
            assert [row["id"] for row in told["lost"]] == [name for name in reversed(taught) if name in had and name not in has]
            assert (told["gained_total"], told["lost_total"]) == (len(told["gained"]), len(told["lost"]))
            for row in (*told["gained"], *told["lost"]):
                assert (row["input"] is None) == (row["right"] is None) == (row["id"] == hidden), "what was forgotten is not quoted"
            live = {name: inputs[name] for name in {*had, *has} - {hidden}}
            found = {flip["correction"]: (flip["before"]["value"], flip["after"]["value"]) for flip in told["flips"]}
            assert (told["probes"], found) == (len(live), await flips(client, before, after, live))
            assert {row["name"]: row["drift"] for row in told["levels"]} == await drifts(service, before, after)


async def test_diff_of_a_sample_says_so_and_is_a_part_of_the_whole(client):
    for number in range(12):
        await teach(client, f"question {number}", f"answer {number}")
    saved = (await snapshot(client))["id"]
    for text, right in ((PIN, "change_pin"), (SPAIN, "transfer_time"), ("question 3", "another")):
        await teach(client, text, right)
    whole = await diff(client, saved, "head")
    assert (whole["probes"], whole["probes_of"]) == (15, 15)
    told = (await client.get(f"/v1/snapshots/{saved}/diff/head", params={"probes": 6})).json()
    assert (told["probes"], told["probes_of"], told["gained_total"]) == (6, 15, 3)
    differ = {flip["correction"]: (flip["before"]["value"], flip["after"]["value"]) for flip in whole["flips"]}
    assert all(differ[flip["correction"]] == (flip["before"]["value"], flip["after"]["value"]) for flip in told["flips"])
    assert [flip["correction"] for flip in told["flips"]][:3] == [row["id"] for row in told["gained"]], "half are what one of them lacks"
    assert await diff(client, saved, "head") == whole, "and again, from memory"
    await teach(client, "question 4", "another")
    assert (await diff(client, saved, "head"))["gained_total"] == 4, "the present state is another one now"
    refused = await client.get(f"/v1/snapshots/{saved}/diff/head", params={"probes": 1_001})
    assert refused.status_code == 400


async def test_compared_views_rest_on_the_corrections_that_each_rests_on_alone(client, service):
    """However many newer ones say the same answer."""
    items = [{"input": f"question {number}", "right": f"answer {number % 2}"} for number in range(12)]
    assert (await client.post("/v1/corrections/batch", json={"items": items})).status_code == 201
    saved = (await snapshot(client))["id"]
    items = [{"input": f"another {number}", "right": "answer 0"} for number in range(70)]
    assert (await client.post("/v1/corrections/batch", json={"items": items})).status_code == 201
    engine, tenant = service.engine, service.tenant
    warm = engine.banks.peek(await engine.banks.id_of(tenant, "default"))
    views, reader, pages = [await engine._old.at(tenant, warm, saved), warm.view], engine._reader, Pages(warm.view.seq + 1)
    for view in views:
        for response in (0, 1):
            found = [
                await reader._live_rows(tenant, replace(warm, view=view, pages=shared), view, response, NEWEST) for shared in (None, pages)
            ]
            alone, together = found
            assert together == alone
            assert len(alone) == (6 if view is views[0] or response else NEWEST)


async def test_kept_diff_does_not_quote_what_was_forgotten_since(client):
    saved = (await snapshot(client))["id"]
    taught = await teach(client, PIN, "a secret")
    assert "a secret" in str(await diff(client, saved, "head"))
    await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "suppress"})
    assert "a secret" not in str(await diff(client, saved, "head"))


async def flips(client, before, after, live):
    """By asking both states about every correction."""
    said = []
    for at in (before, after):
        results = (await client.post("/v1/recall/batch", json={"inputs": list(live.values()), "at": at})).json()["results"]
        said.append([each["answers"][0]["value"] if each["answers"] else None for each in results])
    return {name: (was, now) for name, was, now in zip(live, *said, strict=True) if was != now}


async def drifts(service, before, after):
    """By loading both and measuring all that is read of a level."""
    engine = service.engine
    bank = await engine.banks.id_of(service.tenant, "default")
    found = await lineage(service.database, service.tenant, bank)
    states = []
    for name in (before, after):
        async with service.database.read(service.tenant) as conn:
            row = await snapshots.get_snapshot(conn, service.tenant, found.bank.head if name == "head" else name, bank)
        states.append(await engine.replay.load(service.tenant, row))
    far = {}
    for level in states[0].levels:
        one, two = (
            np.concatenate(
                [np.asarray(tensor, np.float64).ravel() for name, tensor in sorted(state.levels[level].items()) if name in HEAVY]
            )
            for state in states
        )
        far[level] = pytest.approx(np.linalg.norm(two - one) / max(np.linalg.norm(one), np.linalg.norm(two), 1e-300), rel=1e-9)
    return far


async def test_diff_with_a_snapshot_that_is_not_there_is_not_found(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    assert (await diff(client, saved["id"], "snap_unknown", 404))["code"] == "not-found"


async def test_whole_snapshot_is_verified_and_each_damage_is_named(client, service):
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)

    async def verified():
        response = await client.post(f"/v1/snapshots/{saved['id']}/verify")
        assert response.status_code == 200, response.text
        said = response.json()
        assert said["ok"] == all(check["ok"] for check in said["checks"])
        return {check["name"]: (check["ok"], check["detail"]) for check in said["checks"]}

    found = await verified()
    assert {name: ok for name, (ok, _) in found.items()} == WHOLE
    assert "2 rows" in found["ledger"][1]
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE event SET tokens = tokens + 1 WHERE seq = 2")
    found = await verified()
    assert (found["ledger"][0], "seq 2" in found["ledger"][1], found["load"][0]) == (False, True, True)
    (blob,) = (path for path in (service.settings.var_dir / "objects").rglob(saved["levels"][1]["sha256"]))
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1])
    found = await verified()
    assert {name: ok for name, (ok, _) in found.items()} == WHOLE | dict.fromkeys(("blob middle", "ledger", "load"), False)
    assert saved["levels"][1]["sha256"] in found["blob middle"][1]
