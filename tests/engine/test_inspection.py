"""What an admin is told of a bank is what the bank does: traces, probes and explanations agree with asking, and with folding by hand."""

import numpy as np
import pytest
from fixtures_service import finished
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import until

from model import Asked, Lesson, Recall, RecallConfig
from workers import judging, level_view
from workers.encoding import own_words

STORY = [
    (PIN, "change_pin"),
    (SPAIN, "transfer_time"),
    ("The machine swallowed my card", "card_swallowed"),
    ("How do I get a new PIN?", "change_pin"),
    ("I was charged twice for one coffee", "charged_twice"),
    ("Can my daughter get a card of her own?", "get_card"),
    ("How long until money arrives in France?", "transfer_time"),
    ("My card did not come back from the machine", "card_swallowed"),
]


class Fold:
    """The bank's memory, folded by hand."""

    def __init__(self, encoder) -> None:
        self.recall, self.encoder = Recall(RecallConfig.tiny(encoder_digest=encoder.digest)), encoder
        self.book = self.recall.book()

    def encoded(self, text: str):
        found = self.encoder.encode([text])
        return found.vectors[0], found.tokens[0]

    def lessons(self, story) -> list[Lesson]:
        made, known = [], set()
        for seq, (text, right) in enumerate(story, start=1):
            key, tokens = self.encoded(text)
            words = own_words(right)
            made.append(Lesson(key, right, tokens, seq, None if words is None else self.encoded(words)[0]))
            if right not in known:
                self.book.add(right)
                known.add(right)
        return made

    def standing(self, lessons, text: str, right: str, without: int | None = None):
        """How an answer stands at a text in a memory that was never taught the lesson `without`."""
        kept = [lesson for lesson in lessons if lesson.seq != without]
        state = self.recall.fold(self.recall.initial(), kept)
        mask = np.array([any(self.book.place(lesson.right) == place for lesson in kept) for place in range(len(self.book))])
        answering, (reading,) = self.recall.look(Asked(state, self.encoded(text)[0][None], self.book, 1, mask))
        return answering.standing(reading, self.book.place(right)), answering.candidates(reading)


async def taught_story(client) -> list[dict]:
    return [await teach(client, text, right) for text, right in STORY]


async def got(client, path, expect=200, **params):
    response = await client.get(path, params=params)
    assert response.status_code == expect, response.text
    return response.json()


async def trace(client, correction, **params):
    return await got(client, f"/v1/memory/corrections/{correction}/trace", **params)


async def posted(client, path, expect=200, **body):
    response = await client.post(path, json=body)
    assert response.status_code == expect, response.text
    return response.json()


# --- receipts


async def test_receipt_names_the_other_corrections_whose_answer_changed(client):
    first = await teach(client, PIN, "change_pin")
    assert first["receipt"]["locality"] == {"n": 0, "flipped": []}, "there is no other"
    near = await teach(client, "Where do I change the PIN of my card?", "change_pin")
    assert near["receipt"]["locality"]["n"] == 1
    await teach(client, SPAIN, "transfer_time")
    again = await teach(client, PIN, "ask_the_branch")
    asked = (await ask(client, "Where do I change the PIN of my card?"))["answers"]
    moved = not asked or asked[0]["value"] != "change_pin"
    assert (near["id"] in again["receipt"]["locality"]["flipped"]) == moved
    assert first["id"] not in again["receipt"]["locality"]["flipped"], "what is superseded in its own situation is no other"


async def test_batch_asks_no_more_of_other_corrections_than_one_request_may(client):
    items = [{"input": f"{PIN} {number}", "right": f"answer {number % 3}"} for number in range(70)]
    taught = (await posted(client, "/v1/corrections/batch", 201, items=items))["items"]
    assert {item["receipt"]["locality"]["n"] for item in taught} == {0}, "64 at most, so none for each of 70"
    taught = (await posted(client, "/v1/corrections/batch", 201, items=items[:32]))["items"]
    assert sum(item["receipt"]["locality"]["n"] for item in taught) <= 64


# --- trace


