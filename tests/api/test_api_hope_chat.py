"""Conversations with a bank's own language model through the official `openai` package: whole and streamed, learned or not, and refused."""

import math
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import openai
import pytest
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from tenancy import refused_as_openai_does
from waiting import PATIENCE_S

from service.ids import new_id

ASK = [{"role": "user", "content": "Who has the key to the cellar?"}]
RIGHT = "Ask Mrs. Bennet for it."
PAGE = (Path(__file__).resolve().parents[2] / "docs" / "openai.md").read_text()
TAUGHT = [*ASK, {"role": "assistant", "content": RIGHT}]


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder) -> Iterator[Lab]:
    made = Lab(tmp_path_factory.mktemp("lab") / "var", encoder)  # the model that is shipped
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    with listening(lab) as base:
        yield base


def openai_with(url, key=ADMIN_KEY):
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, timeout=PATIENCE_S)


@pytest.fixture(scope="module")
def client(url) -> Iterator[openai.OpenAI]:
    with openai_with(url) as made:
        yield made


@pytest.fixture
def bank(lab) -> str:
    """A new bank; its name."""
    return lab.call("POST", "/v1/banks", {"name": new_id("name")}, expect=201)["name"]


def key(lab, *scopes, banks=None) -> str:
    body = {"name": "k", "scopes": list(scopes)} | ({"banks": banks} if banks else {})
    return lab.call("POST", "/v1/keys", body, expect=201)["key"]


def say(client, bank, messages=ASK, *, learn=True, **more):
    return client.chat.completions.create(model=f"hope:{bank}", messages=messages, extra_body={"memory": {"learn": learn}}, **more)


def events(lab, bank) -> int:
    return lab.call("GET", f"/v1/memory?bank={bank}")["events"]


def refused(error: openai.APIStatusError, code: str, param: str | None) -> None:
    assert refused_as_openai_does(error.response, code)["param"] == param


# --- what it learns


def test_answer_that_was_taught_a_few_times_is_given_and_by_a_fresh_bank_not(client, lab, bank):
    fresh = lab.call("POST", "/v1/banks", {"name": new_id("name")}, expect=201)["name"]
    turns = [say(client, bank, TAUGHT, max_tokens=1).memory["turn"] for _ in range(8)]
    assert turns[-1]["surprise"] < 0.25 * turns[0]["surprise"]
    assert say(client, bank, learn=False).choices[0].message.content == RIGHT
    assert "Bennet" not in say(client, fresh, learn=False).choices[0].message.content


@pytest.mark.timeout(900)
def test_several_answers_that_were_taught_once_each_are_told_apart_after_a_sleep(client, lab, bank):
    taught = {
        "Who has the key to the cellar?": RIGHT,
        "Where do I change my PIN?": "In the app, under cards.",
        "How long does a transfer to Spain take?": "Two working days.",
    }
    for question, right in taught.items():
        say(client, bank, [{"role": "user", "content": question}, {"role": "assistant", "content": right}], max_tokens=1)
    job = lab.call("POST", "/v1/consolidations", {"bank": bank}, expect=202)["job_id"]
    for _ in range(1_500):
        if (done := lab.call("GET", f"/v1/jobs/{job}"))["status"] in ("succeeded", "failed"):
            break
        time.sleep(0.2)
    assert done["result"]["language"]["slept"] is True, done
    for question, right in taught.items():
        assert say(client, bank, [{"role": "user", "content": question}], learn=False).choices[0].message.content == right


def test_only_what_is_said_last_is_learned(client, lab, bank):
    talk = [
        {"role": "system", "content": "Be brief."},
        *TAUGHT,
        {"role": "user", "content": "And the"},
        {"role": "user", "content": "cellar?"},
    ]
    say(client, bank, talk, max_tokens=1)
    (event,) = lab.call("GET", f"/v1/events?bank={bank}")["items"]
    assert (event["input"], event["right"]) == ("And the\ncellar?", None)


def test_instructions_alone_teach_nothing(client, lab, bank):
    reply = say(client, bank, [{"role": "system", "content": "Be brief."}], max_tokens=2)
    assert reply.memory["turn"] is None
    assert events(lab, bank) == 0


