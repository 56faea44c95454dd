"""What was taught is right when it is asked in the same words, at any later time; what was forgotten or replaced is not told."""

import pytest
from saying import PIN, SPAIN, ask, snapshot, teach
from sqlalchemy import update

from model import Candidate
from service.store import history
from service.store.tables import event
from workers import judging
from workers.reading import Judged

CROWD = [f"What is the code of locker number {number}?" for number in range(40)]
CODES = ["red", "green", "blue"]
OLD = "Where do I change my PIN?"
NEW = ("Where do I change my PIN now?", "Where do I change my PIN, please?", "Where to change my PIN?", "Where do we change my PIN?")


def first(recalled):
    return recalled["answers"][0]["value"] if recalled["answers"] else None


async def forget(client, *names, mode="suppress"):
    response = await client.post("/v1/forget", json={"corrections": list(names), "mode": mode})
    assert response.status_code == 202, response.text


async def crowd(client):
    """Teach more look-alikes than a memory of one width tells apart; their ids."""
    return [(await teach(client, text, f"{CODES[place % 3]} {place % 7}"))["id"] for place, text in enumerate(CROWD)]


async def test_what_was_taught_is_right_in_its_own_words_among_look_alikes(client):
    names = await crowd(client)
    for place, (text, name) in enumerate(zip(CROWD, names, strict=True)):
        recalled = await ask(client, text)
        assert first(recalled) == f"{CODES[place % 3]} {place % 7}"
        assert recalled["answers"][0]["support"][0] == name
        assert recalled["answers"][0]["confidence"] >= 0.99


async def test_the_ledger_answers_where_the_weights_do_not(client, service, monkeypatch):
    """The weights are made to forget everything; the answer says who gave it."""
    taught = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    engine = service.engine
    warm = engine.banks.peek(await engine.banks.id_of(service.tenant, "default"))
    for tensor in warm.view.state.levels["fast"]:
        if tensor == "errors":
            warm.view.state.levels["fast"][tensor].zero_()
    answer = (await ask(client, PIN))["answers"][0]
    assert (answer["value"], answer["level"], answer["support"]) == ("change_pin", judging.LEDGER, [taught["id"]])
    assert (await ask(client, "How do I get a new PIN?"))["abstained"], "only the same words are looked up"


async def test_weights_that_know_it_say_so(client):
    await teach(client, PIN, "change_pin")
    assert (await ask(client, PIN))["answers"][0]["level"] == "fast"


async def test_a_later_correction_of_the_same_words_is_the_answer(client):
    await teach(client, PIN, "change_pin")
    later = await teach(client, PIN, "ask_the_branch")
    assert first(await ask(client, PIN)) == "ask_the_branch"
    await forget(client, later["id"])
    assert first(await ask(client, PIN)) == "change_pin", "what was replaced returns when its successor is forgotten"


async def test_capitals_marks_and_articles_make_no_other_words(client):
    await teach(client, "where do i change my PIN", "change_pin")
    later = await teach(client, "Where do I change my pin?", "ask_the_branch")
    for text in ("where do i change my PIN", "Where do I change my PIN?", "“Where do I change my pin”"):
        answer = (await ask(client, text))["answers"][0]
        assert (answer["value"], answer["support"][0]) == ("ask_the_branch", later["id"])
    await forget(client, later["id"])
    assert first(await ask(client, "Where do I change my pin?")) == "change_pin"


async def test_same_words_from_before_words_were_compared_replace_each_other_as_they_did(client, service):
    """Of an upgraded ledger: each is found by its letters alone, and the newer one is one witness only."""
    await teach(client, "where do i change my PIN", "change_pin")
    await teach(client, "Where do I change my PIN?", "ask_the_branch")
    async with service.database.write(service.tenant) as conn:
        await conn.execute(update(event).values(words_hash=None))
    assert first(await ask(client, "where do i change my PIN")) == "ask_the_branch"