async def test_trace_tells_what_a_fold_by_hand_has_by_level_and_by_snapshot(client, encoder):
    taught, fold = await taught_story(client), Fold(encoder)
    saved = await snapshot(client)
    more = [(PIN, "ask_the_branch"), ("My PIN is blocked", "unblock_pin")]
    for text, right in more:
        await teach(client, text, right)
    lessons = fold.lessons([*STORY, *more])
    told = await trace(client, taught[3]["id"])
    now, _ = fold.standing(lessons, STORY[3][0], STORY[3][1])
    assert (told["rank"], told["confidence"]) == (1, max(now.confidence, judging.CERTAIN)), "it is asked in the very words"
    assert told["right_now"] is True
    (kept,) = told["snapshots"]
    then = Fold(encoder)
    before, _ = then.standing(then.lessons(STORY), STORY[3][0], STORY[3][1])
    assert (kept["snapshot"], kept["seq"], kept["rank"]) == (saved["id"], 8, 1)
    assert (kept["score"], kept["confidence"]) == (before.score, max(before.confidence, judging.CERTAIN))
    assert [level["name"] for level in told["levels"]] == ["fast", "middle", "slow"]
    assert told["levels"][0]["score"] == pytest.approx(now.score, abs=1e-6), "nothing has left the window"
    silent = {"score": 0.0, "confidence": 0.0, "rank": None}
    assert told["levels"][1:] == [{"name": "middle", **silent}, {"name": "slow", **silent}], "they say nothing yet"
    assert told["verified_at"] is not None


async def test_trace_names_its_snapshots_as_people_do(client):
    taught = await teach(client, PIN, "change_pin")
    for label in ("before the sale", None):
        await posted(client, "/v1/snapshots", 201, label=label)
    assert [one["label"] for one in (await trace(client, taught["id"]))["snapshots"]] == [None, "before the sale"]
    newest = (await got(client, "/v1/snapshots"))["items"][0]["id"]
    assert (await client.patch(f"/v1/snapshots/{newest}", json={"label": "after it"})).status_code == 200
    assert [one["label"] for one in (await trace(client, taught["id"]))["snapshots"]] == ["after it", "before the sale"]


async def test_trace_of_a_superseded_correction_names_who_superseded_it(client):
    first = await teach(client, PIN, "change_pin")
    second = await teach(client, PIN, "ask_the_branch")
    third = await teach(client, PIN, "change_pin")
    told = await trace(client, first["id"])
    assert (told["status"], told["superseded_by"], told["removed"]) == ("superseded", second["id"], None)
    told = await trace(client, third["id"])
    assert (told["status"], told["superseded_by"], told["right_now"]) == ("active", None, True)


async def test_trace_of_a_rolled_back_correction_names_the_rollback_and_the_snapshots_that_still_hold_it(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    gone = await teach(client, SPAIN, "transfer_time")
    moved = await posted(client, "/v1/rollback", to=saved["id"])
    told = await trace(client, gone["id"])
    assert (told["status"], told["removed"]["by"], told["removed"]["id"]) == ("rolled_back", "rollback", moved["head"])
    assert (told["right_now"], told["rank"], told["confidence"]) == (False, None, 0.0)
    assert [(one["snapshot"], one["rank"]) for one in told["snapshots"]] == [(moved["pre_rollback"], 1)]
    await teach(client, SPAIN, "transfer_time")
    assert (await trace(client, gone["id"]))["status"] == "rolled_back", "that it was said again is another correction"


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_trace_of_a_forgotten_correction_tells_who_forgot_it_and_asks_nothing(client, mode):
    taught = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    await snapshot(client)
    forgotten = await posted(client, "/v1/forget", 202, corrections=[taught["id"]], mode=mode)
    for _ in range(2):
        told = await trace(client, taught["id"])
        removed = {name: told["removed"][name] for name in ("by", "id", "mode")}
        assert (told["status"], removed) == ("forgotten", {"by": "forget", "id": forgotten["id"], "mode": mode})
        nothing = [told[name] for name in ("right_now", "confidence", "rank", "verified_at", "levels", "snapshots", "holding")]
        assert nothing == [None, None, None, None, [], [], 0]
        if forgotten["job_id"]:
            assert (await finished(client, forgotten["job_id"]))["status"] == "succeeded"


async def test_unknown_correction_has_no_trace(client):
    await got(client, "/v1/memory/corrections/cor_unknown/trace", expect=404)


# --- probe


async def test_matrix_says_what_each_version_answers_when_it_is_asked(client):
    await taught_story(client)
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    genesis = (await got(client, "/v1/snapshots"))["items"][-1]
    inputs, at = [PIN, SPAIN, "Play some jazz in the kitchen."], ["head", saved["id"], genesis["id"], "head"]
    matrix = await posted(client, "/v1/memory/probe", inputs=inputs, at=at)
    assert [version["at"] for version in matrix["versions"]] == at
    for column, name in enumerate(at):
        for row, text in zip(matrix["rows"], inputs, strict=True):
            asked = await ask(client, text, at=name, min_confidence=0)
            best = asked["answers"][0] if asked["answers"] else {"value": None, "confidence": 0.0}
            assert row[column] == {"value": best["value"], "confidence": best["confidence"], "abstained": asked["abstained"]}
            assert matrix["versions"][column]["state"] == asked["state"]
    assert [row[2]["abstained"] for row in matrix["rows"]] == [True] * 3, "the genesis knows nothing"
    assert matrix["rows"][0][0]["value"] != matrix["rows"][0][1]["value"]


async def test_probe_of_any_version_is_silent_about_what_was_forgotten(client):
    taught = await teach(client, PIN, "the secret answer")
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)
    at = ["head", saved["id"]]
    before = await posted(client, "/v1/memory/probe", inputs=[PIN], at=at)
    assert [cell["value"] for cell in before["rows"][0]] == ["the secret answer"] * 2
    await posted(client, "/v1/forget", 202, corrections=[taught["id"]], mode="suppress")
    after = await posted(client, "/v1/memory/probe", inputs=[PIN], at=at)
    assert "secret" not in str(after)
    explained = await posted(client, "/v1/memory/explain", input=PIN)
    assert "secret" not in str(explained)
    assert taught["id"] not in str(explained)


