"""A user's plain correction in a conversation is proposed: nothing is learned of it before somebody confirms it, nothing is kept after."""

from collections.abc import Iterator

import openai
import pytest
from completing import KEY, completing
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from saying import PIN

from service import settings
from service.ids import new_id

WRONG, RIGHT = "At a branch.", "in the app"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": PIN},
    {"role": "assistant", "content": WRONG},
    {"role": "user", "content": "No, it's in the app."},
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder) -> Iterator[Lab]:
    with completing() as upstream:
        chosen = {"upstreams": (settings.Upstream(url=upstream.url, key=KEY, models=("echo",)),)}
        made = Lab(tmp_path_factory.mktemp("lab") / "var", encoder, **chosen)
        yield made
        made.close()


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    with listening(lab) as base:
        yield base


@pytest.fixture
def bank(lab) -> str:
    return lab.call("POST", "/v1/banks", {"name": new_id("name")}, expect=201)["id"]


@pytest.fixture
def talk(url, bank):
    """Say something in the bank with a key that may only ask; what the reply tells of the memory."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:

        def say(messages=TALK, **memory):
            given = {"memory": {"bank": bank, **memory}}
            return client.chat.completions.create(model="echo+palimpsest", messages=messages, extra_body=given).model_extra["memory"]

        yield say


def listed(lab, bank) -> list[dict]:
    return lab.call("GET", f"/v1/proposals?bank={bank}", expect=200)["items"]


def recalled(lab, bank) -> list[str]:
    return [answer["value"] for answer in lab.call("POST", "/v1/recall", {"input": PIN, "bank": bank}, expect=200)["answers"]]


def test_plain_correction_is_proposed_and_nothing_is_learned(lab, bank, talk):
    proposal = talk(session_id="chat-7")["proposal"]
    assert proposal["id"].startswith("prp_")
    told = {name: proposal[name] for name in ("bank", "input", "wrong", "right", "session_id")}
    assert told == {"bank": bank, "input": PIN, "wrong": WRONG, "right": RIGHT, "session_id": "chat-7"}
    assert listed(lab, bank) == [proposal]
    assert recalled(lab, bank) == []
    assert talk()["proposal"] == proposal, "said twice, it is proposed once"
    assert len(listed(lab, bank)) == 1


def test_what_is_no_correction_or_not_to_be_learned_is_not_proposed(lab, bank, talk):
    assert talk(learn=False)["proposal"] is None
    assert talk(TALK[:2])["proposal"] is None
    assert talk([*TALK[:-1], {"role": "user", "content": "No, thanks."}])["proposal"] is None
    assert talk([*TALK, {"role": "assistant", "content": "Thank you."}, {"role": "user", "content": "Bye"}])["proposal"] is None
    assert listed(lab, bank) == []


def test_confirmed_proposal_is_taught_and_gone_and_the_next_conversation_knows_it(lab, bank, talk):
    proposal = talk(session_id="chat-7")["proposal"]
    taught = lab.call("POST", f"/v1/proposals/{proposal['id']}/confirm", {}, expect=201)
    assert taught["id"] == "cor_" + proposal["id"].removeprefix("prp_")
    assert taught["receipt"]["item"]["after"]["value"] == RIGHT
    kept = lab.call("GET", f"/v1/corrections/{taught['id']}?bank={bank}", expect=200)
    assert (kept["input"], kept["wrong"], kept["right"], kept["session_id"]) == (PIN, WRONG, RIGHT, "chat-7")
    assert kept["metadata"] == {"proposal": proposal["id"]}
    assert listed(lab, bank) == []
    assert talk(TALK[:2])["used"] == [taught["id"]]
    lab.call("POST", f"/v1/proposals/{proposal['id']}/confirm", {}, expect=404)
    actions = [entry["action"] for entry in lab.call("GET", "/v1/audit?limit=5", expect=200)["items"]]
    assert "proposal.confirm" in actions


def test_proposal_is_confirmed_in_other_words(lab, bank, talk):
    proposal = talk()["proposal"]
    words = {"input": "How do I change my PIN?", "right": "In the app, under cards.", "wrong": "Nowhere."}
    taught = lab.call("POST", f"/v1/proposals/{proposal['id']}/confirm", words, expect=201)
    kept = lab.call("GET", f"/v1/corrections/{taught['id']}?bank={bank}", expect=200)
    assert {name: kept[name] for name in words} == words
    again = talk()["proposal"]
    refused = lab.call("POST", f"/v1/proposals/{again['id']}/confirm", {"right": " "}, expect=400)
    assert refused["errors"][0]["field"] == "right"


def test_retried_confirmation_teaches_once_and_gets_the_same_reply(lab, bank, talk):
    proposal = talk()["proposal"]
    path, headers = f"/v1/proposals/{proposal['id']}/confirm", {"Idempotency-Key": new_id("key")}
    first, again = (lab.call("POST", path, {}, expect=201, headers=headers) for _ in range(2))
    assert first == again
    assert lab.call("GET", f"/v1/memory?bank={bank}", expect=200)["events"] == 1


def test_confirmed_by_two_at_once_it_is_taught_once(lab, bank, talk):
    import asyncio

    path = f"/v1/proposals/{talk()['proposal']['id']}/confirm"

    async def both():
        return await asyncio.gather(*(lab.client.post(path, json={}) for _ in range(2)))

    replies = lab.run(both())
    assert {reply.status_code for reply in replies} <= {201, 404}
    assert len({reply.json()["id"] for reply in replies if reply.status_code == 201}) == 1
    assert lab.call("GET", f"/v1/memory?bank={bank}", expect=200)["events"] == 1


def test_dismissed_proposal_is_gone_and_taught_nothing(lab, bank, talk):
    proposal = talk()["proposal"]
    assert lab.call("DELETE", f"/v1/proposals/{proposal['id']}", expect=204) == {}
    lab.call("DELETE", f"/v1/proposals/{proposal['id']}", expect=404)
    assert listed(lab, bank) == []
    assert recalled(lab, bank) == []


def test_erasing_a_correction_takes_the_proposals_that_quote_it(lab, bank, talk):
    taught = lab.call("POST", "/v1/corrections", {"input": PIN, "right": "somewhere else", "bank": bank}, expect=201)
    talk()
    other = talk([{"role": "user", "content": "And Spain?"}, TALK[2], TALK[3]])["proposal"]
    assert len(listed(lab, bank)) == 2
    job = lab.call("POST", "/v1/forget", {"corrections": [taught["id"]], "mode": "erase", "bank": bank}, expect=202)["job_id"]
    assert lab.finished(job)["status"] == "succeeded"
    assert listed(lab, bank) == [other], "the one with the erased input is gone"


def test_key_that_may_only_ask_can_propose_but_neither_see_confirm_nor_dismiss(lab, url, bank):
    key = lab.call("POST", "/v1/keys", {"name": "asks", "scopes": ["recall:read"], "banks": [bank]}, expect=201)
    with openai.OpenAI(base_url=f"{url}/v1", api_key=key["key"], max_retries=0) as client:
        proposal = client.chat.completions.create(model="echo+palimpsest", messages=TALK).model_extra["memory"]["proposal"]
    assert proposal["created_by"] == key["id"]
    headers = {"Authorization": f"Bearer {key['key']}"}
    one = f"/v1/proposals/{proposal['id']}"
    for method, path in (("GET", "/v1/proposals"), ("POST", f"{one}/confirm"), ("DELETE", one)):
        lab.call(method, path, {} if method == "POST" else None, expect=403, headers=headers)
    beside = lab.call("POST", "/v1/banks", {"name": new_id("name")}, expect=201)["id"]
    pinned = lab.call("POST", "/v1/keys", {"name": "beside", "scopes": ["corrections:write"], "banks": [beside]}, expect=201)["key"]
    for method, path in (("POST", f"{one}/confirm"), ("DELETE", one)):
        lab.call(method, path, {} if method == "POST" else None, expect=404, headers={"Authorization": f"Bearer {pinned}"})
    assert listed(lab, bank) == [proposal]
