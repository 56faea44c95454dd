"""What can be seen of a state: sizes and distances of its levels' weights, and how any answer stands, as the plain formulas have it."""

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model import Asked, CodeBook, Lesson, Recall, RecallConfig, inspection
from model.config import FAST, MIDDLE, SLOW

CONFIG = RecallConfig.tiny(encoder_digest="e", key_width=16, window=48, frequencies=64)
RECALL = Recall(CONFIG)


def key(seed: int) -> np.ndarray:
    vector = np.random.default_rng(seed).standard_normal(CONFIG.key_width).astype(np.float32)
    return vector / np.linalg.norm(vector)


def story(seeds: list[int], tokens: int = 5):
    """A bank that was taught at these keys, five answers in turn, and its book."""
    lessons = [Lesson(key(seed), f"answer {seed % 5}", tokens, seq) for seq, seed in enumerate(seeds, start=1)]
    book = RECALL.book()
    for right in dict.fromkeys(lesson.right for lesson in lessons):
        book.add(right)
    return RECALL.fold(RECALL.initial(), lessons), book


def look(state, book: CodeBook, at: int, mask=None):
    answering, (reading,) = RECALL.look(Asked(state, key(at)[None], book, len(book), mask))
    return answering, reading


seeds = st.lists(st.integers(0, 30), min_size=1, max_size=80)
few = settings(max_examples=25, derandomize=True, deadline=None)


@few
@given(seeds, st.integers(0, 60))
def test_every_answer_stands_where_the_list_of_all_answers_has_it(taught, at):
    state, book = story(taught)
    answering, reading = look(state, book, at)
    listed = answering.candidates(reading)
    assert len(listed) == len(book)
    for rank, candidate in enumerate(listed, start=1):
        stands = answering.standing(reading, candidate.index)
        assert (stands.rank, stands.score, stands.confidence) == (rank, candidate.score, candidate.confidence)


@few
@given(seeds, st.integers(0, 60))
def test_score_of_an_answer_is_what_its_voices_say_in_all_levels(taught, at):
    state, book = story(taught)
    answering, reading = look(state, book, at)
    for candidate in answering.candidates(reading)[:1]:
        voices = answering.voices(reading, candidate.index)
        parts = [float(book.scores_of(voices, said).sum()) for said in reading]
        assert sum(parts) == pytest.approx(candidate.score, abs=1e-5)


@few
@given(seeds, st.integers(0, 60))
def test_pairs_of_the_window_make_up_what_the_fast_level_says(taught, at):
    state, book = story(taught)
    _, reading = look(state, book, at)
    near = RECALL.near(state, key(at))
    assert np.allclose(near @ state.levels[FAST]["errors"].numpy()[: len(near)], reading.fast, atol=1e-5)


@few
@given(seeds, st.lists(st.integers(0, 60), max_size=9))
def test_survey_gives_what_each_key_is_answered_alone(taught, at):
    state, book = story(taught)
    keys = np.stack([key(one) for one in at]) if at else np.zeros((0, CONFIG.key_width), np.float32)
    alone = [found[0] for found in RECALL.answer(state, keys, book, top_k=1)]
    for (found,), best in zip(RECALL.survey(Asked(state, keys, book, 1)), alone, strict=True):
        assert found.index == best.index or ties(state, keys, book)
        assert found.score == pytest.approx(best.score, abs=1e-4)


def ties(state, keys, book) -> bool:
    """Whether two answers are as good as equal somewhere: last bits decide there."""
    pairs = RECALL.answer(state, keys, book, top_k=2)
    return any(len(found) == 2 and found[0].score - found[1].score < 1e-4 for found in pairs)


def test_survey_of_an_empty_bank_or_of_nobody_gives_nothing():
    assert RECALL.survey(Asked(RECALL.initial(), key(1)[None], RECALL.book(), 1)) == [[]]
    state, book = story([1])
    assert RECALL.survey(Asked(state, np.zeros((0, CONFIG.key_width), np.float32), book, 1)) == []
    assert RECALL.survey(Asked(state, key(1)[None], book, 1, np.array([False]))) == [[]]


def test_barred_answer_has_no_rank_and_no_confidence():
    state, book = story([1, 2, 3])
    answering, reading = look(state, book, 1, np.array([False, True, True]))
    stands = answering.standing(reading, 0)
    assert (stands.rank, stands.confidence) == (None, 0.0)
    assert stands.score == pytest.approx(1.0, abs=1e-3), "what the weights say is told all the same"


def test_levels_alone_say_what_they_add_to_the_whole():
    state, book = story(list(range(31)) * 3)
    assert inspection.held(state)[MIDDLE] > 0, "the middle level has something to say"
    _, reading = look(state, book, 3)
    fast, middle = (reading.alone(level) for level in (FAST, MIDDLE))
    assert not fast.middle.any()
    assert not middle.fast.any()
    assert np.array_equal(fast.whole + middle.whole, reading.whole)


def test_norms_and_drifts_are_those_of_the_weights():
    (now, _), (then, _) = story(list(range(40)), tokens=9), story(list(range(30)), tokens=9)
    for level, names in ((FAST, ("keys", "errors")), (MIDDLE, ("weights",))):
        ours, theirs = (torch.cat([state.levels[level][name].flatten() for name in names]).double() for state in (now, then))
        assert inspection.norms(now.levels)[level] == pytest.approx(float(ours.norm()))
        apart = float((ours - theirs).norm() / torch.maximum(ours.norm(), theirs.norm()))
        assert inspection.drifts(now, then)[level] == pytest.approx(apart)
    assert inspection.drifts(now, now.clone()) == {FAST: 0.0, MIDDLE: 0.0, SLOW: 0.0}
    empty = RECALL.initial()
    assert inspection.drifts(empty, empty.clone()) == {FAST: 0.0, MIDDLE: 0.0, SLOW: 0.0}
    assert inspection.drifts(now, empty) == {FAST: 1.0, MIDDLE: 1.0, SLOW: 0.0}


def test_books_beside_the_weights_are_no_part_of_their_size():
    state, _ = story([1])
    other = state.clone()
    other.levels[FAST]["marks"][0, 0] = 40
    assert inspection.norms(other.levels) == inspection.norms(state.levels)


def test_pairs_that_were_handed_on_are_the_middle_levels():
    state, _ = story(list(range(31)) * 3)
    held = inspection.held(state)
    assert held[FAST] + held[MIDDLE] == 93
    assert held[FAST] <= CONFIG.window
    assert inspection.capacity(CONFIG) == {FAST: CONFIG.window, MIDDLE: 2 * CONFIG.frequencies, SLOW: CONFIG.places}


def test_looking_changes_no_bit():
    state, book = story(list(range(31)) * 3)
    before = dataclasses.asdict(state.clone())["clock"], state.digest()
    answering, reading = look(state, book, 7)
    answering.standing(reading, 0)
    RECALL.near(state, key(7))
    inspection.drifts(state, RECALL.initial())
    assert (dataclasses.asdict(state.clone())["clock"], state.digest()) == before
