"""Rollback beyond snapshots: to a time, without a source, keeping corrections; and rollbacks that meet writers, deletions, each other."""

import asyncio
from datetime import UTC, datetime

import pytest
from fixtures_service import client_of, finished
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import held_back

from service.errors import Conflict

CARD, YEN = "Can my daughter get a card of her own?", "What is the exchange rate for yen today?"


async def roll_back(client, expect=200, headers=None, **body):
    response = await client.post("/v1/rollback", json=body, headers=headers or {})
    assert response.status_code == expect, response.text
    return response.json()


async def value(client, text):
    answers = (await ask(client, text))["answers"]
    return answers[0]["value"] if answers else None


async def digest_of(client, *lessons):
    """The digest of a bank that was taught these and nothing else."""
    bank = (await client.post("/v1/banks", json={"name": f"twin {datetime.now(UTC)}"})).json()["id"]
    for text, right in lessons:
        await teach(client, text, right, bank=bank)
    return (await client.get("/v1/memory", params={"bank": bank})).json()["digest"]


async def test_corrections_that_came_after_are_folded_onto_the_target(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, SPAIN, "transfer_time")
    await teach(client, YEN, "exchange_rate")
    await roll_back(client, to=saved["id"])
    await teach(client, CARD, "get_card")
    told = await roll_back(client, to=saved["id"], keep="corrections_after")
    assert (told["removed"], told["restored"]) == (0, 0), "only what still holds comes after it: what was rolled back does not come back"
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"), (CARD, "get_card"))


async def test_chosen_corrections_come_back_in_the_ledgers_order(client):
    taught = [await teach(client, text, right) for text, right in ((PIN, "change_pin"), (SPAIN, "transfer_time"), (CARD, "get_card"))]
    genesis = (await client.get("/v1/snapshots")).json()["items"][-1]
    told = await roll_back(client, to=genesis["id"], keep=[taught[2]["id"], taught[0]["id"]])
    assert (told["removed"], told["restored"]) == (1, 0)
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"), (CARD, "get_card"))
    assert await value(client, SPAIN) is None
    unknown = await roll_back(client, 404, to=genesis["id"], keep=["cor_unknown"])
    assert "cor_unknown" in unknown["detail"]


async def test_forgotten_correction_is_not_kept(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    gone = await teach(client, SPAIN, "transfer_time")
    await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})
    refused = await roll_back(client, 409, to=saved["id"], keep=[gone["id"]])
    assert (refused["code"], gone["id"] in refused["detail"]) == ("conflict", True)
    await roll_back(client, to=saved["id"], keep="corrections_after")
    assert await digest(client) == saved["digest"]


async def test_state_of_a_moment_is_folded_without_any_snapshot_of_it(client):
    before = datetime.now(UTC)
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    then, moment = await digest(client), datetime.now(UTC)
    await teach(client, PIN, "ask_the_branch")
    preview = await roll_back(client, to_time=moment.isoformat(), dry_run=True)
    assert {(flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]} == {("ask_the_branch", "change_pin")}
    undone = await roll_back(client, to_time=moment.isoformat())
    assert (await digest(client), await value(client, PIN)) == (then, "change_pin")
    await roll_back(client, to=undone["pre_rollback"])
    assert await value(client, PIN) == "ask_the_branch"
    assert "created" in (await roll_back(client, 404, to_time="2001-01-01T00:00:00Z"))["detail"]
    empty = await roll_back(client, to_time=before.isoformat())
    assert (empty["removed"], await value(client, PIN)) == (3, None), "the bank was there and empty"


async def test_source_is_undone_as_if_it_had_never_been_heard_and_comes_back(client):
    await teach(client, PIN, "change_pin", session_id="ses:good")
    await teach(client, PIN, "give it away", session_id="ses:bad")
    await teach(client, SPAIN, "transfer_time")
    lived = await digest(client)
    told = await roll_back(client, source={"session_id": "ses:bad"})
    assert told["removed"] == 1
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"), (SPAIN, "transfer_time"))
    statuses = {row["right"]: row["status"] for row in (await client.get("/v1/corrections")).json()["items"]}
    assert statuses["give it away"] == "rolled_back", "it is in the ledger, and nothing is marked as forgotten"
    await roll_back(client, to=told["pre_rollback"])
    assert await digest(client) == lived


