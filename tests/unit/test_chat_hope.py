"""What of a conversation a bank's own language model is told, and which requests it takes."""

from datetime import UTC, datetime

import pytest

from service import wire
from service.api.chat import turn_ids
from service.chat.backends import Place
from service.chat.hope import Hope, turn_of
from service.errors import Invalid


def talk(*lines: str) -> list[wire.ChatMessage]:
    """Messages of lines such as `user: Hi.`."""
    parts = [line.partition(": ") for line in lines]
    return [wire.ChatMessage(role=role, content=text) for role, _, text in parts]


@pytest.mark.parametrize(
    ("lines", "said", "right"),
    [
        (["user: Hi."], "Hi.", None),
        (["system: Be brief.", "user: Hi."], "Hi.", None),
        (["user: Hi.", "assistant: Good day."], "Hi.", "Good day."),
        (["user: Hi.", "assistant: Good day.", "user: And", "user: you?"], "And\nyou?", None),
        (["user: Hi.", "assistant: Good day.", "user: And you?", "assistant: Well."], "And you?", "Well."),
        (["user: Hi.", "assistant:  "], "Hi.", None),
        (["user: What is it?", "tool: 42"], "What is it?", None),
    ],
)
def test_turn_is_what_the_user_said_since_the_last_answer_with_the_answer_at_the_end(lines, said, right):
    turn = turn_of(talk(*lines), "ses")
    assert (turn.input, turn.right, turn.session_id) == (said, right, "ses")


@pytest.mark.parametrize("lines", [["system: Be brief."], ["user:  "], ["assistant: Hi."], ["user: Hi.", "assistant: Hm.", "tool: 42"]])
def test_conversation_in_which_the_user_says_nothing_new_has_no_turn(lines):
    assert turn_of(talk(*lines), None) is None


def test_parts_that_are_no_text_are_not_learned():
    parts = [{"type": "text", "text": "Look"}, {"type": "image_url", "image_url": {"url": "http://x"}}, {"type": "text", "text": "here"}]
    assert turn_of([wire.ChatMessage(role="user", content=parts)], None).input == "Look\nhere"


def test_turn_that_is_too_long_is_refused_by_its_field():
    with pytest.raises(Invalid) as caught:
        turn_of(talk("user: " + "x" * (wire.TEXT_MAX + 1)), None)
    assert caught.value.errors[0]["field"] == "messages"


async def nobodys(tenant, banks):
    return []


NAMES = Hope(None, nobodys)  # asked for names alone, of which no engine knows


@pytest.mark.parametrize(
    ("model", "place"),
    [
        ("hope", Place()),
        ("hope:", Place()),
        ("hope:support", Place("support")),
        ("hope:user@home", Place("user@home")),
        ("hope:support@snap_01", Place("support", "snap_01")),
        ("hope:a@snap_b@snap_01", Place("a@snap_b", "snap_01")),
    ],
)
def test_name_of_a_model_says_bank_and_snapshot(model, place):
    assert NAMES.takes(model)
    assert NAMES.place(model) == place


def test_other_names_are_not_its_own():
    assert not NAMES.takes("hopeful")


def test_a_turn_under_a_key_and_its_retry_after_midnight_know_each_others_names_whichever_is_quicker():
    turn = wire.NewTurn(input="The code of the gate?", right="4711")
    before, after = (turn_ids("key", "main", turn, datetime(2026, 11, day, hour, tzinfo=UTC)) for day, hour in ((29, 23), (30, 0)))
    assert before[0] != after[0]
    assert after[0] in before, "the first try is still under way when its retry is appended"
    assert before[0] in after
    assert {before[0], after[0]}.isdisjoint(turn_ids("another", "main", turn, datetime(2026, 11, 30, tzinfo=UTC)))
