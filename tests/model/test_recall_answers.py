"""Answers of the associative memory: R3 of `model.recall`, confidence, abstention, mask, ties, and the level that spoke."""

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from memory_reference import MINUTE, TINY, book_of, reference_code, stream, unit_keys
from memory_reference import taught as taught_to
from numpy.typing import NDArray

from model import Candidate, Lesson, Recall, State
from model.levels import Clock

RECALL = Recall(replace(TINY, replaced_at=1e9))  # no answer speaks for another: that is in test_succession


def taught(lessons: list[Lesson]) -> State:
    return taught_to(lessons, RECALL)


# --- R3: one key at a time


def test_r3_what_a_key_reads_does_not_depend_on_what_else_is_asked() -> None:
    state, book = taught(stream(TINY, 80, 15)), book_of(23)
    keys = unit_keys(40, 16)
    alone = [RECALL.answer(state, key[None], book, top_k=4)[0] for key in keys]
    order = np.random.default_rng(17).permutation(40)

    assert RECALL.answer(state, keys, book, top_k=4) == alone
    assert RECALL.answer(state, keys[order], book, top_k=4) == [alone[place] for place in order]
    assert RECALL.answer(state, np.asfortranarray(keys), book, top_k=4) == alone
    assert RECALL.answer(state, np.repeat(keys[:1], 5, axis=0), book, top_k=4) == alone[:1] * 5
    assert RECALL.answer(state, keys[:0], book, top_k=4) == []


def test_a_larger_book_does_not_change_a_score() -> None:
    state, key = taught(stream(TINY, 80, 15)), unit_keys(1, 16)
    scores = {c.index: c.score for c in RECALL.answer(state, key, book_of(23), top_k=23)[0]}
    larger = {c.index: c.score for c in RECALL.answer(state, key, book_of(900), top_k=900)[0]}
    assert scores == {index: larger[index] for index in scores}


# --- what an answer says


def answers_of(state: State, keys: NDArray[np.float32], count: int, **asked: object) -> list[list[Candidate]]:
    return RECALL.answer(state, keys, book_of(count), **{"top_k": 6, **asked})


def test_candidates_are_the_best_scores_of_the_read_out_best_first() -> None:
    state, book = taught(stream(TINY, 120, 18)), book_of(23)
    for key, candidates in zip(keys := unit_keys(30, 19), RECALL.answer(state, keys, book, top_k=6), strict=True):
        out = RECALL.read(state, key).astype(np.float64)
        scores = np.array([reference_code(f"answer {number}", TINY.code_width) @ out for number in range(23)])
        assert [c.index for c in candidates] == list(np.argsort(-scores)[:6])
        assert np.abs([c.score for c in candidates] - np.sort(scores)[::-1][:6]).max() < 1e-5


@pytest.mark.parametrize(
    ("made", "events", "weights"),
    [
        (False, 200, TINY.young),
        (False, 10**6, TINY.young),
        (True, 100, TINY.settled),
        (True, 128, TINY.settled),
        (True, 1_000, [at + math.log(1_000 / 128) * more for at, more in zip(TINY.settled, TINY.growth, strict=True)]),
        (True, 10**6, [at + math.log(5_000 / 128) * more for at, more in zip(TINY.settled, TINY.growth, strict=True)]),
    ],
)
def test_confidence_is_logistic_in_score_its_logarithm_and_margin_by_weights_that_grow_once_there_is_a_slow_level(
    made: bool, events: int, weights: Sequence[float]
) -> None:
    state = taught(stream(TINY, 200, 20))
    state.levels["slow"]["held"][0, 0] = 8 * made  # places that say nothing: their errors are zero
    state.clock = Clock(state.clock.tokens, events)
    keys = np.concatenate([unit_keys(60, 21), [lesson.key for lesson in stream(TINY, 200, 20)[-40:]]])
    said = []
    for candidates in answers_of(state, keys, 23, top_k=23):
        scores = [c.score for c in candidates]
        for rank, c in enumerate(candidates):
            margin = c.score - (scores[1] if rank == 0 else scores[0])
            read = (c.score, math.log(max(c.score, 0.01)), margin, 1.0)
            evidence = sum(weight * each for weight, each in zip(weights, read, strict=True))
            assert c.confidence == pytest.approx(1 / (1 + math.exp(-evidence)), rel=1e-9)
            said.append(c.confidence)
        assert sorted((c.confidence for c in candidates), reverse=True) == [c.confidence for c in candidates]
    assert 0 < min(said) < 0.01
    assert 0.9 < max(said) < 1


