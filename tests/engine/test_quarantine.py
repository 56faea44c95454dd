"""What is quarantined neither answers nor teaches, whatever happens to the bank; lifted, it is as if it had never been held."""

import pytest
from fixtures_service import client_of, finished, serving
from fixtures_store import DIALECTS, fresh_url
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import held_back

FRANCE = "What is the capital of France?"


async def hold(client, expect=202, **body):
    response = await client.post("/v1/quarantine", json=body)
    assert response.status_code == expect, response.text
    return response.json()


async def lift(client, held, expect=202):
    response = await client.delete(f"/v1/quarantine/{held['id']}")
    assert response.status_code == expect, response.text
    return response.json()


async def done(client, quarantine):
    job = await finished(client, quarantine["job_id"])
    assert job["status"] == "succeeded", job
    return job


async def values(client, text, **more):
    return [answer["value"] for answer in (await ask(client, text, top_k=20, min_confidence=0, **more))["answers"]]


async def test_session_is_held_at_once_and_comes_back_bit_for_bit(client):
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "nonsense", session_id="bad")
    before = await digest(client)
    held = await hold(client, source={"session_id": "bad"}, reason="looks poisoned")
    assert (held["corrections"], held["source"], held["lifted_at"]) == (1, {"session_id": "bad"}, None)
    assert "nonsense" not in await values(client, SPAIN)
    await done(client, held)
    assert await digest(client) != before
    assert "nonsense" not in await values(client, SPAIN)
    lifted = await lift(client, held)
    assert lifted["lifted_at"] is not None
    assert "nonsense" in await values(client, SPAIN)
    await done(client, lifted)
    assert await digest(client) == before
    assert "nonsense" in await values(client, SPAIN)


async def test_lifting_before_the_weights_have_followed_gives_back_the_same_weights(client, service):
    await teach(client, PIN, "change_pin")
    bad = await teach(client, SPAIN, "nonsense")
    before = await digest(client)
    async with held_back(service, "rebuild"):
        held = await hold(client, corrections=[bad["id"]])
        lifted = await lift(client, held)
        assert "nonsense" in await values(client, SPAIN)
    for each in (held, lifted):
        await done(client, each)
    assert await digest(client) == before


async def test_source_that_is_held_teaches_nothing_until_it_is_lifted(client):
    minted = (await client.post("/v1/keys", json={"name": "bot", "scopes": ["corrections:write"]})).json()
    bot = {"Authorization": f"Bearer {minted['key']}"}
    held = [await hold(client, source={"session_id": "bad"}), await hold(client, source={"key_id": minted["id"]})]
    refused = await teach(client, PIN, "nonsense", session_id="bad", expect=409)
    assert refused["code"] == "conflict"
    batch = {"items": [{"input": PIN, "right": "x"}, {"input": SPAIN, "right": "x", "session_id": "bad"}]}
    assert (await client.post("/v1/corrections/batch", json=batch)).status_code == 409
    assert (await client.post("/v1/corrections", json={"input": PIN, "right": "x"}, headers=bot)).status_code == 409
    assert (await client.get("/v1/memory")).json()["events"] == 0
    await teach(client, PIN, "change_pin", session_id="good")
    assert (await hold(client, expect=409, source={"session_id": "bad"}))["code"] == "conflict"
    for each in held:
        await lift(client, each)
    await teach(client, SPAIN, "transfer_time", session_id="bad")
    assert (await client.post("/v1/corrections", json={"input": FRANCE, "right": "Paris"}, headers=bot)).status_code == 201


@pytest.mark.parametrize("dialect", DIALECTS)
async def test_quarantine_survives_restart_consolidation_rollback_and_rebuild(tmp_path, encoder, request, dialect):
    with fresh_url(dialect, tmp_path, request) as url:
        await _survives(tmp_path, encoder, url if dialect == "postgresql" else "")