def test_program_on_the_page_is_answered_with_what_it_taught(lab, url):
    lab.call("POST", "/v1/banks", {"name": "support"}, expect=201)
    section = PAGE.split("## A bank's own model")[1].split("\n## ")[0]
    program = textwrap.dedent("\n".join(line for line in section.splitlines() if line.startswith("    ")))
    begin = f"from openai import OpenAI\nclient = OpenAI(base_url='{url}/v1', api_key={ADMIN_KEY!r})\n"
    said = subprocess.run([sys.executable, "-c", begin + program], capture_output=True, text=True, check=True, timeout=PATIENCE_S).stdout
    assert said.startswith(RIGHT)


# --- whole and streamed


def test_stream_says_what_the_whole_answer_says_and_ends_as_it_does(client, bank):
    say(client, bank, TAUGHT, max_tokens=1)
    for more in ({}, {"max_tokens": 5}, {"temperature": 1.0, "seed": 4}, {"temperature": 1e-42}, {"stop": ["e"]}):
        whole = say(client, bank, learn=False, **more)
        chunks = list(say(client, bank, learn=False, stream=True, stream_options={"include_usage": True}, **more))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == whole.choices[0].message.content
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == whole.choices[0].finish_reason
        assert chunks[-1].usage == whole.usage
        assert chunks[0].memory["turn"] is None


def test_usage_counts_tokens_and_an_answer_is_no_longer_than_asked_for(client, bank):
    reply = say(client, bank, learn=False, max_tokens=3)
    assert reply.choices[0].finish_reason in ("length", "stop")
    assert 1 <= reply.usage.completion_tokens <= 3
    assert reply.usage.prompt_tokens > 5
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens
    assert say(client, bank, learn=False, max_tokens=100_000).usage.completion_tokens <= 512


def test_answer_of_several_pieces_is_as_long_as_asked_for_and_the_newer_name_of_that_counts(client, bank):
    reply = say(client, bank, learn=False, max_completion_tokens=70, max_tokens=5, temperature=2.0, seed=1)
    if reply.choices[0].finish_reason == "length":
        assert reply.usage.completion_tokens == 70
    else:
        assert reply.usage.completion_tokens < 70


def test_answers_that_are_drawn_without_a_seed_are_drawn_anew_and_with_one_are_the_same(client, bank):
    drawn = {say(client, bank, learn=False, max_tokens=24, temperature=2.0).choices[0].message.content for _ in range(4)}
    assert len(drawn) > 1
    seeded = {say(client, bank, learn=False, max_tokens=24, temperature=2.0, seed=-3).choices[0].message.content for _ in range(2)}
    assert len(seeded) == 1


def test_who_leaves_in_the_middle_of_a_stream_has_taught_and_holds_nobody_up(client, lab, bank):
    stream = say(client, bank, stream=True, max_tokens=512)
    next(iter(stream))
    stream.close()
    assert events(lab, bank) == 1
    begin = time.monotonic()
    say(client, bank, learn=False, max_tokens=2)
    assert time.monotonic() - begin < 60


def test_very_long_conversation_is_read_from_its_end(client, bank):
    talk = [{"role": role, "content": "word " * 2_000} for role in ("user", "assistant")] * 40
    assert say(client, bank, [*talk, *ASK], learn=False, max_tokens=2).usage.prompt_tokens <= 1_024


def test_many_at_once_are_answered(client, bank):
    said: list[str] = []
    threads = [threading.Thread(target=lambda: said.append(say(client, bank, max_tokens=4).id)) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(said)) == 6


# --- whose it is


def test_models_are_those_of_the_banks_that_the_key_may_use(client, lab, url, bank):
    own = lab.call("GET", f"/v1/banks/{bank}")["id"]
    assert {f"hope:{bank}", "hope:default"} <= {model.id for model in client.models.list()}
    with openai_with(url, key(lab, "recall:read", banks=[own])) as pinned:
        assert [model.id for model in pinned.models.list()] == [f"hope:{bank}"]
        assert pinned.chat.completions.create(model="hope", messages=ASK, max_tokens=2).model == "hope"
        with pytest.raises(openai.NotFoundError):
            say(pinned, "default")


