"""A forgotten correction never returns: not at the head, not at a snapshot, not after a restart, a rollback or a consolidation (I3)."""

import pytest
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach

from workers.rebuilding import Rebuilding


async def forget(client, *ids, mode, expect=202):
    response = await client.post("/v1/forget", json={"corrections": list(ids), "mode": mode})
    assert response.status_code == expect, response.text
    return response.json()


async def values(client, text, **more):
    return [answer["value"] for answer in (await ask(client, text, top_k=20, min_confidence=0, **more))["answers"]]


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_forgotten_correction_is_gone_when_the_call_returns(client, mode):
    old = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)
    said = await forget(client, old["id"], mode=mode)
    assert said["effective_now"] is True
    assert "change_pin" not in await values(client, PIN)
    response = await client.post("/v1/recall", json={"input": PIN, "at": saved["id"], "min_confidence": 0, "top_k": 20})
    if response.status_code == 200:
        assert "change_pin" not in [answer["value"] for answer in response.json()["answers"]]
    else:
        assert response.json()["code"] == "tainted-snapshot"
    assert (said["job_id"] is None) == (mode == "suppress")


async def test_suppressed_correction_stays_hidden_after_restart_rollback_and_consolidation(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        old = await teach(client, PIN, "change_pin")
        await teach(client, SPAIN, "transfer_time")
        saved = await snapshot(client)
        await forget(client, old["id"], mode="suppress")
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert "change_pin" not in await values(client, PIN)
        assert (await client.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
        assert "change_pin" not in await values(client, PIN)
        job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
        assert job["status"] == "succeeded"
        assert "change_pin" not in await values(client, PIN)
        memory = (await client.get("/v1/memory")).json()
        assert memory["corrections"] == 1, "a consolidation takes suppressed corrections out of the weights"


async def test_suppressing_one_of_two_corrections_with_the_same_response_hides_only_its_place(client):
    wrong = await teach(client, SPAIN, "change_pin")
    await teach(client, PIN, "change_pin")
    await forget(client, wrong["id"], mode="suppress")
    assert "change_pin" in await values(client, PIN)
    assert "change_pin" not in await values(client, SPAIN)


async def test_older_answer_is_not_blocked_by_a_forgotten_newer_one(client):
    await teach(client, PIN, "change_pin")
    newer = await teach(client, PIN, "ask_the_branch")
    job = await forget(client, newer["id"], mode="rebuild")
    await finished(client, job["job_id"])
    assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"


async def test_rollback_to_a_snapshot_that_holds_a_forgotten_correction_is_refused(client):
    old = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    before = await digest(client)
    job = await forget(client, old["id"], mode="rebuild")
    response = await client.post("/v1/rollback", json={"to": saved["id"]})
    assert (response.status_code, response.json()["code"]) == (409, "tainted-snapshot")
    await finished(client, job["job_id"])
    response = await client.post("/v1/rollback", json={"to": saved["id"]})
    assert (response.status_code, response.json()["code"]) == (409, "tainted-snapshot")
    listed = {row["id"]: row for row in (await client.get("/v1/snapshots")).json()["items"]}
    assert listed[saved["id"]]["tainted_by"] == [old["id"]]
    assert await digest(client) != before


async def test_erase_takes_the_text_out_of_every_file(tmp_path, encoder):
    secret, secret_right = "the safe combination of Mrs Quillfeather", "twelve-forty-nine-zebra"
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, SPAIN, "transfer_time")
        old = await client.post("/v1/corrections", json={"input": secret, "right": secret_right}, headers={"Idempotency-Key": "one"})
        saved = await snapshot(client)
        blobs_before = set((tmp_path / "var" / "objects").rglob("*"))
        job = await forget(client, old.json()["id"], mode="erase")
        ended = await finished(client, job["job_id"])
        assert ended["status"] == "succeeded", ended
        assert ended["result"]["destroyed_snapshots"]
        listed = [row["id"] for row in (await client.get("/v1/snapshots")).json()["items"]]
        assert saved["id"] not in listed
        response = await client.post("/v1/rollback", json={"to": saved["id"]})
        assert (response.status_code, response.json()["code"]) == (409, "tainted-snapshot")
        assert (await client.post("/v1/recall", json={"input": secret, "at": saved["id"]})).status_code == 409
        event = next(row for row in (await client.get("/v1/events")).json()["items"] if row["id"] == old.json()["id"])
        assert (event["input"], event["right"]) == (None, None)
        assert event["redacted_at"] is not None
        assert not any(
            path in set((tmp_path / "var" / "objects").rglob("*"))
            for path in blobs_before
            if path.is_file() and path.name in {level["sha256"] for level in saved["levels"]}
        )
    for path in (tmp_path / "var").rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert secret.encode() not in data, path
            assert secret_right.encode() not in data, path


async def test_forgetting_an_unknown_or_foreign_correction_changes_nothing(client):
    mine = await teach(client, PIN, "change_pin")
    other = (await client.post("/v1/banks", json={"name": "other"})).json()["id"]
    foreign = await teach(client, PIN, "theirs", bank=other)
    for unknown in ("cor_nothing", foreign["id"]):
        said = await forget(client, mine["id"], unknown, mode="rebuild", expect=404)
        assert said["code"] == "not-found"
    assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"
    assert (await client.get("/v1/memory")).json()["forgotten"] == 0


async def test_forgetting_twice_is_harmless(client):
    old = await teach(client, PIN, "change_pin")
    await forget(client, old["id"], mode="suppress")
    for mode in ("rebuild", "rebuild", "erase", "erase"):
        job = await forget(client, old["id"], mode=mode)
        assert (await finished(client, job["job_id"]))["status"] == "succeeded"
    assert await values(client, PIN) == []


async def test_live_correction_with_the_key_of_a_suppressed_one_is_answered(client):
    first = await teach(client, PIN, "change_pin")
    await teach(client, PIN, "change_pin")
    await forget(client, first["id"], mode="suppress")
    assert "change_pin" in await values(client, PIN), "the other one still says so"
    again = await teach(client, PIN, "change_pin")
    assert again["receipt"]["item"]["after"]["value"] == "change_pin"


class Delayed(Rebuilding):
    """The job of a forget in which something happens right after a rebuild."""

    def __init__(self, real: Rebuilding, rebuild) -> None:
        super().__init__(real.replay, real.versions, real.thread, real.changed, real.language)
        object.__setattr__(self, "_rebuild", rebuild)

    async def rebuild(self, *args, **kwargs):
        return await self.__dict__["_rebuild"](*args, **kwargs)


async def test_erasure_beside_another_one_that_is_not_rebuilt_yet_keeps_the_head(tmp_path, encoder):
    """The second is acknowledged after the first has rebuilt and before it destroys: the head still holds what the second names."""
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        one, two = await teach(client, PIN, "change_pin"), await teach(client, SPAIN, "transfer_time")
        await teach(client, "Can my daughter get a card?", "get_card")
        rebuilding = service.maintenance.rebuilding
        rebuild = rebuilding.rebuild
        second = []

        async def rebuilt_then_forgotten(*args, **kwargs):
            head = await rebuild(*args, **kwargs)
            if not second:
                second.append(await forget(client, two["id"], mode="erase"))
            return head

        service.maintenance.rebuilding = Delayed(rebuilding, rebuilt_then_forgotten)
        first = await forget(client, one["id"], mode="erase")
        for said in (first, *second):
            assert (await finished(client, said["job_id"]))["status"] == "succeeded"
        assert await values(client, "Can my daughter get a card?") == ["get_card"]
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert await values(client, "Can my daughter get a card?") == ["get_card"]


async def test_what_is_taught_after_the_newest_response_was_erased_is_answered_in_other_words_too(client):
    await teach(client, SPAIN, "transfer_time")
    gone = await teach(client, PIN, "change_pin")
    erased = await forget(client, gone["id"], mode="erase")
    assert (await finished(client, erased["job_id"]))["status"] == "succeeded"
    await teach(client, "My card was swallowed by the machine", "card_swallowed")
    assert (await values(client, "The machine has swallowed my card"))[0] == "card_swallowed"
    explained = await client.post("/v1/memory/explain", json={"input": "The machine has swallowed my card"})
    assert (explained.status_code, explained.json()["value"]) == (200, "card_swallowed")