async def test_texts_of_the_same_words_are_each_answered_in_one_request(client):
    taught = await teach(client, "Where do I change my PIN?", "change_pin")
    response = await client.post("/v1/recall/batch", json={"inputs": ["where do i change my pin", "Where do I change my PIN?", SPAIN]})
    results = response.json()["results"]
    assert [first(result) for result in results] == ["change_pin", "change_pin", None]
    assert results[0]["answers"][0]["support"] == [taught["id"]]


async def test_one_other_wording_with_another_answer_supersedes_nothing(client, monkeypatch):
    """However alike, and though the weights say it: as a rule it has an answer of its own."""
    await teach(client, OLD, "visit_a_branch")
    await teach(client, NEW[1], "ask_the_branch")
    assert first(await ask(client, OLD)) == "visit_a_branch"
    assert first(await ask(client, NEW[1])) == "ask_the_branch"
    monkeypatch.setattr(judging, "WITNESSES", 1)
    assert first(await ask(client, OLD)) == "ask_the_branch"


async def test_what_was_corrected_in_several_other_wordings_is_corrected_in_the_old_one(client):
    await teach(client, OLD, "visit_a_branch")
    await teach(client, NEW[0], "ask_the_branch")
    assert first(await ask(client, OLD)) == "visit_a_branch"
    for text in NEW[1:]:
        await teach(client, text, "ask_the_branch")
    assert first(await ask(client, OLD)) == "ask_the_branch"


async def test_wordings_that_are_taught_in_turn_are_kept_apart(client):
    """The newer ones superseded nothing: their words were there, with another answer, when the old ones were taught."""
    for text in NEW:
        await teach(client, text, "visit_a_branch")
    await teach(client, OLD, "change_pin")
    newest = [(await teach(client, text, "ask_the_branch"))["id"] for text in NEW]
    assert first(await ask(client, OLD)) == "change_pin"
    assert [first(await ask(client, text)) for text in NEW] == ["ask_the_branch"] * len(NEW)
    await forget(client, *newest)
    assert first(await ask(client, OLD)) == "change_pin"


async def test_a_new_answer_to_several_wordings_is_that_of_another_that_had_the_same_answer(client):
    for text in (*NEW, OLD):
        await teach(client, text, "visit_a_branch")
    for text in NEW:
        await teach(client, text, "ask_the_branch")
    assert first(await ask(client, OLD)) == "ask_the_branch"


async def test_words_that_were_forgotten_before_are_new_when_they_are_taught_again(client):
    older = [(await teach(client, text, "visit_a_branch"))["id"] for text in NEW]
    await forget(client, *older)
    await teach(client, OLD, "change_pin")
    for text in NEW:
        await teach(client, text, "ask_the_branch")
    assert first(await ask(client, OLD)) == "ask_the_branch"


async def test_a_forgotten_correction_is_not_looked_up(client):
    taught = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    await forget(client, taught["id"])
    assert first(await ask(client, PIN)) != "change_pin"


async def test_an_older_state_answers_with_what_it_knew(client):
    await teach(client, PIN, "change_pin")
    then = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    await teach(client, SPAIN, "transfer_time")
    assert first(await ask(client, PIN, at=then["id"])) == "change_pin"
    assert first(await ask(client, SPAIN, at=then["id"])) != "transfer_time"
    response = await client.post("/v1/rollback", json={"to": then["id"]})
    assert response.status_code == 200, response.text
    assert first(await ask(client, PIN)) == "change_pin"
    assert first(await ask(client, SPAIN)) != "transfer_time"


async def test_corrections_outside_the_state_are_passed_over_however_many(client, monkeypatch):
    monkeypatch.setattr(judging, "LATEST", 2)
    await teach(client, PIN, "change_pin")
    then = await snapshot(client)
    for number in range(7):
        await teach(client, PIN, f"answer {number}")
    assert first(await ask(client, PIN, at=then["id"])) == "change_pin"


