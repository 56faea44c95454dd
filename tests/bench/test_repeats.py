"""Repeated mistakes, on vectors that one can follow by eye."""

import numpy as np

from bench.repeats import Repeats
from bench.vectors import Vectors

ANGLES = {"a": 0, "near a": 10, "between": 50, "near b": 80, "b": 90}


def repeats():
    keys = np.array([[np.cos(np.radians(angle)), np.sin(np.radians(angle))] for angle in ANGLES.values()], np.float32)
    return Repeats(Vectors({text: place for place, text in enumerate(ANGLES)}, keys, [3] * len(ANGLES), "d" * 64))


def counted(*mistakes):
    followed = repeats()
    for text, right in mistakes:
        followed.wrong(text, right)
    return followed.repeated, followed.again


def test_first_mistakes_repeat_nothing():
    assert counted(("a", "A"), ("b", "B")) == (0, 0)


def test_same_words_wrong_again_are_repeated_and_again():
    assert counted(("a", "A"), ("b", "B"), ("a", "A")) == (1, 1)


def test_paraphrase_whose_nearest_correction_has_the_answer_is_repeated():
    assert counted(("a", "A"), ("b", "B"), ("near a", "A")) == (1, 0)
    assert counted(("a", "A"), ("b", "B"), ("between", "A")) == (0, 0)  # b is nearer


def test_policy_that_changed_since_is_no_repeat_until_the_new_one_was_told():
    assert counted(("a", "A"), ("near a", "new")) == (0, 0)
    assert counted(("a", "A"), ("a", "new"), ("near a", "new")) == (1, 0)
    assert counted(("a", "A"), ("a", "new"), ("a", "A")) == (0, 0)


def test_corrections_that_hold_are_the_newest_for_each_text():
    followed = repeats()
    for text, right in (("a", "A"), ("b", "B"), ("a", "new")):
        followed.wrong(text, right)
    assert followed.live == {"a": "new", "b": "B"}


def test_nothing_is_lost_when_much_is_told():
    followed = repeats()
    for _ in range(200):
        followed.wrong("a", "A")
    assert (followed.repeated, followed.again) == (199, 199)