async def test_probe_of_a_snapshot_that_there_is_not_is_refused(client):
    await teach(client, PIN, "change_pin")
    response = await client.post("/v1/memory/probe", json={"inputs": [PIN], "at": ["head", "snap_unknown"]})
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


# --- explain


async def test_correction_left_out_is_told_as_a_fold_without_it_has_it(client, encoder):
    taught, fold = await taught_story(client), Fold(encoder)
    lessons, question = fold.lessons(STORY), "Where can I get another PIN?"
    told = await posted(client, "/v1/memory/explain", input=question, sample=len(STORY))
    whole, best = fold.standing(lessons, question, told["value"])
    assert fold.book.place(told["value"]) == best[0].index
    said = (await ask(client, question, min_confidence=0))["answers"][0]
    assert (told["score"], told["confidence"], told["level"]) == (whole.score, said["confidence"], "fast")
    assert (told["method"], told["sample"]) == ("fold", len(STORY))
    for carrier in told["carriers"]:
        place = next(place for place, one in enumerate(taught) if one["id"] == carrier["correction"])
        stands, instead = fold.standing(lessons, question, told["value"], without=place + 1)
        assert (carrier["score"], carrier["confidence"], carrier["rank"]) == (stands.score, stands.confidence, stands.rank), STORY[place]
        assert carrier["carries"] == pytest.approx(whole.score - stands.score)
        if carrier["said"]["value"] is not None:
            assert fold.book.place(carrier["said"]["value"]) in [candidate.index for candidate in instead]
        assert carrier["cosine"] == pytest.approx(float(fold.encoded(STORY[place][0])[0] @ fold.encoded(question)[0]), abs=1e-5)
    carries = [carrier["carries"] for carrier in told["carriers"]]
    assert carries == sorted(carries, reverse=True)
    assert sum(level["score"] for level in told["levels"]) == pytest.approx(told["score"], abs=1e-5)


async def test_pairs_taken_out_are_those_of_the_correction_and_together_make_up_the_answer(client, monkeypatch):
    """Where folding would take too long. Leaving out each of all corrections takes away the whole of what the fast level adds."""
    monkeypatch.setattr("workers.explaining.FOLDS", 0)
    taught = await taught_story(client)
    told = await posted(client, "/v1/memory/explain", input="Where can I get another PIN?", sample=64)
    assert told["method"] == "pairs"
    assert {carrier["correction"] for carrier in told["carriers"]} == {one["id"] for one in taught}
    assert sum(carrier["carries"] for carrier in told["carriers"]) == pytest.approx(told["levels"][0]["score"], abs=1e-4)
    strongest = told["carriers"][0]["correction"]
    assert strongest in (taught[0]["id"], taught[3]["id"]), "what says the answer in a situation like this"