async def test_facts_about_somebody_else_are_not_answered(client):
    people = ["Danielle Darrieux", "Jules Renard", "Ilya Repin", "Paolo Conte"]
    languages = ["French", "English", "Russian", "Italian"]
    for person, language in zip(people, languages, strict=True):
        await teach(client, f"The mother tongue of {person} is", language)
    assert first(await ask(client, "The native language of Paolo Conte is")) == "Italian"
    assert (await ask(client, "The mother tongue of Akira Kurosawa is", min_confidence=0.5))["abstained"]


async def test_a_receipt_says_what_a_recall_would_have_said(client):
    await crowd(client)
    for text in CROWD[::9]:
        said = first(await ask(client, text))
        receipt = (await teach(client, text, f"new {text}", paraphrases=[text]))["receipt"]
        assert receipt["item"]["before"]["value"] == said
        assert receipt["item"]["after"]["value"] == f"new {text}" == first(await ask(client, text))
        assert receipt["paraphrase"] == {"n": 1, "fixed": 1}


async def test_texts_of_one_request_are_looked_up_once(client, monkeypatch):
    await teach(client, PIN, "change_pin")
    asked = []
    same_input = history.same_input

    async def noted(conn, tenant, bank, text, limit, below=None):
        asked.append(text)
        return await same_input(conn, tenant, bank, text, limit, below)

    monkeypatch.setattr(history, "same_input", noted)
    response = await client.post("/v1/recall/batch", json={"inputs": [PIN, SPAIN, PIN]})
    assert response.status_code == 200, response.text
    assert asked == [PIN, SPAIN]
    assert [first(result) for result in response.json()["results"]] == ["change_pin", None, "change_pin"]


def candidates(*told):
    return [Candidate(place, score, confidence, "fast", 0.1) for place, (score, confidence) in enumerate(told)]


PLAIN = ((0.9, 0.95), (0.1, 0.01))
CALLS = {
    "plainly the first": (PLAIN, PLAIN, 1, False),
    "two as good as equal": (((0.50001, 0.4), (0.5, 0.4)), ((0.50001, 0.4), (0.5, 0.4)), 1, True),
    "at the threshold": (((0.5, 0.1204), (0.1, 0.01)), ((0.5, 0.1204), (0.1, 0.01)), 1, True),
    "at the threshold once the texts are compared": (PLAIN, ((0.9, 0.1196), (0.1, 0.01)), 1, True),
    "hardly doubtful once the texts are compared": (PLAIN, ((0.9, 0.4995), (0.1, 0.01)), 1, True),
    "others as good as equal, and not heard": (((0.9, 0.95), (0.10001, 0.01), (0.1, 0.01)), ((0.9, 0.95), (0.1, 0.01)), 1, False),
    "others as good as equal, and heard": (((0.9, 0.3), (0.2, 0.02), (0.10001, 0.01), (0.1, 0.01)), ((0.9, 0.3), (0.2, 0.02)), 3, True),
    "evidence as good as equal": (((0.9, 0.95), (0.6, 0.2)), ((0.9, 0.3), (0.6, 0.53811)), 2, True),
    "evidence for the first": (((0.9, 0.95), (0.6, 0.2)), ((0.9, 0.4), (0.6, 0.2)), 2, False),
    "nothing": ((), (), 0, False),
}


@pytest.mark.parametrize("name", CALLS)
def test_what_rounding_could_decide_is_seen(name):
    found, told, heard, close = CALLS[name]
    judged = Judged(candidates(*told), {place: [] for place in range(heard)}, None)
    assert judging.is_close(candidates(*found), judged, 0.12) == close


async def test_many_questions_at_once_are_answered_as_each_alone(client, service, monkeypatch):
    """Also where all of them are taken for close calls, and where none is."""
    await crowd(client)
    texts = [*CROWD, *(text.replace("What is the code of", "Which code has") for text in CROWD)]
    alone = [first(await ask(client, text)) for text in texts]
    for close in (judging.is_close, lambda *_: True, lambda *_: False):
        monkeypatch.setattr(judging, "is_close", close)
        rows = (await client.post("/v1/memory/probe", json={"inputs": texts})).json()["rows"]
        assert [None if cell["abstained"] else cell["value"] for (cell,) in rows] == alone