async def test_everything_from_one_key_is_undone(client, service):
    minted = (await client.post("/v1/keys", json={"name": "agent", "scopes": ["corrections:write"]})).json()
    await teach(client, PIN, "change_pin")
    async with client_of(service, minted["key"]) as agent:
        await teach(agent, PIN, "give it away")
        await teach(agent, SPAIN, "never")
    told = await roll_back(client, source={"key_id": minted["id"]})
    assert told["removed"] == 2
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"))
    assert (await roll_back(client, 404, source={"key_id": "key_of_nobody"}))["code"] == "not-found"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "to"),
        ({"to": "snap_x", "source": {"session_id": "s"}}, "to"),
        ({"source": {}}, "source"),
        ({"source": {"session_id": "s", "key_id": "k"}}, "source"),
        ({"source": {"session_id": "s"}, "keep": "corrections_after"}, "keep"),
        ({"to": "snap_x", "levels": ["fast"]}, "levels"),
    ],
)
async def test_what_has_no_meaning_is_refused_with_its_field(client, body, field):
    refused = await roll_back(client, 400, **body)
    assert [fault["field"] for fault in refused["errors"]] == [field]


async def test_exactly_forgotten_correction_is_not_in_the_state_of_a_moment_before_it_was(client):
    gone = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    moment = datetime.now(UTC)
    await teach(client, CARD, "get_card")
    job = (await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "rebuild"})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    await roll_back(client, to_time=moment.isoformat())
    assert await digest(client) == await digest_of(client, (SPAIN, "transfer_time"))


async def test_of_two_rollbacks_at_once_with_the_same_head_one_wins(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    etag = (await client.get("/v1/banks/default")).json()["etag"]
    bodies = ({"to": saved["id"]}, {"source": {"key_id": saved["created_by"]}})
    answers = await asyncio.gather(*(client.post("/v1/rollback", json=body, headers={"If-Match": etag}) for body in bodies))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    lost = next(answer for answer in answers if answer.status_code == 412)
    assert lost.json()["code"] == "head-moved"
    kinds = [row["kind"] for row in (await client.get("/v1/snapshots")).json()["items"]]
    assert kinds.count("rollback") == kinds.count("pre_rollback") == 1


async def test_rollback_among_writers_loses_no_acknowledged_correction(client):
    """Each is either before the rollback, and outside the new state, or after it and in it; the digest tells both."""
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)

    async def write(name):
        return [(await teach(client, f"{name} {number}", f"answer {number}"))["seq"] for number in range(6)]

    async def back():
        await asyncio.sleep(0.02)
        return await roll_back(client, to=saved["id"])

    *seqs, told = await asyncio.gather(write("one"), write("two"), back())
    assert sorted([*seqs[0], *seqs[1]]) == list(range(2, 14))
    rows = (await client.get("/v1/corrections", params={"limit": 200})).json()["items"]
    at = told["state"]["seq"]
    assert {row["seq"] for row in rows if row["status"] == "rolled_back"} == set(range(2, at + 1))
    after = [(row["input"], row["right"]) for row in rows if row["seq"] > at]
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"), *after)


async def test_keeping_what_came_after_holds_what_is_taught_meanwhile(client):
    """The fold beside the requests has to be brought up to what was taught while it ran."""
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    lessons = [(f"lesson {number}", f"answer {number % 3}") for number in range(12)]

    async def write():
        for text, right in lessons:
            await teach(client, text, right)

    await asyncio.gather(
        write(), roll_back(client, to=saved["id"], keep="corrections_after"), roll_back(client, to=saved["id"], dry_run=True)
    )
    assert await digest(client) == await digest_of(client, (PIN, "change_pin"), *lessons)


async def test_rollback_to_a_snapshot_that_is_being_deleted_is_whole_or_refused(client):
    for _ in range(4):
        await teach(client, PIN, f"answer {datetime.now(UTC)}")
        saved = await snapshot(client)
        await teach(client, SPAIN, f"answer {datetime.now(UTC)}")
        moved, deleted = await asyncio.gather(
            client.post("/v1/rollback", json={"to": saved["id"]}), client.delete(f"/v1/snapshots/{saved['id']}")
        )
        assert deleted.status_code == 204, deleted.text
        assert moved.status_code in (200, 404, 409), moved.text
        assert (await digest(client) == saved["digest"]) == (moved.status_code == 200)
        assert (await roll_back(client, 404, to=saved["id"]))["code"] == "not-found"


async def test_rollback_to_a_snapshot_that_retention_collects_is_whole_or_refused(client, service):
    """Another process may collect: it does not wait for the lock of this one."""
    bank = await service.engine.banks.id_of(service.tenant, "default")
    for _ in range(4):
        await teach(client, PIN, f"answer {datetime.now(UTC)}")
        await service.engine.settle(0)
        saved = (await client.get("/v1/snapshots")).json()["items"][0]
        assert saved["kind"] == "auto"
        await teach(client, SPAIN, f"answer {datetime.now(UTC)}")
        moved, _ = await asyncio.gather(
            client.post("/v1/rollback", json={"to": saved["id"]}), service.engine.versions.thin(service.tenant, bank, 0)
        )
        assert moved.status_code in (200, 404, 409), moved.text
        assert (await digest(client) == saved["digest"]) == (moved.status_code == 200)
        service.engine.banks.drop(bank)
        assert (await digest(client) == saved["digest"]) == (moved.status_code == 200), "also from the ledger"
        assert (await roll_back(client, 404, to=saved["id"]))["code"] == "not-found"


