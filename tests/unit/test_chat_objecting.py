"""A message that plainly corrects the last answer is found, with what is right; thanks, wishes, doubts and questions are not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service import wire
from service.chat.objecting import RIGHT_MAX, objection, stated

CORRECTIONS = [
    ("No, it's in the app.", "in the app"),
    ("No. It’s Canberra!", "Canberra"),
    ("Nope, it is 42", "42"),
    ("No, actually, it was version 2.5.1.", "version 2.5.1"),
    ("That's wrong. The right answer is “In the app”.", "In the app"),
    ("That is not correct: use tabs, not spaces.", "use tabs"),
    ("That's not quite right, it should be `git restore`", "git restore"),
    ("Wrong. The PIN is changed in the app. Ask there first.", "The PIN is changed in the app. Ask there first."),
    ("Incorrect, you have to call the branch", "you have to call the branch"),
    ("no, the capital of Australia is Canberra.", "the capital of Australia is Canberra"),
    ("No, our office closes at five; the door is shut then", "our office closes at five; the door is shut then"),
    ("You're wrong, it's Tuesday", "Tuesday"),
    ("The correct answer is: transfer_time", "transfer_time"),
    ("Actually, the correct value is 7", "7"),
    ("It should be Dr. Meier, not Dr. Müller.", "Dr. Meier"),
    ("You should have said: in the app", "in the app"),
    ("Sorry, but the right one is number 3", "number 3"),
    ("That was wrong. Actually it's Ä-Straße 5", "Ä-Straße 5"),
]
NONE = [
    "No.",
    "No, thanks",
    "No, that's all",
    "No, it's fine",
    "no it's ok",
    "That's wrong.",
    "That's wrong, try again",
    "Wrong!",
    "That's not right, can you look again",
    "You're wrong, please check",
    "No, I want the other flight",
    "No, is it in the app?",
    "Isn't the right answer Canberra?",
    "That's wrong, isn't it? It's Sydney",
    "The correct answer is not Sydney",
    "Thank you, that's right",
    "It's raining",
    "Actually, I like it",
    "Nobody said that the correct answer is 5",
    "What's wrong with you",
    "",
    "   ",
    "No, it's ...",
    "That's wrong, you know",
]
WORDS = ["no,", "it's", "that's", "wrong", "the", "right", "answer", "is", "not", "you", ".", "!", "—", "“"]


@pytest.mark.parametrize(("said", "right"), CORRECTIONS)
def test_plain_correction_names_what_is_right(said, right):
    assert stated(said) == right


@pytest.mark.parametrize("said", NONE)
def test_what_is_no_plain_correction_is_none(said):
    assert stated(said) is None


def talk(*said: tuple[str, object]) -> list[wire.ChatMessage]:
    return [wire.ChatMessage(role=role, content=content) for role, content in said]


ASKED, WRONG, RIGHT = ("user", "Where do I change my PIN?"), ("assistant", "At a branch."), ("user", "No, it's in the app.")


def test_objection_is_about_the_question_before_the_answer():
    asked = talk(("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello"), ASKED, WRONG, RIGHT)
    assert objection(asked) == ("Where do I change my PIN?", "At a branch.", "in the app")
    with_tools = talk(ASKED, ("assistant", None), ("tool", "branches: 3"), WRONG, RIGHT)
    assert objection(with_tools) == ("Where do I change my PIN?", "At a branch.", "in the app")
    parts = [{"type": "text", "text": "No, it's in the app."}]
    assert objection(talk(ASKED, WRONG, ("user", parts))) == objection(talk(ASKED, WRONG, RIGHT))


@pytest.mark.parametrize(
    "messages",
    [
        talk(RIGHT),
        talk(WRONG, RIGHT),
        talk(("system", "x"), WRONG, RIGHT),
        talk(ASKED, WRONG),
        talk(ASKED, RIGHT),
        talk(ASKED, WRONG, RIGHT, ("assistant", "Thanks.")),
        talk(ASKED, WRONG, RIGHT, ("tool", "x")),
        talk(ASKED, ("assistant", None), RIGHT),
        talk(ASKED, ("assistant", " "), RIGHT),
        talk(("user", " "), WRONG, RIGHT),
        talk(ASKED, ("assistant", "in the app"), RIGHT),
        talk(("user", "x" * 20_001), WRONG, RIGHT),
        talk(ASKED, ("assistant", "x" * 20_001), RIGHT),
        talk(("user", "nul \x00"), WRONG, RIGHT),
        talk(ASKED, WRONG, ("user", "No, it's nul \x00")),
        talk(ASKED, WRONG, ("user", "No, it's " + "x" * RIGHT_MAX)),
    ],
)
def test_without_question_answer_and_plain_correction_there_is_none(messages):
    assert objection(messages) is None


@given(st.text(max_size=300) | st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join))
def test_any_text_is_looked_at_in_time_and_what_is_right_has_words(said):
    found = stated(said)
    assert found is None or (found == found.strip() and any(sign.isalnum() for sign in found))
