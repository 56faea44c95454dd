"""MQAR, needle and filler: what is asked can be answered from the row, and distances grow as the names say."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.synthetic.recall import DIGITS, FILLERS, HAYSTACKS, after_filler, mqar, needle, recall_task
from bench.synthetic.task import IGNORED, percent_right


@given(seed=st.integers(0, 2**32), pairs=st.integers(1, 8), spare=st.integers(0, 20))
def test_mqar_asks_every_key_once_after_the_pairs_and_wants_its_value(seed, pairs, spare):
    part = mqar(np.random.default_rng(seed), 4, 4 * pairs + spare, pairs, vocabulary=64)
    for row, wanted in zip(part.inputs.tolist(), part.targets.tolist(), strict=True):
        bond = dict(zip(row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2], strict=True))
        asked = [place for place, value in enumerate(wanted) if value != IGNORED]
        assert len(bond) == len(set(bond.values())) == pairs
        assert min(asked) >= 2 * pairs
        assert sorted(row[place] for place in asked) == sorted(bond)
        assert all(wanted[place] == bond[row[place]] for place in asked)
        assert all(0 < key < 32 <= value < 64 for key, value in bond.items())


def test_mqar_asks_soon_rather_than_late():
    part = mqar(np.random.default_rng(0), 500, 256, 4, vocabulary=64)
    places = np.nonzero(part.asked)[1] - 8
    assert np.median(places) < 0.25 * 248


@pytest.mark.parametrize(("length", "pairs", "vocabulary"), [(16, 5, 64), (64, 16, 32), (16, 0, 64)])
def test_mqar_refuses_more_pairs_than_there_is_room_for(length, pairs, vocabulary):
    with pytest.raises(ValueError, match="pairs need"):
        mqar(np.random.default_rng(0), 2, length, pairs, vocabulary)


@given(seed=st.integers(0, 2**32), lengths=st.lists(st.integers(10, 80), min_size=1, max_size=5))
def test_needle_is_what_stands_behind_the_sign(seed, lengths):
    part = needle(np.random.default_rng(seed), np.array(lengths))
    assert part.lengths.tolist() == lengths
    for row, wanted, length in zip(part.inputs.tolist(), part.targets.tolist(), lengths, strict=True):
        sign, question = row.index(32), row.index(33)
        hidden = row[sign + 1 : sign + 1 + DIGITS]
        assert question == length - DIGITS
        assert wanted[question : question + DIGITS] == hidden
        assert row[question + 1 : length] == hidden[:-1]
        assert sum(value != IGNORED for value in wanted) == DIGITS


def test_needle_lies_at_every_depth_and_the_straw_has_digits_too():
    part = needle(np.random.default_rng(0), np.full(400, 30))
    assert set((part.inputs == 32).argmax(axis=1).tolist()) == set(range(22))
    assert (part.inputs[:, 0] >= 16).any()


def test_needle_without_room_is_refused():
    with pytest.raises(ValueError, match="lengths has 9"):
        needle(np.random.default_rng(0), np.array([9]))


@given(seed=st.integers(0, 2**32), filler=st.integers(0, 40), pairs=st.integers(1, 8))
def test_filler_stands_between_the_pairs_and_the_questions(seed, filler, pairs):
    part = after_filler(np.random.default_rng(seed), 3, filler, pairs)
    for row, wanted in zip(part.inputs.tolist(), part.targets.tolist(), strict=True):
        bond = dict(zip(row[0 : 2 * pairs : 2], row[1 : 2 * pairs : 2], strict=True))
        assert row[2 * pairs : 2 * pairs + filler] == [16] * filler
        assert wanted == [IGNORED] * (2 * pairs + filler) + [bond[key] for key in row[-pairs:]]
        assert sorted(row[-pairs:]) == sorted(bond)


def test_distances_grow_beyond_those_trained_on():
    far, long = recall_task("filler", 0), recall_task("needle", 0)
    assert [part.inputs.shape[1] - 12 for part in far.test.values()] == list(FILLERS)
    assert far.train.inputs.shape[1] - 12 == FILLERS[0]
    assert [part.inputs.shape[1] for part in long.test.values()] == list(HAYSTACKS)
    assert long.train.lengths.max() == HAYSTACKS[0]


@pytest.mark.parametrize("name", ["mqar 64", "filler"])
def test_test_rows_are_new(name):
    task = recall_task(name, 0)
    seen = {tuple(row) for row in task.train.inputs.tolist()}
    tests = [tuple(row) for part in task.test.values() for row in part.inputs.tolist()]
    assert sum(row in seen for row in tests) / len(tests) < 0.01


def test_guessing_among_the_values_is_right_as_often_as_chance():
    part = after_filler(np.random.default_rng(1), 2_000, 4)
    guesses = np.random.default_rng(2).integers(8, 16, part.inputs.shape)
    assert percent_right(guesses, part, "positions") == pytest.approx(12.5, abs=1.5)


def test_unknown_recall_task_is_named():
    with pytest.raises(ValueError, match=r"'haystack'.*needle"):
        recall_task("haystack", 0)
