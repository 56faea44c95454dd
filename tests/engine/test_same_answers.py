"""Whoever looks into a bank is told what a recall is told: probes, diffs, previews, traces, explanations and branches ask as it does.

The bank is made so that weights alone would say something else: look-alikes that only the ledger tells apart, facts about several people,
something corrected in other words, something forgotten.
"""

import pytest
import pytest_asyncio
from fixtures_service import finished
from saying import ask, snapshot, teach

LOCKERS = [f"What is the code of locker number {number}?" for number in range(24)]
PEOPLE = {"Danielle Darrieux": "French", "Jules Renard": "English", "Ilya Repin": "Russian", "Paolo Conte": "Italian"}
FACTS = [f"The mother tongue of {person} is" for person in PEOPLE]
UNTAUGHT = [
    "Where Paolo Conte is from, people speak the language of",
    "The mother tongue of Akira Kurosawa is",
    "what is the code of locker number 3",
    "Is there any jazz in the kitchen?",
]
ASKED = [*LOCKERS, *FACTS, *UNTAUGHT]


@pytest_asyncio.fixture
async def bank(client):
    """A bank with a snapshot in the middle of its life: the snapshot's id, and the corrections that came after it by their inputs."""
    for place, text in enumerate(LOCKERS):
        await teach(client, text, f"{('red', 'green', 'blue')[place % 3]} {place % 7}")
    for text, language in zip(FACTS[:2], list(PEOPLE.values())[:2], strict=True):
        await teach(client, text, language)
    saved, later = await snapshot(client), {}
    for text, language in zip(FACTS[2:], list(PEOPLE.values())[2:], strict=True):
        later[text] = (await teach(client, text, language))["id"]
    for place in (2, 9, 16):
        later[LOCKERS[place]] = (await teach(client, LOCKERS[place], f"yellow {place}"))["id"]
    reworded = "Tell me the code of the locker with the number 5"
    later[reworded] = (await teach(client, reworded, "black 5"))["id"]
    gone = await teach(client, LOCKERS[11], "a secret")
    await done(client, await posted(client, "/v1/forget", corrections=[gone["id"]], mode="suppress"))
    return saved["id"], later


async def posted(client, path, **body):
    response = await client.post(path, json=body)
    assert response.is_success, response.text
    return response.json()


async def done(client, started):
    if started.get("job_id"):
        assert (await finished(client, started["job_id"]))["status"] == "succeeded"


async def recalled(client, texts, **more) -> dict[str, tuple]:
    """Value and confidence of the best guess for each text, and whether it is only a guess."""
    results = (await posted(client, "/v1/recall/batch", inputs=texts, min_confidence=0, **more))["results"]
    best = [each["answers"][0] if each["answers"] else {"value": None, "confidence": 0.0} for each in results]
    return {text: (one["value"], one["confidence"], each["abstained"]) for text, one, each in zip(texts, best, results, strict=True)}


def given(said: tuple) -> str | None:
    return None if said[2] else said[0]


async def corrections(client, **params) -> dict[str, str]:
    """The ids of the bank's corrections that are not forgotten, with their inputs."""
    items = (await client.get("/v1/corrections", params={"limit": 200, **params})).json()["items"]
    return {item["id"]: item["input"] for item in items if item["status"] != "forgotten"}


async def test_the_bank_is_one_whose_weights_would_say_something_else(client, bank):
    levels = [(await ask(client, text))["answers"][0]["level"] for text in LOCKERS]
    assert "ledger" in levels


async def test_probes_of_head_and_snapshot_are_what_recalls_say(client, bank):
    saved, _ = bank
    matrix = await posted(client, "/v1/memory/probe", inputs=ASKED, at=["head", saved])
    for column, at in enumerate(("head", saved)):
        said = await recalled(client, ASKED, at=at)
        for text, row in zip(ASKED, matrix["rows"], strict=True):
            assert (row[column]["value"], row[column]["abstained"]) == (said[text][0], said[text][2]), text
            assert row[column]["confidence"] == pytest.approx(said[text][1], abs=1e-5), "many are read together"


