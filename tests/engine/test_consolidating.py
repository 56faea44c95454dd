"""What a consolidation moves into the slow level stays: over restarts, lessons and forgetting. Its gate asks all that was taught."""

import asyncio
import contextlib
import random
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fixtures_service import client_of, finished, serving
from saying import ask, digest, snapshot, teach

from model import Lesson
from service.store import banks
from workers.consolidate import Consolidation
from workers.replay import key_of

SOON = {"slow_from": 12}  # corrections from which a consolidation trains the slow level
TOLD = {
    "change_pin": ("Where do I change my PIN?", "I want another PIN", "How can I set a new code for my card?", "Can I pick my own PIN?"),
    "transfer_time": (
        "How long does a transfer to Spain take?",
        "When will my transfer arrive?",
        "My transfer is still pending",
        "Is a wire fast?",
    ),
    "lost_card": ("I lost my card", "Someone stole my card", "My card is gone", "I cannot find my bank card anywhere"),
    "exchange_rate": (
        "What is your exchange rate?",
        "How many euros do I get for a dollar?",
        "Which rate do you use abroad?",
        "Is the rate good?",
    ),
}


IN_TURN = [(text, right) for texts in zip(*TOLD.values(), strict=True) for right, text in zip(TOLD, texts, strict=True)]


async def teach_all(client):
    return {text: (await teach(client, text, right))["id"] for text, right in IN_TURN}


async def consolidated(client, bank="default"):
    job = await finished(client, (await client.post("/v1/consolidations", json={"bank": bank})).json()["job_id"])
    assert job["status"] == "succeeded", job
    return job["result"]


async def wrong(client):
    return [text for text, right in IN_TURN if (await ask(client, text))["answers"][0]["value"] != right]


async def held(service):
    warm = service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default"))
    return int(warm.view.state.levels["slow"]["held"][0, 0])