async def test_rollback_that_takes_long_to_fold_is_prepared_by_a_job_and_then_done_once(client, service, monkeypatch):
    monkeypatch.setattr("workers.preparing.LONG", 3)
    lessons = [(f"lesson {number}", f"answer {number % 3}") for number in range(8)]
    for place, (text, right) in enumerate(lessons):
        await teach(client, text, right, session_id="ses:odd" if place % 2 else "ses:even")
    lived, body, once = await digest(client), {"source": {"session_id": "ses:odd"}}, {"Idempotency-Key": "long"}
    async with held_back(service, "prepare"):
        told = await roll_back(client, 202, once, **body)
        assert (told["head"], told["flips"], told["removed"]) == (None, [], 0)
        again = await client.post("/v1/rollback", json={**body, "dry_run": True})
        assert (again.status_code, again.json()["job_id"], again.headers["location"]) == (202, told["job_id"], f"/v1/jobs/{told['job_id']}")
    assert await digest(client) == lived, "nothing has changed yet"
    job = await finished(client, told["job_id"])
    assert (job["kind"], job["status"]) == ("preparation", "succeeded"), job
    made = next(row for row in (await client.get("/v1/snapshots")).json()["items"] if row["id"] == job["result"]["snapshot"])
    assert (made["kind"], made["is_head"], made["label"]) == ("auto", False, None)
    bank = await service.engine.banks.id_of(service.tenant, "default")
    await service.engine.versions.thin(service.tenant, bank, 0)  # it is there for an hour, whatever else is taught
    await teach(client, CARD, "get_card")  # is there already when the head moves: it belongs to what is kept
    preview = await roll_back(client, dry_run=True, **body)
    done = await roll_back(client, headers=once, **body)
    assert {name: done[name] for name in ("flips", "removed", "restored")} == {
        name: preview[name] for name in ("flips", "removed", "restored")
    }
    assert done["removed"] == 4
    kept = [*lessons[::2], (CARD, "get_card")]
    assert await digest(client) == await digest_of(client, *kept)
    assert await roll_back(client, headers=once, **body) == done, "the same key rolls back once"
    service.engine.banks.drop(bank)
    assert await digest(client) == await digest_of(client, *kept)


async def test_state_that_holds_what_was_forgotten_meanwhile_is_not_prepared(client, service, monkeypatch):
    monkeypatch.setattr("workers.preparing.LONG", 1)
    taught = [await teach(client, f"lesson {number}", f"answer {number}", session_id=f"ses:{number % 2}") for number in range(6)]
    bank = await service.engine.banks.id_of(service.tenant, "default")
    asked = {"spans": [[0, 1], [2, 3], [4, 5]], "held": [], "seq": 6, "origin": None, "name": "everything but session ses:1", "by": "key_1"}
    job = (await client.post("/v1/forget", json={"corrections": [taught[2]["id"]], "mode": "rebuild"})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    with pytest.raises(Conflict, match="forgotten"):
        await service.maintenance.prepare(service.tenant, bank, asked, progress=_nobody)
    before = len((await client.get("/v1/snapshots")).json()["items"])
    told = await roll_back(client, 202, source={"session_id": "ses:1"})
    assert (await finished(client, told["job_id"]))["status"] == "succeeded"
    assert len((await client.get("/v1/snapshots")).json()["items"]) == before + 1
    await roll_back(client, source={"session_id": "ses:1"})
    assert await digest(client) == await digest_of(client, ("lesson 0", "answer 0"), ("lesson 4", "answer 4"))


async def _nobody(done: float) -> None:
    """Who is told how far a job has come."""


async def test_preview_of_a_sample_says_so_and_asks_those_that_leave_first(client):
    for number in range(20):
        await teach(client, f"question {number}", f"answer {number}")
    saved = await snapshot(client)
    late = [await teach(client, text, right) for text, right in ((PIN, "change_pin"), (SPAIN, "transfer_time"))]
    told = await roll_back(client, to=saved["id"], dry_run=True, probes=4)
    assert (told["probes"], told["probes_of"]) == (4, 22)
    assert {flip["correction"] for flip in told["flips"]} >= {row["id"] for row in late}
    assert (await roll_back(client, to=saved["id"], dry_run=True))["probes"] == 22, "all, where they are few"
    moved = await roll_back(client, to=saved["id"], probes=4)
    assert (moved["flips"], moved["probes"], moved["probes_of"]) == (told["flips"], 4, 22)
    assert [fault["field"] for fault in (await roll_back(client, 400, to=saved["id"], probes=0))["errors"]] == ["probes"]