async def test_explanations_and_traces_are_of_what_recalls_say(client, bank):
    for text in (*ASKED[::5], *UNTAUGHT):
        (said,) = (await recalled(client, [text])).values()
        told = await posted(client, "/v1/memory/explain", input=text, sample=2)
        assert (told["value"], told["abstained"]) == (said[0], said[2]), text
        assert told["confidence"] == pytest.approx(said[1], abs=1e-6)
    for name, text in (await corrections(client)).items():
        (said,) = (await recalled(client, [text])).values()
        told = (await client.get(f"/v1/memory/corrections/{name}/trace")).json()
        item = (await client.get(f"/v1/corrections/{name}")).json()
        assert told["right_now"] == (given(said) == item["right"]), text
        if told["right_now"]:
            assert (told["rank"], told["confidence"]) == (1, pytest.approx(said[1], abs=1e-6))


async def test_diff_is_the_difference_of_recalls(client, bank):
    saved, _ = bank
    told = (await client.get(f"/v1/snapshots/{saved}/diff/head")).json()
    live = await corrections(client)
    before, after = [await recalled(client, list(live.values()), at=at) for at in (saved, "head")]
    changed = {name: (given(before[text]), given(after[text])) for name, text in live.items() if given(before[text]) != given(after[text])}
    assert {flip["correction"]: (flip["before"]["value"], flip["after"]["value"]) for flip in told["flips"]} == changed
    assert len(changed) >= 5


async def test_preview_of_a_rollback_is_what_happens(client, bank):
    saved, _ = bank
    live = await corrections(client)
    preview, before = await posted(client, "/v1/rollback", to=saved, dry_run=True), await recalled(client, list(live.values()))
    await posted(client, "/v1/rollback", to=saved)
    after = await recalled(client, list(live.values()))
    changed = {name: (given(before[text]), given(after[text])) for name, text in live.items() if given(before[text]) != given(after[text])}
    assert {flip["correction"]: (flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]} == changed
    assert len(changed) >= 5


async def test_preview_of_a_forget_is_what_happens(client, bank):
    _, later = bank
    names, live = list(later.values()), await corrections(client)
    preview, before = (
        await posted(client, "/v1/forget", corrections=names, mode="suppress", dry_run=True),
        await recalled(client, list(live.values())),
    )
    await posted(client, "/v1/forget", corrections=names, mode="suppress")
    after = await recalled(client, list(live.values()))
    changed = {name: (given(before[text]), given(after[text])) for name, text in live.items() if given(before[text]) != given(after[text])}
    assert {flip["correction"]: (flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]} == changed
    assert len(changed) >= 5


async def test_contrast_with_a_branch_is_the_difference_of_recalls(client, bank):
    branch = await posted(client, "/v1/branches", name="what-if")
    for place in (4, 13):
        await teach(client, LOCKERS[place], "violet", bank="what-if")
    told = (await client.get(f"/v1/branches/{branch['id']}/diff")).json()
    live = {**await corrections(client), **await corrections(client, bank="what-if")}
    ours, theirs = await recalled(client, list(live.values())), await recalled(client, list(live.values()), bank="what-if")
    for flip in told["flips"]:
        text = flip["input"]
        assert (flip["before"]["value"], flip["after"]["value"]) == (given(ours[text]), given(theirs[text]))
    assert {flip["input"] for flip in told["flips"]} >= {LOCKERS[4], LOCKERS[13]}
    asked = {live[flip["correction"]] for flip in told["flips"]}
    assert asked == {text for text in live.values() if given(ours[text]) != given(theirs[text])}


async def test_receipt_names_as_flipped_only_what_is_answered_otherwise(client, bank):
    live = await corrections(client)
    for text in (LOCKERS[7], "Which code has locker number 8?", "The mother tongue of Ilya Repin is"):
        before = await recalled(client, list(live.values()))
        receipt = (await teach(client, text, f"new {text}"))["receipt"]
        after = await recalled(client, list(live.values()))
        assert 1 <= receipt["locality"]["n"] <= 4
        for name in receipt["locality"]["flipped"]:
            assert given(before[live[name]]) != given(after[live[name]]), live[name]


async def test_bisection_ends_where_recalls_begin_to_say_so(client, bank):
    _, later = bank
    started = await posted(client, "/v1/memory/bisect", input=LOCKERS[9])
    job = await finished(client, started["job_id"])
    assert job["result"]["correction"] == later[LOCKERS[9]], job