async def test_all_that_was_taught_is_right_after_a_consolidation_and_a_replay_gives_the_lived_state(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        before = await digest(client)
        result = await consolidated(client)
        assert result["gate"] == {
            "probes": 16,
            "head_right": 16,
            "candidate_right": 16,
            "flipped": 0,
            "replaced": 0,
            "let_go": 0,
            "passed": True,
        }
        assert await digest(client) == result["digest"] != before
        assert await wrong(client) == []
        assert await held(service) == 16 + len(TOLD), "the corrections, and the answers' own words"
        await teach(client, "How do I freeze my card?", "lost_card")
        lived = await digest(client)
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        assert await digest(client) == lived
        assert await held(service) == 16 + len(TOLD)
        assert await wrong(client) == []


async def test_what_was_forgotten_leaves_the_slow_level_without_a_trace(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        names = await teach_all(client)
        await consolidated(client)
        gone = "My card is gone"
        response = await client.post("/v1/forget", json={"corrections": [names[gone]], "mode": "rebuild"})
        assert (await finished(client, response.json()["job_id"]))["status"] == "succeeded"
        other = (await client.post("/v1/banks", json={"name": "other"})).json()["id"]
        for text, right in IN_TURN:
            if text != gone:
                await teach(client, text, right, bank=other)
        theirs = (await client.get("/v1/memory", params={"bank": other})).json()["digest"]
        assert await digest(client) == theirs, "as a bank that never learned it"
        assert (await consolidated(client))["digest"] == (await consolidated(client, other))["digest"]


async def owed(service, bank="default"):
    async with service.database.read(service.tenant) as conn:
        row = await banks.find_bank(conn, service.tenant, bank)
    return row.debt_tokens > 0, row.debt_events


async def test_a_bank_owes_what_its_weights_hold_and_no_consolidation_has_covered(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        names = await teach_all(client)
        before = await snapshot(client)
        assert await owed(service) == (True, 16)
        await consolidated(client)
        assert await owed(service) == (False, 0)
        head = (await client.get("/v1/memory")).json()["state"]["snapshot_id"]
        await teach(client, "How do I freeze my card?", "lost_card")
        assert await owed(service) == (True, 1)
        assert (await client.post("/v1/rollback", json={"to": before["id"]})).status_code == 200
        assert await owed(service) == (True, 16), "the weights of before"
        assert (await client.post("/v1/rollback", json={"to": head})).status_code == 200
        assert await owed(service) == (False, 0)
        response = await client.post("/v1/forget", json={"corrections": [names["My card is gone"]], "mode": "rebuild"})
        assert (await finished(client, response.json()["job_id"]))["status"] == "succeeded"
        assert await owed(service) == (True, 15), "they are folded from before it"
        await consolidated(client)
        assert await owed(service) == (False, 0)


async def test_what_a_damaged_snapshot_had_consolidated_is_owed_again(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        await consolidated(client)
        (slow,) = [level for level in (await client.get("/v1/snapshots")).json()["items"][0]["levels"] if level["name"] == "slow"]
        (blob,) = [path for path in service.settings.var_dir.rglob(f"*{slow['sha256']}*") if path.is_file()]
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1])
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        assert await held(service) == 0
        assert await owed(service) == (True, 16)
        assert await wrong(client) == []


async def test_a_branch_of_a_consolidated_bank_has_its_weights_and_gives_it_its_own(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        names = await teach_all(client)
        await consolidated(client)
        await teach(client, "How do I freeze my card?", "lost_card")
        branch = (await client.post("/v1/branches", json={"name": "try"})).json()["id"]

        async def theirs():
            return (await client.get("/v1/memory", params={"bank": branch})).json()["digest"]

        assert await theirs() == await digest(client)
        assert await owed(service, branch) == (True, 1)
        assert (await client.get(f"/v1/branches/{branch}/diff")).json()["flips"] == []
        await teach(client, "Where is the next cash machine?", "find_atm", bank=branch)
        wanted = await theirs()
        assert (await client.post(f"/v1/branches/{branch}/promote", json={})).status_code == 200
        assert await digest(client) == wanted
        assert await held(service) == 16 + len(TOLD)
        response = await client.post("/v1/forget", json={"corrections": [names["My card is gone"]], "mode": "suppress"})
        assert response.status_code == 202
        second = (await client.post("/v1/branches", json={"name": "second"})).json()["id"]
        rows = (await client.get("/v1/snapshots", params={"bank": second})).json()["items"]
        assert [(row["kind"], row["is_head"], row["seq"]) for row in rows] == [("manual", True, 17), ("genesis", False, 0)]
        assert "My card is gone" not in [
            row["input"] for row in (await client.get("/v1/corrections", params={"bank": second})).json()["items"]
        ]


class OneForgets(Consolidation):
    """A consolidation that makes one correction wrong, as a training that went too far would."""

    async def _candidate(self, tenant, bank_id, progress):
        made = await super()._candidate(tenant, bank_id, progress)
        view, key = made.view, next(row for row in made.rows if row.right == "lost_card")
        lesson = Lesson(key_of(key.embedding), "change_pin", 1, view.state.watermark + 1)
        self.replay.recall.apply_(view.state, lesson)
        view.state.watermark -= 1
        return made


async def test_a_candidate_in_which_a_single_correction_flips_is_refused_however_old_that_is(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        before, good = await digest(client), service.maintenance.consolidation
        service.maintenance.consolidation = OneForgets(good.replay, good.reader, good.versions, good.thread, good.changed)
        job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "consolidation-gate-failed")
        kept = next(row for row in (await client.get("/v1/snapshots")).json()["items"] if row["kind"] == "consolidation")
        assert not kept["is_head"]
        assert "of 16 corrections where the head is right" in job["error"]["detail"]
        assert await digest(client) == before
        assert await owed(service) == (False, 0), "it would fail again at once"


def lookalikes(count, seed):
    """Corrections of which some can hardly be told apart, with answers at random: half of what somebody would have taught."""
    dice, answers, taught = random.Random(seed), [f"answer {number}" for number in range(40)], []
    for number in range(2 * count + 40):
        right, about = dice.choice(answers), dice.choice(answers)
        if dice.random() < 0.5:
            taught.append({"input": f"customer {seed}.{1 + number // 36}.{1 + number % 36} asks about {about}", "right": right})
    return taught[:count]


async def test_a_bank_of_lookalikes_is_consolidated_and_what_was_let_go_is_told(tmp_path, encoder):
    """Of two in one situation the head has the older one right: the consolidation let go of it, and the gate asked for it."""
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        taught = lookalikes(120, 105)
        for begin in range(0, 120, 40):
            assert (await client.post("/v1/corrections/batch", json={"items": taught[begin : begin + 40]})).status_code == 201
        gate = (await consolidated(client))["gate"]
        assert gate["candidate_right"] == gate["probes"] > gate["head_right"]
        assert gate["probes"] + gate["replaced"] == 120
        assert gate["let_go"] < gate["replaced"]


async def test_a_refused_candidate_repays_nothing_of_what_a_rollback_wrote_down_meanwhile(tmp_path, encoder):
    seen = []

    class OneRollsBack(OneForgets):
        """The first candidate is wrong, and the head moves while it is at its gate."""

        async def _candidate(self, tenant, bank_id, progress):
            return await (super() if not seen else super(OneForgets, self))._candidate(tenant, bank_id, progress)

        async def _finish(self, tenant, candidate, moved_by):
            if seen:
                return await super()._finish(tenant, candidate, moved_by)
            await rolled_back(client, to=before["id"])
            seen.append(await owed(service))
            try:
                return await super()._finish(tenant, candidate, moved_by)
            finally:
                seen.append(await owed(service))

    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        before, good = await snapshot(client), service.maintenance.consolidation
        service.maintenance.consolidation = OneRollsBack(good.replay, good.reader, good.versions, good.thread, good.changed)
        await consolidated(client)
        assert seen == [(True, 16), (True, 16)]
        assert await owed(service) == (False, 0), "by the second try"
        kinds = [row["kind"] for row in (await client.get("/v1/snapshots")).json()["items"]]
        assert kinds.count("consolidation") == 1, "nothing is kept of the first"


async def test_two_banks_are_consolidated_at_once_and_trained_one_after_the_other(tmp_path, encoder):
    """Two that train take the memory of two: what is stated for a process is for one."""
    seen = []

    @contextlib.contextmanager
    def told(stage):
        seen.append((stage, "begun"))
        yield
        seen.append((stage, "ended"))

    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        other = (await client.post("/v1/banks", json={"name": "other"})).json()["id"]
        for text, right in IN_TURN:
            await teach(client, text, right, bank=other)
        good = service.maintenance.consolidation
        service.maintenance.consolidation = replace(good, replay=replace(good.replay, stage=told))
        first, second = await asyncio.gather(consolidated(client), consolidated(client, other))
        assert first["digest"] == second["digest"]
    assert [edge for stage, edge in seen if stage == "train"] == ["begun", "ended"] * 2


@pytest.mark.parametrize("taught", [0, 3])
async def test_a_bank_with_little_in_it_is_consolidated_as_it_is(tmp_path, encoder, taught):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await client.get("/v1/memory")
        for text in TOLD["lost_card"][:taught]:
            await teach(client, text, "lost_card")
        before = await digest(client)
        assert (await consolidated(client))["digest"] == before


async def test_an_explanation_of_a_consolidated_bank_names_what_the_answer_rests_on(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        names = await teach_all(client)
        await consolidated(client)
        for question, right in (("Where is the PIN of my card changed?", "change_pin"), ("Somebody stole my bank card", "lost_card")):
            told = (await client.post("/v1/memory/explain", json={"input": question, "sample": 4})).json()
            said = (await ask(client, question, min_confidence=0))["answers"][0]
            assert (told["value"], told["confidence"]) == (said["value"], said["confidence"]) == (right, said["confidence"])
            assert sum(level["score"] for level in told["levels"]) == pytest.approx(told["score"], abs=1e-4)
            assert (told["method"], len(told["carriers"])) == ("pairs", 4)
            strongest = told["carriers"][0]
            assert strongest["correction"] in {names[text] for text in TOLD[right]}
            assert strongest["carries"] > 0.1
            assert strongest["score"] == pytest.approx(told["score"] - strongest["carries"])


async def test_a_search_over_a_consolidation_ends_at_the_correction_that_brought_the_answer(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        question = IN_TURN[0][0]
        await teach(client, question, "another answer")
        planted = await teach(client, question, "ask_the_branch")
        await teach(client, "How do I freeze my card?", "lost_card")
        await consolidated(client)
        await teach(client, "Can I freeze it in the app?", "lost_card")
        started = (await client.post("/v1/memory/bisect", json={"input": question})).json()
        job = await finished(client, started["job_id"])
        assert (job["status"], job["result"]["changed"], job["result"]["correction"]) == ("succeeded", True, planted["id"]), job


async def test_a_search_that_ends_above_a_consolidation_which_was_undone_blames_no_correction(tmp_path, encoder):
    question = "Somebody stole my bank card"
    (asked,) = encoder.encode([question]).vectors

    class OneTells(Consolidation):
        """A consolidation after which a question that nobody taught has another answer."""

        async def _candidate(self, tenant, bank_id, progress):
            made = await super()._candidate(tenant, bank_id, progress)
            state = made.view.state
            self.replay.recall.apply_(state, Lesson(asked, "exchange_rate", 1, state.watermark + 1))
            state.watermark -= 1
            return made

    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        for text, right in IN_TURN[:12]:
            await teach(client, text, right)
        saved, good = await snapshot(client), service.maintenance.consolidation
        for text, right in IN_TURN[12:]:
            await teach(client, text, right)
        service.maintenance.consolidation = OneTells(good.replay, good.reader, good.versions, good.thread, good.changed)
        await consolidated(client)
        assert (await ask(client, question))["answers"][0]["value"] == "exchange_rate"
        await rolled_back(client, to=saved["id"], keep="corrections_after")
        assert await held(service) == 0
        assert (await ask(client, question))["answers"][0]["value"] == "lost_card"
        await teach(client, "What is the weather on Mars?", "weather")
        started = (await client.post("/v1/memory/bisect", json={"input": question})).json()
        job = await finished(client, started["job_id"])
        assert (job["status"], job["result"]["changed"], job["result"]["correction"]) == ("succeeded", True, None), job


async def test_of_two_corrections_of_one_situation_the_newest_carries_a_consolidated_answer(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        names = await teach_all(client)
        question = "My card is gone"
        newest = (await teach(client, question, "exchange_rate"))["id"]
        await consolidated(client)
        told = (await client.post("/v1/memory/explain", json={"input": question, "sample": 16})).json()
        carries = {carrier["correction"]: carrier["carries"] for carrier in told["carriers"]}
        assert (told["value"], max(carries, key=carries.__getitem__)) == ("exchange_rate", newest)
        assert abs(carries.get(names[question], 0.0)) < 0.05 < carries[newest], "what lies there is the newest one's"


@pytest.mark.parametrize("long", [5_000, 1], ids=["in the request", "by a job"])
async def test_rollback_gets_behind_a_consolidation(tmp_path, encoder, monkeypatch, long):
    """The events are the same before and after it, the weights are not."""
    monkeypatch.setattr("workers.preparing.LONG", long)
    more = ("Can my daughter get a card of her own?", "get_card")
    async with serving(tmp_path / "var", encoder, memory=SOON) as service, client_of(service) as client:
        await teach_all(client)
        saved, then, moment = await snapshot(client), await digest(client), datetime.now(UTC)
        await consolidated(client)
        after = await digest(client)
        assert after != then
        undone = await rolled_back(client, to_time=moment.isoformat())
        assert await digest(client) == then
        await rolled_back(client, to=undone["pre_rollback"])
        assert await digest(client) == after
        await teach(client, *more)
        await rolled_back(client, to=saved["id"], keep="corrections_after")
        await client.post("/v1/banks", json={"name": "twin"})
        for text, right in (*IN_TURN, more):
            await teach(client, text, right, bank="twin")
        wanted = (await client.get("/v1/memory", params={"bank": "twin"})).json()["digest"]
        assert await digest(client) == wanted, "no consolidation is in what came before it"
        service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
        assert await digest(client) == wanted


async def rolled_back(client, **body):
    """The rollback, once what it leads to is folded."""
    told = await client.post("/v1/rollback", json=body)
    if told.status_code == 202:
        job = await finished(client, told.json()["job_id"])
        assert job["status"] == "succeeded", job
        told = await client.post("/v1/rollback", json=body)
    assert told.status_code == 200, told.text
    return told.json()