def test_the_confidence_of_a_candidate_does_not_depend_on_how_many_are_asked_for() -> None:
    state, keys = taught(stream(TINY, 80, 22)), unit_keys(10, 23)
    many = answers_of(state, keys, 23, top_k=23)
    for top_k in (1, 2, 5, 22):
        assert answers_of(state, keys, 23, top_k=top_k) == [candidates[:top_k] for candidates in many]


def test_a_memory_that_learned_nothing_abstains_and_a_taught_one_does_not() -> None:
    key = unit_keys(1, 24)
    [unknown] = answers_of(RECALL.initial(), key, 23)
    state = taught([Lesson(key[0], "answer 4", 9, 1)])
    [known], [far] = answers_of(state, key, 23), answers_of(state, -key, 23)
    assert max(c.confidence for c in unknown) < TINY.abstain_below
    assert (known[0].index, known[0].confidence > 0.99) == (4, True)
    assert max(c.confidence for c in far) < TINY.abstain_below


def test_nothing_to_choose_from_is_no_answer() -> None:
    state, keys = taught(stream(TINY, 10, 25)), unit_keys(3, 26)
    assert RECALL.answer(state, keys, RECALL.book(), top_k=3) == [[], [], []]
    assert answers_of(state, keys, 23, mask=np.zeros(23, np.bool_)) == [[], [], []]


def test_top_k_is_an_upper_bound() -> None:
    state, keys = taught(stream(TINY, 10, 25)), unit_keys(2, 26)
    for count, top_k, expected in ((23, 5, 5), (23, 23, 23), (3, 5, 3), (1, 1, 1), (1, 9, 1), (23, 1, 1)):
        assert [len(candidates) for candidates in answers_of(state, keys, count, top_k=top_k)] == [expected] * 2
        assert all(len({c.index for c in candidates}) == expected for candidates in answers_of(state, keys, count, top_k=top_k))


def test_a_mask_admits_and_the_rest_is_as_if_it_were_not_there() -> None:
    state, keys = taught(stream(TINY, 120, 27)), unit_keys(20, 28)
    mask = np.arange(23) % 3 == 0
    for candidates, free in zip(answers_of(state, keys, 23, mask=mask, top_k=23), answers_of(state, keys, 23, top_k=23), strict=True):
        admitted = [c for c in free if mask[c.index]]
        assert [(c.index, c.score, c.level) for c in candidates] == [(c.index, c.score, c.level) for c in admitted]
    assert answers_of(state, keys, 23, mask=np.ones(23, np.bool_)) == answers_of(state, keys, 23)
    only = np.zeros(23, np.bool_)
    only[9] = True
    assert {c.index for candidates in answers_of(state, keys, 23, mask=only) for c in candidates} == {9}


def test_ties_are_in_the_order_of_the_book() -> None:
    mask = np.ones(23, np.bool_)
    mask[:4] = False
    [everything], [admitted] = (
        answers_of(RECALL.initial(), unit_keys(1, 29), 23),
        answers_of(RECALL.initial(), unit_keys(1, 29), 23, mask=mask),
    )
    assert [(c.index, c.score) for c in everything] == [(number, 0.0) for number in range(6)]
    assert [c.index for c in admitted] == list(range(4, 10))
    book = RECALL.book()
    for text in "baaba" * 80:
        book.add(text)
    key = unit_keys(1, 30)
    [candidates] = RECALL.answer(taught([Lesson(key[0], "a", 3, 1)]), key, book, top_k=400)
    assert [c.index for c in candidates] == sorted(range(400), key=lambda index: ("baaba"[index % 5], index))


def test_the_level_named_is_the_one_that_says_the_answer_loudest() -> None:
    recall, keys = Recall(MINUTE), unit_keys(30, 31, MINUTE.key_width, centres=30)
    state, book = recall.initial(), book_of(30, MINUTE)
    for number, key in enumerate(keys):
        recall.apply_(state, Lesson(key, f"answer {number}", MINUTE.middle_period, number + 1))
    handed = int(state.levels["fast"]["marks"][0, 1])
    assert 15 < handed < 25
    levels = [recall.answer(state, key[None], book, top_k=1)[0][0].level for key in keys]
    assert levels[handed:] == ["fast"] * (30 - handed)
    assert levels[:handed].count("middle") > 0.8 * handed
    alone = recall.update(recall.initial(), Lesson(keys[0], "answer 0", 3, 1))
    assert recall.answer(alone, keys[:1], book, top_k=1)[0][0].level == "fast"