async def _survives(tmp_path, encoder, url):
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        bad = await teach(client, SPAIN, "nonsense")
        saved, before = await snapshot(client), await digest(client)
        held = await hold(client, corrections=[bad["id"]])
        gone = await teach(client, FRANCE, "Rome")
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        assert "nonsense" not in await values(client, SPAIN)
        await done(client, held)
        job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
        assert job["status"] == "succeeded"
        assert "nonsense" not in await values(client, SPAIN)
        forgotten = (await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "rebuild"})).json()
        assert (await finished(client, forgotten["job_id"]))["status"] == "succeeded"
        assert "nonsense" not in await values(client, SPAIN)
        assert (await client.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
        assert "nonsense" not in await values(client, SPAIN)
        assert "nonsense" not in await values(client, SPAIN, at=saved["id"])
        statuses = {row["id"]: row["status"] for row in (await client.get("/v1/corrections")).json()["items"]}
        assert statuses[bad["id"]] == "quarantined"
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        assert "nonsense" not in await values(client, SPAIN)
        await done(client, await lift(client, held))
        assert "nonsense" in await values(client, SPAIN)
        assert await digest(client) == before, "what was rolled back to, with what it held"


async def test_what_was_rolled_back_or_forgotten_meanwhile_does_not_come_back(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    rolled, gone = await teach(client, SPAIN, "nonsense"), await teach(client, FRANCE, "Rome")
    held = await hold(client, corrections=[rolled["id"], gone["id"]])
    await done(client, held)
    assert (await client.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
    await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})
    await done(client, await lift(client, held))
    assert "nonsense" not in await values(client, SPAIN)
    assert "Rome" not in await values(client, FRANCE)
    assert await digest(client) == saved["digest"]


async def test_correction_that_two_quarantines_hold_comes_back_with_the_last(client):
    bad = await teach(client, SPAIN, "nonsense", session_id="bad")
    first, second = await hold(client, corrections=[bad["id"]]), await hold(client, source={"session_id": "bad"})
    await lift(client, first)
    assert "nonsense" not in await values(client, SPAIN)
    await lift(client, second)
    assert "nonsense" in await values(client, SPAIN)


async def test_lifting_whose_answer_was_lost_is_answered_again_and_done_once(client):
    await teach(client, PIN, "change_pin")
    bad = await teach(client, SPAIN, "nonsense")
    held = await hold(client, corrections=[bad["id"]])
    lifted = await lift(client, held)
    again = await hold(client, corrections=[bad["id"]])
    assert await lift(client, held) == lifted, "whoever did not hear of it asks again"
    assert "nonsense" not in await values(client, SPAIN), "what was held since stays held"
    assert [row["action"] for row in (await client.get("/v1/audit")).json()["items"]].count("quarantine.lift") == 1
    await lift(client, again)
    assert "nonsense" in await values(client, SPAIN)


async def test_erased_correction_that_was_quarantined_stays_erased(client):
    await teach(client, PIN, "change_pin")
    bad = await teach(client, SPAIN, "nonsense")
    held = await hold(client, corrections=[bad["id"]])
    forgotten = (await client.post("/v1/forget", json={"corrections": [bad["id"]], "mode": "erase"})).json()
    assert (await finished(client, forgotten["job_id"]))["status"] == "succeeded"
    await done(client, await lift(client, held))
    assert "nonsense" not in await values(client, SPAIN)
    assert await values(client, PIN) == ["change_pin"]


async def test_quarantines_are_listed_by_bank_and_audited(client):
    bad = await teach(client, SPAIN, "nonsense")
    held = await hold(client, corrections=[bad["id"]], reason="why not")
    await hold(client, source={"session_id": "s"})
    listed = (await client.get("/v1/quarantine")).json()["items"]
    assert [row["corrections"] for row in listed] == [1, 0]
    assert listed[0]["reason"] == "why not"
    await lift(client, held)
    actions = [row["action"] for row in (await client.get("/v1/audit")).json()["items"]]
    assert actions[:3] == ["quarantine.lift", "quarantine", "quarantine"]


@pytest.mark.parametrize("body", [{}, {"corrections": ["cor_1"], "source": {"session_id": "s"}}, {"source": {}}])
async def test_quarantine_names_corrections_or_one_source(client, body):
    assert (await hold(client, expect=400, **body))["code"] == "validation"


async def test_unknown_correction_holds_nothing(client):
    mine = await teach(client, PIN, "change_pin")
    assert (await hold(client, expect=404, corrections=[mine["id"], "cor_nothing"]))["code"] == "not-found"
    assert await values(client, PIN) == ["change_pin"]
    assert (await client.get("/v1/quarantine")).json()["items"] == []
    assert (await client.delete("/v1/quarantine/qua_nothing")).status_code == 404
