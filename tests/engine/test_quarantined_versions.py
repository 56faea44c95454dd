"""What is in quarantine comes back by no rollback, branch or bundle; lifted, it comes back to what it belongs to."""

from datetime import UTC, datetime

from fixtures_service import finished
from saying import PIN, SPAIN, digest, snapshot, teach
from test_branching import digest_of, fork, promote, value
from test_carrying import bring, exported, files
from test_quarantine import done, hold, lift
from test_rolling_back import roll_back

from service.bundling import LEDGER

CARD = "Can my daughter get a card of her own?"


async def test_every_rollback_is_without_what_is_held_and_lifting_brings_it_back(client):
    await teach(client, PIN, "change_pin", session_id="good")
    bad = await teach(client, SPAIN, "nonsense", session_id="bad")
    whole, saved, moment = await digest(client), await snapshot(client), datetime.now(UTC).isoformat()
    await teach(client, CARD, "get_card", session_id="late")
    held = await hold(client, corrections=[bad["id"]])
    await done(client, held)
    refused = await roll_back(client, 409, to=saved["id"], keep=[bad["id"]])
    assert "in quarantine" in refused["detail"]
    ways = [{"to": saved["id"]}, {"to_time": moment}, {"source": {"session_id": "late"}}]
    for body in ways:
        before = await snapshot(client)
        told = await roll_back(client, **body, dry_run=True)
        assert (told["removed"], told["restored"]) == (1, 0)
        await roll_back(client, **body)
        assert [await value(client, text) for text in (PIN, SPAIN, CARD)] == ["change_pin", None, None]
        lifted = await lift(client, held)
        assert await value(client, SPAIN) == "nonsense"
        await done(client, lifted)
        assert await digest(client) == whole, body
        held = await hold(client, corrections=[bad["id"]])
        await done(client, held)
        await roll_back(client, to=before["id"])


async def test_what_came_later_and_is_held_is_kept_for_when_it_is_lifted(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    bad = await teach(client, SPAIN, "nonsense")
    await teach(client, CARD, "get_card")
    whole = await digest(client)
    held = await hold(client, corrections=[bad["id"]])
    await done(client, held)
    told = await roll_back(client, to=saved["id"], keep="corrections_after")
    assert (told["flips"], told["removed"], told["restored"]) == ([], 0, 0)
    await done(client, await lift(client, held))
    assert await digest(client) == whole


async def test_difference_tells_no_texts_of_what_is_held(client):
    first = await snapshot(client)
    bad = await teach(client, SPAIN, "nonsense")
    second = await snapshot(client)
    await done(client, await hold(client, corrections=[bad["id"]]))
    told = (await client.get(f"/v1/snapshots/{first['id']}/diff/{second['id']}")).json()
    assert (told["gained"], told["flips"]) == ([{"id": bad["id"], "seq": 1, "input": None, "right": None}], [])


async def test_bisection_neither_names_nor_begins_with_what_is_held(client):
    await teach(client, PIN, "ask_the_branch")
    bad = await teach(client, PIN, "nonsense")
    saved = await snapshot(client)
    good = await teach(client, PIN, "change_pin")
    await done(client, await hold(client, corrections=[bad["id"]]))

    async def bisected(**body):
        return await finished(client, (await client.post("/v1/memory/bisect", json={"input": PIN, **body})).json()["job_id"])

    assert (await bisected())["result"]["correction"] == good["id"]
    refused = await bisected(since=saved["id"])
    assert (refused["status"], refused["error"]["code"]) == ("failed", "conflict")


async def test_branch_begins_without_what_is_held_and_is_held_with_its_bank(client):
    """Branches of branches, too."""
    await teach(client, PIN, "change_pin")
    poison = await teach(client, SPAIN, "nonsense")
    early = await hold(client, corrections=[poison["id"]])
    await fork(client, "without")
    assert (await client.get("/v1/events", params={"bank": "without"})).json()["items"][0]["input"] == PIN
    await lift(client, early)
    assert await value(client, SPAIN, bank="without") is None, "it never was in there"
    await fork(client, "first")
    await teach(client, CARD, "get_card", bank="first")
    await fork(client, "second", bank="first")
    before = [await digest_of(client, bank) for bank in ("first", "second")]
    held = await hold(client, corrections=[poison["id"]])
    for bank in ("first", "second"):
        assert [await value(client, text, bank=bank) for text in (PIN, SPAIN, CARD)] == ["change_pin", None, "get_card"]
        statuses = {row["seq"]: row["status"] for row in (await client.get("/v1/corrections", params={"bank": bank})).json()["items"]}
        assert statuses == {1: "active", 2: "quarantined", 3: "active"}
    await all_done(client)
    assert [await digest_of(client, bank) for bank in ("first", "second")] != before
    await lift(client, held)
    for bank in ("first", "second"):
        assert await value(client, SPAIN, bank=bank) == "nonsense"
    await all_done(client)
    assert [await digest_of(client, bank) for bank in ("first", "second")] == before


async def test_promotion_neither_loses_a_quarantine_nor_gets_round_one(client):
    await teach(client, PIN, "change_pin")
    poison = await teach(client, SPAIN, "nonsense")
    branch = await fork(client)
    taught = await teach(client, CARD, "get_card", bank="try", session_id="bad")
    inside = await hold(client, corrections=[taught["id"]], bank="try")
    await all_done(client)  # a head that moves meanwhile makes a promotion be tried again
    assert "in quarantine" in (await promote(client, branch["id"], 409, refold=True))["detail"]
    await lift(client, inside)
    source = await hold(client, source={"session_id": "bad"})
    await all_done(client)
    assert "in quarantine" in (await promote(client, branch["id"], 409, refold=True))["detail"]
    await lift(client, source)
    held = await hold(client, corrections=[poison["id"]])
    await all_done(client)
    await promote(client, branch["id"])
    assert [await value(client, text) for text in (PIN, SPAIN, CARD)] == ["change_pin", None, "get_card"]
    await lift(client, held)
    assert await value(client, SPAIN) == "nonsense"


async def test_what_is_held_does_not_leave_and_comes_back_to_an_imported_state(client):
    await teach(client, PIN, "change_pin")
    bad = await teach(client, SPAIN, "nonsense high entropy 55ce0a")
    whole, saved = await digest(client), await snapshot(client)
    early, _ = await exported(client, saved["id"])
    held = await hold(client, corrections=[bad["id"]])
    await done(client, held)
    refused = await client.get(f"/v1/exports/{early}")
    assert (refused.status_code, refused.json()["code"]) == (409, "tainted-snapshot")
    started = (await client.post(f"/v1/snapshots/{saved['id']}/export", json={})).json()["job_id"]
    ended = await finished(client, started)
    assert (ended["status"], ended["error"]["code"]) == ("failed", "tainted-snapshot")
    later = await snapshot(client)
    _, data = await exported(client, later["id"], ledger=True)
    assert b"55ce0a" not in data
    assert len(files(data)[LEDGER].splitlines()) == 2, "its place in the chain stays"
    row = (await bring(client, data))["snapshot"]
    await roll_back(client, to=row["id"])
    assert await value(client, SPAIN) is None
    await done(client, await lift(client, held))
    assert await digest(client) == whole
    assert (await client.get(f"/v1/exports/{early}")).status_code == 200


async def all_done(client):
    for job in (await client.get("/v1/jobs", params={"limit": 200})).json()["items"]:
        assert (await finished(client, job["id"]))["status"] == "succeeded", job