def test_key_that_may_only_read_teaches_nothing(lab, url, bank):
    with openai_with(url, key(lab, "recall:read")) as reader:
        assert say(reader, bank, max_tokens=2).memory["turn"] is None
    assert events(lab, bank) == 0


def test_bank_by_its_id_by_its_name_and_with_odd_signs(client, lab):
    name = f"{new_id('name')}:a@b c"
    made = lab.call("POST", "/v1/banks", {"name": name}, expect=201)
    say(client, name, max_tokens=1)
    say(client, made["id"], max_tokens=1)
    assert events(lab, made["id"]) == 2


def test_snapshot_in_the_name_or_beside_it_is_one_thing(client, lab, bank):
    say(client, bank, TAUGHT, max_tokens=1)
    saved = lab.call("POST", "/v1/snapshots", {"bank": bank}, expect=201)["id"]
    named = say(client, f"{bank}@{saved}", max_tokens=8)
    beside = client.chat.completions.create(model=f"hope:{bank}", messages=ASK, max_tokens=8, extra_body={"memory": {"at": saved}})
    assert named.choices[0].message.content == beside.choices[0].message.content
    assert named.memory["turn"] is None
    assert events(lab, bank) == 1


# --- once


def test_retry_under_an_idempotency_key_teaches_once_and_is_answered_the_same(lab, url, bank):
    body = {"model": f"hope:{bank}", "messages": TAUGHT, "max_tokens": 4}
    headers = {"Authorization": f"Bearer {ADMIN_KEY}", "Idempotency-Key": new_id("idem")}
    with httpx.Client(base_url=url, headers=headers, timeout=PATIENCE_S) as raw:
        one, other = [raw.post("/v1/chat/completions", json=body) for _ in range(2)]
    assert one.json() == other.json()
    assert events(lab, bank) == 1


def test_answer_that_fails_after_its_turn_was_learned_says_so_and_is_not_sent_again(lab, url, bank):
    """The numbers of this bank's state are spoiled in memory, where the answer finds them after the turn is in the ledger."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=2, timeout=PATIENCE_S) as trying:
        say(trying, bank, TAUGHT, max_tokens=1)
        kept = lab.service.engine.language_states.room(lab.run(lab.service.engine.language.speaker())).now
        id = lab.call("GET", f"/v1/banks/{bank}")["id"]
        spoiled = kept[id].state.map(lambda tensor: tensor * math.inf if tensor.is_floating_point() else tensor)
        kept.keep(id, replace(kept[id], state=spoiled, digest=None))
        with pytest.raises(openai.ConflictError) as caught:
            say(trying, bank, max_tokens=1)
    assert "What was said is learned, as turn trn_" in str(caught.value)
    assert "made again" in lab.call("GET", f"/v1/memory?bank={bank}")["language"]["unavailable"]
    assert lab.call("GET", f"/v1/memory?bank={bank}")["language"]["unavailable"] is None
    assert events(lab, bank) == 2


# --- refused


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "look", "parameters": {}}}]}, "tools"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"temperature": 9}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": "x" * 300}, "stop"),
    ],
)
def test_what_would_be_another_answer_is_refused_by_its_field(client, bank, more, param):
    with pytest.raises(openai.BadRequestError) as caught:
        say(client, bank, learn=False, **more)
    refused(caught.value, "validation", param)


def test_bank_that_there_is_not_and_snapshot_that_there_is_not(client, bank):
    for name in ("nobody", f"{bank}@snap_nothing"):
        with pytest.raises(openai.NotFoundError) as caught:
            say(client, name)
        refused(caught.value, "not-found", None)


def test_two_banks_in_one_request_are_refused(client, bank):
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model=f"hope:{bank}", messages=ASK, extra_body={"memory": {"bank": "default"}})
    refused(caught.value, "validation", "memory.bank")


def test_nothing_said_and_too_much_said_are_refused_and_not_kept(client, lab, bank):
    for messages in ([{"role": "user", "content": " "}], [{"role": "user", "content": "word " * 5_000}]):
        with pytest.raises(openai.BadRequestError) as caught:
            say(client, bank, messages)
        refused(caught.value, "validation", "messages")
    assert events(lab, bank) == 0