async def test_answer_that_lies_in_the_middle_level_has_its_carriers(client, monkeypatch):
    """What has left the window is in the wide weights, which keep no corrections apart: the shares are estimates of what folding tells."""
    mine = [await teach(client, text, "change_pin") for text in (PIN, "How do I get a new PIN?", "I want another PIN for my card")]
    items = [{"input": f"When does branch number {number} open?", "right": f"at {number} past nine"} for number in range(120)]
    await posted(client, "/v1/corrections/batch", 201, items=items)
    question = "Where can I get another PIN?"
    told = await posted(client, "/v1/memory/explain", input=question, sample=4)
    assert (told["value"], told["method"]) == ("change_pin", "fold")
    scores = {level["name"]: level["score"] for level in told["levels"]}
    middle = scores["middle"]
    assert middle > 4 * abs(scores["fast"]), "the pairs have left the window"
    exact = {carrier["correction"]: carrier for carrier in told["carriers"]}
    assert {one["id"] for one in mine} <= exact.keys()
    assert {exact[one["id"]]["level"] for one in mine} == {"middle"}
    monkeypatch.setattr("workers.explaining.FOLDS", 0)
    told = await posted(client, "/v1/memory/explain", input=question, sample=4)
    shares = {carrier["correction"]: carrier["carries"] for carrier in told["carriers"]}
    assert (told["method"], shares.keys()) == ("pairs", exact.keys())
    strongest = {max(found, key=found.get) for found in (shares, {name: one["carries"] for name, one in exact.items()})}
    assert strongest <= {one["id"] for one in mine}
    whole = sum(shares[one["id"]] for one in mine)
    assert whole == pytest.approx(middle, rel=0.4), "together they carry most of it"


async def test_explanation_names_the_nearest_correction_of_the_best_other_answer(client):
    taught = await taught_story(client)
    asked = (await ask(client, "The machine has my card", top_k=2, min_confidence=0, explain=True))["answers"]
    told = await posted(client, "/v1/memory/explain", input="The machine has my card")
    assert told["value"] == asked[0]["value"]
    counter = told["counter"]
    assert (counter["value"], counter["confidence"]) == (asked[1]["value"], asked[1]["confidence"])
    assert counter["correction"] == asked[1]["support"][0]
    assert counter["correction"] in {one["id"] for one in taught}


async def test_explanation_at_a_snapshot_knows_nothing_of_what_came_later(client):
    first = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    told = await posted(client, "/v1/memory/explain", input=PIN, at=saved["id"])
    assert (told["value"], [carrier["correction"] for carrier in told["carriers"]]) == ("change_pin", [first["id"]])
    (only,) = told["carriers"]
    assert (only["rank"], only["said"]) == (None, {"value": None, "confidence": 0.0}), "nothing else says it, and nothing else is known"
    assert told["counter"] is None


async def test_empty_bank_has_nothing_to_explain(client):
    told = await posted(client, "/v1/memory/explain", input=PIN)
    assert (told["value"], told["abstained"], told["carriers"], told["levels"], told["counter"]) == (None, True, [], [], None)


async def test_looking_changes_nothing(client):
    taught = await taught_story(client)
    saved = await snapshot(client)
    before = await digest(client), (await got(client, "/v1/memory"))["state"]
    await posted(client, "/v1/memory/probe", inputs=[PIN], at=["head", saved["id"]])
    await posted(client, "/v1/memory/explain", input=PIN)
    await trace(client, taught[0]["id"])
    await got(client, "/v1/memory/levels")
    assert (await digest(client), (await got(client, "/v1/memory"))["state"]) == before


# --- levels


