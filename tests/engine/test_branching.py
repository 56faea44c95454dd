"""Branches: a bank that begins with what another holds is taught and compared, and what it was taught comes back into the other."""

import asyncio

from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach

CARD, YEN = "Can my daughter get a card of her own?", "What is the exchange rate for yen today?"


async def fork(client, name="try", expect=201, **more):
    response = await client.post("/v1/branches", json={"name": name, **more})
    assert response.status_code == expect, response.text
    return response.json()


async def promote(client, branch, expect=200, **more):
    response = await client.post(f"/v1/branches/{branch}/promote", json=more)
    assert response.status_code == expect, response.text
    return response.json()


async def digest_of(client, bank):
    return (await client.get("/v1/memory", params={"bank": bank})).json()["digest"]


async def value(client, text, **more):
    answers = (await ask(client, text, **more))["answers"]
    return answers[0]["value"] if answers else None


async def forget(client, correction, mode):
    said = (await client.post("/v1/forget", json={"corrections": [correction], "mode": mode})).json()
    if said["job_id"] is not None:
        assert (await finished(client, said["job_id"]))["status"] == "succeeded"


async def test_branch_begins_with_the_weights_of_its_bank_and_teaching_it_leaves_that_as_it_is(client):
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    lived = await digest(client)
    branch = await fork(client)
    assert (branch["corrections"], await digest_of(client, branch["id"])) == (2, lived)
    await teach(client, PIN, "ask_the_branch", bank="try")
    assert (await value(client, PIN), await value(client, PIN, bank="try")) == ("change_pin", "ask_the_branch")
    assert await digest(client) == lived
    assert (await client.get("/v1/branches")).json()["items"] == [branch]
    origins = {bank["name"]: bank["branch_of"] for bank in (await client.get("/v1/banks")).json()["items"]}
    assert origins == {"default": None, "try": branch["bank"]}
    assert (await client.get("/v1/banks/try")).json()["branch_of"] == branch["bank"]
    assert (await fork(client, expect=409))["code"] == "conflict", "a bank of this name is there"


async def test_branch_may_begin_at_a_snapshot_and_never_with_what_was_forgotten(client):
    gone = await teach(client, PIN, "a secret")
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)
    await teach(client, CARD, "get_card")
    await forget(client, gone["id"], "suppress")
    branch = await fork(client, at=saved["id"])
    assert branch["corrections"] == 1
    rows = (await client.get("/v1/events", params={"bank": branch["id"]})).json()["items"]
    assert [(row["seq"], row["input"], row["right"]) for row in rows] == [(1, SPAIN, "transfer_time")]
    assert (await fork(client, "other", 404, at="snap_unknown"))["code"] == "not-found"


async def test_promotion_gives_the_bank_the_weights_of_the_branch_and_ends_it(client):
    await teach(client, PIN, "change_pin")
    branch = (await fork(client))["id"]
    taught = [await teach(client, text, right, bank=branch) for text, right in ((PIN, "ask_the_branch"), (YEN, "exchange_rate"))]
    wanted = await digest_of(client, branch)
    told = await promote(client, branch)
    assert await digest(client) == wanted
    rows = (await client.get("/v1/corrections")).json()["items"]
    assert [(row["id"], row["right"]) for row in rows if row["seq"] > 1] == list(
        zip(told["corrections"], ["ask_the_branch", "exchange_rate"], strict=True)
    )
    assert told["state"]["seq"] == 3
    assert not {row["id"] for row in taught} & {row["id"] for row in rows}, "they are corrections of this bank now"
    assert (await client.get(f"/v1/banks/{branch}")).status_code == 404
    assert (await promote(client, branch, 404))["code"] == "not-found", "it happens once"
    assert (await client.post("/v1/rollback", json={"to": told["before"]})).status_code == 200
    assert await value(client, PIN) == "change_pin", "and is undone like anything else"


async def test_bank_that_has_moved_takes_a_branch_only_when_asked_to(client):
    await teach(client, PIN, "change_pin")
    branch = (await fork(client))["id"]
    await teach(client, YEN, "exchange_rate", bank=branch)
    await teach(client, SPAIN, "transfer_time")
    lived = await digest(client)
    assert (await promote(client, branch, 412))["code"] == "head-moved"
    assert await digest(client) == lived
    await promote(client, branch, refold=True)
    assert [await value(client, text) for text in (PIN, SPAIN, YEN)] == ["change_pin", "transfer_time", "exchange_rate"]
    twin = (await client.post("/v1/banks", json={"name": "twin"})).json()["id"]
    for text, right in ((PIN, "change_pin"), (SPAIN, "transfer_time"), (YEN, "exchange_rate")):
        await teach(client, text, right, bank=twin)
    assert await digest(client) == await digest_of(client, twin)


