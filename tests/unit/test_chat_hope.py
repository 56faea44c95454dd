"""What of a conversation a bank's own language model is told, and which requests it takes."""

import pytest

from service import wire
from service.chat.backends import Asked, Place
from service.chat.hope import READ_MAX, Hope, turn_of
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


class Parrot:
    """An engine that says what it was told, a token for each letter."""

    def __init__(self):
        self.calls = []

    async def speak(self, tenant, bank, lines, *, talk, at, said, most, last, how):
        self.calls.append((lines, talk, at, last, most, how))
        text = lines[-1].text
        told = [*said, *map(ord, text[len(said) : len(said) + most])]
        state = wire.StateRef(snapshot_id="snap_1", seq=1)
        return wire.Spoken(tokens=told, text="".join(map(chr, told)), ended=len(told) == len(text), read=7, state=state)


def asked(*lines, **more):
    return Asked("ten", "bank", {"model": "hope:bank", **more}, talk(*lines))


async def test_whole_answer_is_put_together_of_pieces_under_one_name():
    parrot = Parrot()
    made = await Hope(parrot, nobodys).complete(asked("user: " + "word " * 20))
    assert made["choices"][0]["message"]["content"] == ("word " * 20).strip()
    assert made["choices"][0]["finish_reason"] == "stop"
    assert made["usage"] == {"prompt_tokens": 7, "completion_tokens": 99, "total_tokens": 106}
    assert len(parrot.calls) > 1
    assert {call[1] for call in parrot.calls} == {made["id"]}


async def test_answer_is_no_longer_than_asked_for():
    parrot = Parrot()
    made = await Hope(parrot, nobodys).complete(asked("user: " + "word " * 200, max_completion_tokens=70, max_tokens=5))
    assert (made["usage"]["completion_tokens"], made["choices"][0]["finish_reason"]) == (70, "length")
    assert [call[4] for call in parrot.calls] == [32, 32, 6]
    assert [call[3] for call in parrot.calls] == [False, False, True]


async def test_conversation_is_given_from_its_end_and_its_options_to_the_engine():
    parrot = Parrot()
    lines = [f"user: {n} " + "x" * 3_000 for n in range(9)]
    await Hope(parrot, nobodys).complete(asked(*lines, max_tokens=1, temperature=0.5, top_p=0.9, seed=-3, stop="z"))
    given, _, _, _, _, how = parrot.calls[0]
    assert sum(len(line.text) for line in given) == READ_MAX
    assert given[-1].text.startswith("8 x")
    assert (how.temperature, how.top_p, how.seed, how.stop) == (0.5, 0.9, 3, ("z",))


async def test_answers_that_are_drawn_without_a_seed_are_drawn_anew():
    parrot = Parrot()
    for _ in range(2):
        await Hope(parrot, nobodys).complete(asked("user: " + "word " * 20, temperature=1.0))
    assert len({call[5].seed for call in parrot.calls}) == 2, "one for each answer, the same for all its pieces"


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
    backend = Hope(Parrot(), nobodys)
    assert backend.takes(model)
    assert backend.place(model) == place


def test_other_names_are_not_its_own():
    assert not Hope(Parrot(), nobodys).takes("hopeful")