async def test_levels_tell_clock_drift_and_what_each_knows_alone(client):
    empty = await got(client, "/v1/memory/levels")
    assert [(level["name"], level["updates"], level["norm"], level["alone"]) for level in empty["levels"]] == [
        ("fast", 0, 0.0, None),
        ("middle", 0, 0.0, None),
        ("slow", 0, 0.0, None),
    ]
    assert (empty["corrections"], empty["sample"], empty["compared_with"]) == (0, 0, None)
    await taught_story(client)
    saved = await snapshot(client)
    here = await got(client, "/v1/memory/levels")
    fast, middle, slow = here["levels"]
    assert (here["compared_with"], here["corrections"], here["sample"]) == (saved["id"], 8, 8)
    assert (fast["updates"], fast["tokens_until_update"], fast["period_tokens"]) == (8, 0, 0)
    assert middle["updates"] == here["clock_tokens"] // 16
    assert middle["tokens_until_update"] == 16 - here["clock_tokens"] % 16
    assert (fast["drift_start"], fast["drift_snapshot"], middle["drift_start"]) == (1.0, 0.0, 0.0)
    assert (fast["alone"], middle["alone"]) == (1.0, 0.0), "nothing has left the window"
    assert 0.9 < fast["strength"] <= 1.0
    assert fast["half_life"] is None, "eight corrections tell nothing about it"
    assert fast["pairs"] == 8 + 5, "five answers were new, and their words are taught as well"
    memory = await got(client, "/v1/memory")
    assert [level["norm"] for level in memory["levels"]] == [fast["norm"], middle["norm"], slow["norm"]]
    await teach(client, PIN, "ask_the_branch")
    later = (await got(client, "/v1/memory/levels", sample=4))["levels"][0]
    assert 0.0 < later["drift_snapshot"] < 1.0


async def test_levels_are_asked_about_live_corrections_alone(client):
    taught = await taught_story(client)
    await teach(client, PIN, "ask_the_branch")
    await posted(client, "/v1/forget", 202, corrections=[taught[1]["id"]], mode="suppress")
    here = await got(client, "/v1/memory/levels")
    assert (here["corrections"], here["sample"]) == (8, 7), "one is superseded, one forgotten"
    assert here["levels"][0]["alone"] == 1.0


def test_half_life_is_that_of_a_decline_and_none_where_nothing_declines():
    ages = list(range(0, 200, 5))
    assert level_view.half_life(ages, [0.9 * 0.5 ** (age / 50) for age in ages]) == pytest.approx(50)
    assert level_view.half_life(ages, [0.9] * len(ages)) is None
    assert level_view.half_life(ages, [0.9 * 1.01**age / 100 for age in ages]) is None
    noise = np.random.default_rng(0).uniform(0.1, 0.9, len(ages))
    assert level_view.half_life(ages, list(noise)) is None
    assert level_view.half_life(ages[:10], [0.9 * 0.5 ** (age / 50) for age in ages[:10]]) is None, "too few"
    assert level_view.half_life([3] * 40, [0.5] * 40) is None


# --- statistics


async def counted(client, measured: int) -> dict:
    """The last moment, once so many receipts are noted. Weeks seldom end while a test runs."""

    async def noted() -> dict | None:
        moment = (await got(client, "/v1/stats", bucket="week"))["series"][-1]
        return moment if moment["measured"] == measured else None

    return await until(noted, f"{measured} receipts are noted")


async def test_statistics_count_what_receipts_say(client):
    receipts = [(await teach(client, text, right))["receipt"]["item"] for text, right in [*STORY, (PIN, "change_pin"), (PIN, "other")]]
    moment = await counted(client, 10)
    wrong = [
        (text, right)
        for (text, right), item in zip([*STORY, (PIN, "change_pin"), (PIN, "other")], receipts, strict=True)
        if item["before"]["value"] not in (None, right)
    ]
    silent = [item for item in receipts if item["before"]["value"] is None]
    assert (moment["corrections"], moment["mistakes"], moment["unknown"]) == (10, len(wrong), len(silent))
    assert wrong, "at least the last one was answered otherwise"
    assert 0.0 < moment["surprise"] < 1.0


async def test_surprise_is_one_less_the_confidence_of_the_right_answer_before(client):
    await teach(client, PIN, "change_pin")
    confidence = (await ask(client, PIN))["answers"][0]["confidence"]
    await teach(client, PIN, "change_pin")
    moment = await counted(client, 2)
    assert moment["surprise"] == pytest.approx((1.0 + 1.0 - confidence) / 2)


async def test_drift_of_automatic_snapshots_is_in_the_statistics(client, service):
    from dataclasses import replace

    service.engine._policy = replace(service.engine._policy, snapshot_every=8)
    for text, right in STORY:
        await teach(client, text, right)

    async def compared() -> dict | None:
        return (await got(client, "/v1/stats", bucket="week"))["series"][-1]["drift"]

    drift = await until(compared, "a drift is in the statistics")
    assert drift == {"fast": 1.0, "middle": 0.0, "slow": 0.0}, "the first one is compared with an empty bank"