async def test_branch_that_has_lost_its_beginning_or_learned_nothing_is_not_promoted(client):
    await teach(client, PIN, "change_pin")
    branch = (await fork(client))["id"]
    assert "nothing" in (await promote(client, branch, 409))["detail"]
    genesis = (await client.get("/v1/snapshots", params={"bank": branch})).json()["items"][-1]["id"]
    assert (await client.post("/v1/rollback", json={"to": genesis, "bank": branch})).status_code == 200
    await teach(client, YEN, "exchange_rate", bank=branch)
    assert "lost" in (await promote(client, branch, 409))["detail"]
    await promote(client, branch, refold=True)
    assert (await value(client, PIN), await value(client, YEN)) == ("change_pin", "exchange_rate")


async def test_difference_of_a_branch_is_what_asking_both_banks_tells(client):
    taught = [await teach(client, text, right) for text, right in ((PIN, "change_pin"), (SPAIN, "transfer_time"))]
    branch = (await fork(client))["id"]
    assert (await client.get(f"/v1/branches/{branch}/diff")).json()["flips"] == []
    news = await teach(client, PIN, "ask_the_branch", bank=branch)
    late = await teach(client, CARD, "get_card")
    told = (await client.get(f"/v1/branches/{branch}/diff")).json()
    assert ([row["id"] for row in told["gained"]], [row["id"] for row in told["lost"]]) == ([news["id"]], [late["id"]])
    found = {flip["correction"]: (flip["input"], flip["before"]["value"], flip["after"]["value"]) for flip in told["flips"]}
    asked = {**{row["id"]: text for row, text in zip((*taught, late), (PIN, SPAIN, CARD), strict=True)}, news["id"]: PIN}
    both = {name: (text, await value(client, text), await value(client, text, bank=branch)) for name, text in asked.items()}
    assert found == {name: said for name, said in both.items() if said[1] != said[2]}
    assert told["probes"] == 4


async def test_what_is_forgotten_in_the_bank_is_forgotten_in_its_branches(client, service):
    """In branches of branches, too; and an erased text is in no row of any."""
    hidden = await teach(client, PIN, "a secret")
    erased = await teach(client, SPAIN, "the answer with high entropy 77ab31")
    await teach(client, CARD, "get_card")
    await fork(client, "first")
    await teach(client, YEN, "exchange_rate", bank="first")
    await fork(client, "second", bank="first")
    for bank in ("first", "second"):
        assert await value(client, PIN, bank=bank) == "a secret"
    await forget(client, hidden["id"], "suppress")
    await forget(client, erased["id"], "erase")
    for bank in ("first", "second"):
        assert [await value(client, text, bank=bank) for text in (PIN, SPAIN, CARD, YEN)] == [None, None, "get_card", "exchange_rate"]
        statuses = {row["seq"]: row["status"] for row in (await client.get("/v1/corrections", params={"bank": bank})).json()["items"]}
        assert statuses == {1: "forgotten", 2: "forgotten", 3: "active", 4: "active"}
    for job in (await client.get("/v1/jobs")).json()["items"]:
        assert (await finished(client, job["id"]))["status"] == "succeeded"
    for path in service.settings.var_dir.rglob("*"):
        assert not path.is_file() or b"77ab31" not in path.read_bytes(), path


async def test_bank_with_branches_is_not_deleted_and_a_branch_is_deleted_alone(client):
    await teach(client, PIN, "change_pin")
    branch = (await fork(client))["id"]
    refused = await client.delete("/v1/banks/default")
    assert (refused.status_code, branch in refused.json()["detail"]) == (409, True)
    assert await value(client, PIN) == "change_pin"
    bank = (await client.get("/v1/banks/default")).json()["id"]
    assert (await client.delete(f"/v1/branches/{bank}")).status_code == 404, "it is no branch"
    assert (await client.delete(f"/v1/branches/{branch}")).status_code == 204
    assert (await client.get("/v1/branches")).json()["items"] == []
    assert (await client.delete("/v1/banks/default")).status_code == 204


async def test_of_two_promotions_at_once_one_happens_and_what_is_taught_meanwhile_is_kept(client):
    await teach(client, PIN, "change_pin")
    branch = (await fork(client))["id"]
    await teach(client, YEN, "exchange_rate", bank=branch)
    calls = [client.post(f"/v1/branches/{branch}/promote", json={"refold": True}) for _ in range(2)]
    *answers, taught = await asyncio.gather(*calls, teach(client, SPAIN, "transfer_time"))
    assert sorted(answer.status_code for answer in answers) == [200, 404], [answer.text for answer in answers]
    rights = [row["right"] for row in (await client.get("/v1/corrections")).json()["items"]]
    assert (rights.count("exchange_rate"), rights.count("transfer_time"), taught["status"]) == (1, 1, "active")


async def test_branch_lives_on_after_a_restart(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        branch = (await fork(client))["id"]
        await teach(client, YEN, "exchange_rate", bank=branch)
        wanted = await digest_of(client, branch)
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert await digest_of(client, branch) == wanted
        await promote(client, branch)
        assert await digest(client) == wanted
