"""A bank's own language model is a fold over its ledger: what is said is learned once, leaves with a rollback, is gone once forgotten."""

import asyncio
import hashlib
from dataclasses import replace

import pytest
import pytest_asyncio
from fixtures_service import client_of, finished, serving
from fixtures_store import fresh_url
from saying import PIN, SPAIN, ask, snapshot, teach
from small_language import hope_in, llama_in
from waiting import PATIENCE_S, until

from service import wire
from service.cluster.engine import Actor
from service.ids import new_id
from service.settings import from_environment
from workers import language_states
from workers.language_fold import LanguageFold, Wanted
from workers.language_states import LONG
from workers.replay import lineage

GATE, CODE = "What is the gate code?", "The gate code is nine."
WIFI, WORD = "What is the password of the network?", "The password is tulip seven."
BY = Actor(key_id="key_test", request_id="test")


TRAINED = pytest.mark.parametrize("lm", [""], indirect=True)  # the model that is shipped: one of random weights may sleep badly


@pytest.fixture
def lm(request, tmp_path):
    """The folder of the language model: a very small one, unless the test names another."""
    return request.param if hasattr(request, "param") else str(hope_in(tmp_path / "lm"))


@pytest_asyncio.fixture
async def service(tmp_path, encoder, lm):
    """A fresh service with that language model."""
    async with serving(tmp_path / "var", encoder, lm=lm) as running:
        running.engine.language_states.patience_s = PATIENCE_S
        yield running


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A snapshot waits for the language model as long as that takes: a test may meet a machine that stands still for seconds."""
    monkeypatch.setattr(language_states, "PART_S", PATIENCE_S)


async def say(client, text, right=None, *, bank="default", at="", memory=None, most=8, expect=200):
    messages = [{"role": "user", "content": text}] + ([] if right is None else [{"role": "assistant", "content": right}])
    body = {"model": f"hope:{bank}{at}", "messages": messages, "max_tokens": most, "memory": memory or {}}
    response = await client.post("/v1/chat/completions", json=body)
    assert response.status_code == expect, response.text
    return response.json()


async def answer(client, text=GATE, **more):
    """What is said to a question that teaches nothing."""
    reply = await say(client, text, memory={"learn": False}, **more)
    assert reply["memory"]["turn"] is None
    return reply["choices"][0]["message"]["content"]


async def language(client, bank="default"):
    return (await client.get("/v1/memory", params={"bank": bank})).json()["language"]


async def digest(client, bank="default"):
    return (await language(client, bank))["digest"]


async def new_bank(client) -> str:
    return (await client.post("/v1/banks", json={"name": new_id("name")})).json()["name"]


async def forget(client, *ids, mode, bank="default"):
    response = await client.post("/v1/forget", json={"corrections": list(ids), "mode": mode, "bank": bank})
    assert response.status_code == 202, response.text
    if response.json()["job_id"] is not None:
        assert (await finished(client, response.json()["job_id"]))["status"] == "succeeded"


async def consolidate(client, bank="default"):
    job = await finished(client, (await client.post("/v1/consolidations", json={"bank": bank})).json()["job_id"])
    assert job["status"] == "succeeded", job
    return job["result"]


# --- what is learned


async def test_what_is_said_again_surprises_less_and_is_in_the_ledger_before_the_answer(client):
    told = [(await say(client, GATE, CODE))["memory"]["turn"] for _ in range(5)]
    assert told[-1]["surprise"] < told[0]["surprise"]
    assert [turn["seq"] for turn in told] == [1, 2, 3, 4, 5]
    events = (await client.get("/v1/events")).json()["items"]
    assert [(event["id"], event["kind"], event["input"], event["right"]) for event in events] == [
        (turn["id"], "turn", GATE, CODE) for turn in told
    ]


async def test_same_turns_make_the_same_state_and_a_question_without_learning_none(client):
    banks = [await new_bank(client) for _ in range(3)]
    for bank in banks[:2]:
        await say(client, GATE, CODE, bank=bank)
        await answer(client, bank=bank)
        await say(client, WIFI, bank=bank)
    assert await digest(client, banks[0]) == await digest(client, banks[1])
    assert await answer(client, bank=banks[0]) == await answer(client, bank=banks[1])
    await answer(client, bank=banks[2])
    assert await language(client, banks[2]) is None


async def test_state_and_answer_are_the_same_after_a_restart_and_folded_from_the_ledger_alone(tmp_path, encoder):
    folder = str(hope_in(tmp_path / "lm"))
    async with serving(tmp_path / "var", encoder, lm=folder) as service, client_of(service) as client:
        await say(client, GATE, CODE)
        await teach(client, PIN, "change_pin")  # learned as well, from the first turn on
        await consolidate(client)
        await say(client, WIFI, WORD)
        before = await language(client), await answer(client)
    async with serving(tmp_path / "var", encoder, lm=folder) as service, client_of(service) as client:
        assert (await language(client), await answer(client)) == before
        found = await lineage(service.database, service.tenant, "default")
        fold = LanguageFold(service.database, service.engine.replay.blobs, service.engine.language)
        known = await fold.reach(service.tenant, replace(Wanted.now(found), bases=()), None)
        assert hashlib.sha256((await service.engine.language.speaker()).save(known.state, "")).hexdigest() == before[0]["digest"]


async def test_decoder_of_hugging_face_learns_sleeps_goes_back_and_is_the_same_after_a_restart(tmp_path, encoder):
    folder = str(llama_in(tmp_path / "lm"))
    assert from_environment({"PALIMPSEST_LM": folder}).lm == folder
    async with serving(tmp_path / "var", encoder, lm=folder) as service, client_of(service) as client:
        told = [(await say(client, GATE, CODE, most=1))["memory"]["turn"]["surprise"] for _ in range(6)]
        assert told[-1] < told[0]
        saved, then = await snapshot(client), await answer(client)
        before = await digest(client)
        assert (await consolidate(client))["language"]["slept"] is True
        await say(client, WIFI, WORD)
        assert await answer(client, at=f"@{saved['id']}") == then
        lived = await language(client), await answer(client)
    async with serving(tmp_path / "var", encoder, lm=folder) as service, client_of(service) as client:
        assert (await language(client), await answer(client)) == lived
        await client.post("/v1/rollback", json={"to": saved["id"]})
        assert await digest(client) == before


async def test_recall_memory_learns_nothing_from_turns_and_goes_on_being_taught(client):
    first, second = await new_bank(client), await new_bank(client)
    for bank, talked in ((first, True), (second, False)):
        await teach(client, PIN, "change_pin", bank=bank)
        if talked:
            await say(client, GATE, CODE, bank=bank)
        await teach(client, GATE, "gate", bank=bank)
        if talked:
            await say(client, WIFI, bank=bank)
    memories = [(await client.get("/v1/memory", params={"bank": bank})).json() for bank in (first, second)]
    assert memories[0]["digest"] == memories[1]["digest"]
    assert [memory["corrections"] for memory in memories] == [2, 2]
    assert [memory["events"] for memory in memories] == [4, 2]
    assert memories[0]["language"]["turns"] == 2
    assert len((await client.get("/v1/corrections", params={"bank": first})).json()["items"]) == 2
    assert (await ask(client, PIN, bank=first))["answers"][0]["value"] == "change_pin"


async def test_corrections_are_learned_as_text_from_the_first_turn_on(client):
    banks = [await new_bank(client) for _ in range(3)]
    await teach(client, PIN, "change_pin", bank=banks[0])  # nobody had talked to it yet
    for bank in banks:
        await say(client, GATE, CODE, bank=bank)
    await teach(client, PIN, "change_pin", bank=banks[1])
    digests = [await digest(client, bank) for bank in banks]
    assert digests[0] == digests[2] != digests[1]


async def test_turn_that_is_sent_again_under_its_id_is_learned_once(service):
    turn = wire.NewTurn(input=GATE, right=CODE)
    taken = [await service.engine.observe(service.tenant, "default", turn, actor=BY, ids=["trn_once"]) for _ in range(2)]
    assert [each.seq for each in taken] == [1, 1]
    again = await service.engine.observe(service.tenant, "default", turn, actor=BY, ids=["trn_today", "trn_once"])
    assert (again.id, again.seq) == ("trn_once", 1)  # as a request of last night is called today
    async with client_of(service) as client:
        assert (await client.get("/v1/memory")).json()["events"] == 1


async def test_many_who_talk_to_one_bank_at_once_are_all_learned_in_one_order(service):
    async with client_of(service) as client:
        await asyncio.gather(*(say(client, f"{GATE} {n}", most=4) for n in range(6)), teach(client, PIN, "change_pin"))
        said = [event["input"] for event in (await client.get("/v1/events")).json()["items"]]
        assert sorted(said) == sorted([PIN, *(f"{GATE} {n}" for n in range(6))])
        lived = await digest(client)
        await service.engine.changed(service.tenant, (await client.get("/v1/memory")).json()["bank"])  # nothing stays in memory
        assert await digest(client) == lived


# --- versions


async def test_snapshot_answers_as_it_did_and_learns_nothing(client):
    await say(client, GATE, CODE)
    saved, then = await snapshot(client), await answer(client)
    assert "language" in [level["name"] for level in saved["levels"]]
    for _ in range(6):
        await say(client, GATE, WORD)
    reply = await say(client, GATE, at=f"@{saved['id']}")
    assert reply["choices"][0]["message"]["content"] == then
    assert reply["memory"]["turn"] is None
    assert (await client.get("/v1/memory")).json()["events"] == 7


async def test_rollback_takes_what_was_said_since_out_of_the_weights_and_is_undone(client):
    await say(client, GATE, CODE)
    saved, before = await snapshot(client), await digest(client)
    await say(client, GATE, WORD)
    after = await digest(client)
    rolled = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    assert await digest(client) == before
    await client.post("/v1/rollback", json={"to": rolled["pre_rollback"]})
    assert await digest(client) == after
    await say(client, WIFI)  # and goes on from there


async def test_rollback_without_a_session_leaves_what_was_said_elsewhere(client):
    await say(client, GATE, CODE, memory={"session_id": "good"})
    before = await digest(client)
    await say(client, GATE, WORD, memory={"session_id": "bad"})
    assert (await client.post("/v1/rollback", json={"source": {"session_id": "bad"}})).status_code == 200
    assert await digest(client) == before


async def test_snapshot_before_a_rollback_and_what_is_rebuilt_hold_the_language_model(client, service):
    await say(client, GATE, CODE)
    saved = await snapshot(client)
    bad = await say(client, WIFI, WORD)
    rolled = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    await client.post("/v1/rollback", json={"to": rolled["pre_rollback"]})
    await forget(client, bad["memory"]["turn"]["id"], mode="rebuild")
    for name in (rolled["pre_rollback"], (await client.get("/v1/memory")).json()["state"]["snapshot_id"]):
        held = (await client.get(f"/v1/snapshots/{name}")).json()["levels"]
        assert "language" in [level["name"] for level in held], name


# --- waiting


async def test_who_talks_while_the_model_is_made_anew_is_told_how_far_it_is_and_answered_when_he_comes_again(client, service):
    for n in range(12):
        told = await say(client, f"{GATE} {n}", CODE, most=1)
    states = service.engine.language_states
    states.drop()
    states.patience_s = 0.0
    body = {"model": "hope:default", "messages": [{"role": "user", "content": GATE}], "max_tokens": 1}
    refused = await client.post("/v1/chat/completions", json=body)
    assert refused.status_code == 409, refused.text
    assert refused.json()["error"]["code"] == "state-unavailable"
    assert "goes on by itself" in refused.json()["error"]["message"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 60
    memory = (await client.get("/v1/memory")).json()
    assert memory["events"] == told["memory"]["turn"]["seq"] == 12, "who has to come again has taught nothing"
    assert memory["language"]["unavailable"] is None or memory["language"]["digest"] is None
    states.patience_s = PATIENCE_S
    assert (await say(client, GATE, most=1))["memory"]["turn"]["seq"] == 13


async def test_long_fold_is_saved_so_that_it_is_not_done_again(client, service):
    await teach(client, PIN, "change_pin")
    await say(client, GATE, CODE, most=1)
    lines = [{"input": f"What is the code of gate {n}?", "right": "nine"} for n in range(LONG)]
    (await client.post("/v1/corrections/batch", json={"items": lines})).raise_for_status()
    service.engine.language_states.drop()
    await answer(client, most=1)

    async def kept() -> list[dict]:
        return [row for row in (await client.get("/v1/snapshots")).json()["items"] if row["kind"] == "auto"]

    saved = await until(kept, "an automatic snapshot")
    assert "language" in [level["name"] for level in saved[0]["levels"]]


async def test_model_that_cannot_be_used_is_told_of_with_the_reason(tmp_path, encoder):
    folder = hope_in(tmp_path / "lm")
    async with serving(tmp_path / "var", encoder, lm=str(folder)) as service, client_of(service) as client:
        turn = (await say(client, GATE, CODE))["memory"]["turn"]["id"]
    (folder / "model.safetensors").write_bytes(b"nothing")
    async with serving(tmp_path / "var", encoder, lm=str(folder)) as service, client_of(service) as client:
        told = await language(client)
        assert told == {"digest": None, "turns": 1, "sleeps": [], "bytes": None, "model": None, "unavailable": told["unavailable"]}
        assert "cannot be used" in told["unavailable"]
        await forget(client, turn, mode="erase")  # what is to be forgotten does not wait for it
        certificate = (await client.get("/v1/forget")).json()["items"][0]
        assert "cannot be used" in certificate["weights"]["language"]["unavailable"]


# --- forgetting


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_forgotten_turn_is_as_never_said(client, service, mode):
    never, bank = await new_bank(client), await new_bank(client)
    await say(client, GATE, CODE, bank=never)
    await say(client, WIFI, bank=never)
    await say(client, GATE, CODE, bank=bank)
    bad = await say(client, "the canary sings at noon", "oh", bank=bank)
    await say(client, WIFI, bank=bank)
    (await client.post("/v1/snapshots", json={"bank": bank})).raise_for_status()
    await forget(client, bad["memory"]["turn"]["id"], mode=mode, bank=bank)
    assert await digest(client, bank) == await digest(client, never)
    assert await answer(client, bank=bank) == await answer(client, bank=never)
    texts = [event["input"] for event in (await client.get("/v1/events", params={"bank": bank})).json()["items"]]
    assert (texts[1] is None) == (mode == "erase")
    if mode == "erase":
        folder = service.settings.var_dir
        assert not [file for file in folder.rglob("*") if file.is_file() and b"canary sings" in file.read_bytes()]


@pytest.mark.parametrize("others", [0, 1])
async def test_certificate_has_the_digests_of_the_language_model_with_and_without(client, others):
    never, bank = await new_bank(client), await new_bank(client)
    for each in (never, bank)[: 2 * others]:
        await say(client, GATE, CODE, bank=each)
    bad = await say(client, WIFI, WORD, bank=bank)
    before = await digest(client, bank)
    await forget(client, bad["memory"]["turn"]["id"], mode="erase", bank=bank)
    told = (await client.get("/v1/forget")).json()["items"][0]
    assert told["weights"]["language"]["digest_before"] == before
    assert told["weights"]["language"]["unavailable"] is None
    assert told["passed"] is None, "there is no question to ask again"
    if others:
        assert told["weights"]["language"]["digest_after"] == await digest(client, never) == await digest(client, bank)
    else:
        assert told["weights"]["language"]["digest_after"] != before  # that of a model that nobody has talked to
        assert await language(client, bank) is None


async def test_certificate_of_a_bank_that_nobody_talks_to_has_no_language_model(client):
    taught = await teach(client, PIN, "change_pin")
    await forget(client, taught["id"], mode="rebuild")
    assert (await client.get("/v1/forget")).json()["items"][0]["weights"]["language"] is None


async def test_snapshot_that_was_taken_before_a_suppression_does_not_speak_of_it(client):
    await say(client, GATE, CODE)
    bad = await say(client, WIFI, WORD)
    saved = await snapshot(client)
    never = await new_bank(client)
    await say(client, GATE, CODE, bank=never)
    await forget(client, bad["memory"]["turn"]["id"], mode="suppress")
    assert await answer(client, WIFI, at=f"@{saved['id']}") == await answer(client, WIFI, bank=never)


async def test_quarantined_source_is_not_heard_and_comes_back_when_it_is_lifted(client):
    await say(client, GATE, CODE)
    before = await digest(client)
    await say(client, GATE, WORD, memory={"session_id": "odd"})
    after = await digest(client)
    held = (await client.post("/v1/quarantine", json={"source": {"session_id": "odd"}})).json()
    assert await digest(client) == before
    await say(client, GATE, WORD, memory={"session_id": "odd"}, expect=409)
    assert (await client.delete(f"/v1/quarantine/{held['id']}")).status_code == 202
    assert await digest(client) == after


# --- sleep


@TRAINED
async def test_consolidation_puts_the_language_model_to_sleep_and_equal_banks_equally(client):
    banks = [await new_bank(client), await new_bank(client)]
    for bank in banks:
        for _ in range(3):
            await say(client, GATE, CODE, bank=bank)
    awake = await digest(client, banks[0])
    done = [(await consolidate(client, bank))["language"] for bank in banks]
    assert done[0]["slept"] is True
    assert done[0]["surprise_after"] <= done[0]["surprise_before"]
    told = [await language(client, bank) for bank in banks]
    assert told[0]["digest"] == told[1]["digest"] != awake
    assert told[0]["sleeps"] == [3]
    assert "language" not in await consolidate(client, banks[0]), "nothing was said since"
    await say(client, WIFI, WORD, bank=banks[0])
    assert (await consolidate(client, banks[0]))["language"]["events"] == 1


@TRAINED
async def test_what_was_forgotten_leaves_a_sleep_as_well(client):
    never, bank = await new_bank(client), await new_bank(client)
    await say(client, GATE, CODE, bank=never)
    await say(client, GATE, CODE, bank=bank)
    bad = await say(client, WIFI, WORD, bank=bank)
    for each in (never, bank):
        await consolidate(client, each)
    await forget(client, bad["memory"]["turn"]["id"], mode="rebuild", bank=bank)
    assert await digest(client, bank) == await digest(client, never)


async def test_rollback_before_a_sleep_wakes(client):
    await say(client, GATE, CODE)
    saved, awake = await snapshot(client), await digest(client)
    await consolidate(client)
    assert await digest(client) != awake
    await client.post("/v1/rollback", json={"to": saved["id"]})
    assert await digest(client) == awake
    assert (await language(client))["sleeps"] == []


# --- beside all else


async def test_branch_begins_without_conversations_and_comes_back(client):
    await teach(client, PIN, "change_pin")
    await say(client, GATE, CODE)
    made = (await client.post("/v1/branches", json={"name": "what if"})).json()
    assert await language(client, made["id"]) is None
    await teach(client, GATE, "gate", bank=made["id"])
    response = await client.post(f"/v1/branches/{made['id']}/promote", json={})
    assert response.status_code == 200, response.text
    assert (await language(client))["turns"] == 1


async def test_bisection_names_the_correction_where_a_forgotten_turn_lies_before_a_snapshot(client):
    await teach(client, PIN, "change_pin")
    bad = await say(client, WIFI, WORD)
    await teach(client, SPAIN, "transfer_time")
    await snapshot(client)
    culprit = await teach(client, PIN, "give it away")
    await say(client, GATE)
    await teach(client, GATE, "gate")
    await forget(client, bad["memory"]["turn"]["id"], mode="rebuild")
    started = await client.post("/v1/memory/bisect", json={"input": PIN})
    job = await finished(client, started.json()["job_id"])
    assert (job["status"], job["result"]["correction"], job["result"]["events"]) == ("succeeded", culprit["id"], 4)


async def test_ledger_with_turns_verifies_and_leaves_in_a_bundle(client):
    await teach(client, PIN, "change_pin")
    await say(client, GATE, CODE)
    saved = await snapshot(client)
    checked = (await client.post(f"/v1/snapshots/{saved['id']}/verify")).json()
    assert checked["ok"], checked
    job = (await client.post(f"/v1/snapshots/{saved['id']}/export", json={"ledger": True})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"


async def test_same_turns_make_the_same_state_on_postgresql_and_in_two_services_that_take_turns(tmp_path, encoder, request, lm):
    told = []
    with fresh_url("postgresql", tmp_path, request) as url:
        shared = {"lm": lm, "database": url, "key_pepper": "one pepper for all services of a database", "blobs": (tmp_path / "o").as_uri()}
        async with (
            serving(tmp_path / "lite", encoder, lm=lm) as alone,
            serving(tmp_path / "one", encoder, **shared) as one,
            serving(tmp_path / "other", encoder, **shared) as other,
            client_of(alone) as lite,
            client_of(one) as first,
            client_of(other) as second,
        ):
            for clients in ((lite, lite), (first, second)):
                for n, text in enumerate((GATE, WIFI, PIN, GATE)):
                    await say(clients[n % 2], text, CODE)
                told.append((await digest(clients[0]), await answer(clients[1])))
    assert told[0] == told[1]
