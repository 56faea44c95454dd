"""The associative memory: its formulas against a plain float64 memory, what they are for, R1 of `model.recall`, and bad lessons."""

import hashlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, ReferenceMemory, bits_of, book_of, key_pair, stream, taught, unit, unit_keys
from numpy.typing import NDArray

from model import Lesson, Recall, RecallConfig, State
from model.codes import code, packed_code

RECALL = Recall(TINY)
DEFAULT = RecallConfig("e" * 64)
TOLERANCE = 1e-5  # of float32 sums against float64 ones; a read-out is of length 1 or so
SMALL = replace(TINY, window=40, neighbours=5)


# --- the formulas


FICKLE = replace(SMALL, replaced_at=0.01, neighbours=12, own_words=1.0)


def check_against_the_reference(recall: Recall, state: State, reference: ReferenceMemory, keys: NDArray[np.float32]) -> None:
    fast, (taken, handed) = state.levels["fast"], state.levels["fast"]["marks"][0].tolist()
    assert (taken, taken - handed) == (reference.taken, len(reference.window))
    assert np.abs(state.levels["middle"]["weights"].numpy() - reference.M).max() < TOLERANCE
    answers = list(reference.kinship.kin)
    for number, pair in zip(range(handed, taken), reference.window, strict=True):
        row = number % recall.config.window
        assert np.array_equal(fast["keys"][row].numpy(), pair.key)
        assert np.abs(fast["errors"][row].numpy() - pair.error).max() < TOLERANCE
        assert float(fast["rates"][row, 0]) == pytest.approx(pair.rate, rel=1e-6)
        assert answers[int(fast["answers"][row, 0])] == pair.answer
    places = {answer: row for row, answer in enumerate(answers)} | {None: -1}
    assert [packed_code(answer, recall.config.code_width).tolist() for answer in answers] == fast["codes"].tolist()
    kin = reference.kinship.kin.values()
    assert [[places[own.parent], places[own.successor]] for own in kin] == fast["kin"].tolist()
    assert np.abs(fast["evidence"].numpy().ravel() - [own.evidence for own in kin]).max(initial=0) < 10 * TOLERANCE
    for key in keys:
        assert np.abs(recall.read(state, key) - reference.read(key.astype(np.float64))).max() < TOLERANCE


@pytest.mark.parametrize(
    ("config", "count"),
    [
        (TINY, 130),
        (replace(SMALL, rate=0.4, neighbours=0), 80),
        (replace(SMALL, middle_period=19, sharpness=9.0, own_words=0.0, same=0.9), 80),
        (FICKLE, 80),
        (DEFAULT, 15),
    ],
    ids=["tiny", "alone and slowly", "sharp and without own words", "fickle", "default"],
)
def test_the_memory_is_the_plain_float64_memory_of_its_docstring(config: RecallConfig, count: int) -> None:
    recall, lessons = Recall(config), stream(config, count, 2, answers=5 if config == FICKLE else 23)
    state, reference = taught(lessons, recall), ReferenceMemory(config).fold(lessons)
    check_against_the_reference(recall, state, reference, np.concatenate([unit_keys(20, 2), [lesson.key for lesson in lessons[-20:]]]))


def test_the_fickle_memory_of_these_tests_replaces_answers_and_takes_them_back() -> None:
    recall = Recall(FICKLE)
    state, before, ended = recall.initial(), set(), 0
    for lesson in stream(FICKLE, 80, 2, answers=5):
        recall.apply_(state, lesson)
        successions = {(row, new) for row, new in enumerate(state.levels["fast"]["kin"][:, 1].tolist()) if new >= 0}
        ended += len(before - successions)
        before = successions
    assert ended > 0


REFERENCE = ReferenceMemory(MINUTE)


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.fixed_dictionaries(
        {
            "middle_period": st.integers(2, 19),
            "neighbours": st.integers(0, 8),
            "rate": st.floats(0.05, 30.0),
            "own_words": st.sampled_from([0.0, 0.25, 1.0]),
            "same": st.sampled_from([0.5, 0.9, 0.99]),
            "replaced_at": st.floats(0.05, 1.0),
            "replaced_step": st.floats(0.0, 0.3),
        }
    ),
    st.integers(0, 60),
    st.integers(0, 10**6),
)
def test_the_memory_is_the_plain_memory_on_any_stream(changes: dict[str, float], count: int, seed: int) -> None:
    config = replace(MINUTE, **changes)
    REFERENCE.forget(config)
    recall, lessons = Recall(config), stream(config, count, seed, answers=5)
    state, reference = taught(lessons, recall), REFERENCE.fold(lessons)
    check_against_the_reference(recall, state, reference, unit_keys(5, seed + 1, config.key_width))


# --- what it is for


def exact(recall: Recall, state: State, lesson: Lesson) -> bool:
    return bool(np.abs(recall.read(state, lesson.key) - code(lesson.right, recall.config.code_width)).max() < TOLERANCE)


@pytest.mark.parametrize(
    ("config", "count"), [(TINY, 120), (replace(TINY, rate=0.1), 60), (replace(TINY, neighbours=0), 60), (DEFAULT, 60)], ids=str
)
def test_the_newest_lesson_is_exact_at_its_key(config: RecallConfig, count: int) -> None:
    recall = Recall(config)
    state = recall.initial()
    for lesson in stream(config, count, 3):
        handed = int(state.levels["fast"]["marks"][0, 1])
        recall.apply_(state, lesson)
        if int(state.levels["fast"]["marks"][0, 1]) == handed:
            assert exact(recall, state, lesson)
        else:  # features took over from the kernel that they approximate, for the pairs that left
            [[best]] = recall.answer(state, lesson.key[None], book_of(23, config), top_k=1)
            assert f"answer {best.index}" == lesson.right


def test_a_newer_correction_at_the_same_key_wins_at_once_and_leaves_nothing_of_the_older() -> None:
    recall = Recall(replace(TINY, replaced_at=1e9))  # no answer speaks for another
    key, book = unit_keys(1, 5)[0], book_of(40)
    state = taught(stream(TINY, 60, 5), recall)
    for number in (3, 31, 3, 8):
        recall.apply_(state, Lesson(key, f"answer {number}", 1, state.watermark + 1))
        [[best, second]] = recall.answer(state, key[None], book, top_k=2)
        assert best.index == number
        assert best.score == pytest.approx(1, abs=1e-5)
        older = book.scores(code(f"answer {number}", TINY.code_width))[second.index]
        assert second.score == pytest.approx(older, abs=1e-5), "only what two codes have in common"


@pytest.mark.parametrize("times", [1, 12, 13, 14, 30])
def test_a_newer_correction_wins_however_often_the_older_was_taught(times: int) -> None:
    recall, [key, elsewhere] = Recall(DEFAULT), unit_keys(2, 6, centres=2)
    lessons = [Lesson(elsewhere, "answer 1", 5, 1), *(Lesson(key, "answer 0", 5, seq) for seq in range(2, 2 + times))]
    state = taught([*lessons, Lesson(key * np.float32(0.9995), "answer 1", 5, 100)], recall)
    slightly_off = unit(key + 0.01 * unit_keys(1, 7)[0])
    said = recall.answer(state, np.stack([key, slightly_off]), book_of(2, DEFAULT), top_k=2)
    assert [candidates[0].index for candidates in said] == [1, 1]
    assert max(candidates[1].score for candidates in said) < 0.1


@pytest.mark.parametrize("neighbours", [0, 12])
def test_a_new_pair_is_written_however_many_older_ones_are_nearer_to_its_key(neighbours: int) -> None:
    recall, [key] = Recall(replace(TINY, neighbours=neighbours)), unit_keys(1, 6)
    older = [Lesson(key * np.float32(1.0005), "older", 1, seq) for seq in range(1, 15)]
    lesson = Lesson(key * np.float32(0.9995), "newer", 1, 15)
    state = recall.update(taught(older, recall), lesson)
    assert state.levels["fast"]["errors"][14].any()
    assert np.abs(recall.read(state, lesson.key) - code("newer", TINY.code_width)).max() < 2e-3 / TINY.code_width**0.5


def test_a_situation_that_is_almost_the_same_has_the_newer_answer_and_one_that_is_only_near_keeps_its_own() -> None:
    key, same = key_pair(0.995, 8)
    near = key_pair(0.9, 8)[1]
    lessons = [Lesson(-key, "answer 1", 5, 1), Lesson(key, "answer 0", 5, 2), Lesson(near, "answer 0", 5, 3)]
    state = taught([*lessons, Lesson(same, "answer 1", 5, 4)])
    said = RECALL.answer(state, np.stack([key, same, near]), book_of(2), top_k=1)
    assert [best.index for [best] in said] == [1, 1, 0]


def test_what_was_taught_is_found_in_other_words_and_the_newer_answer_too() -> None:
    recall = Recall(DEFAULT)
    rng = np.random.default_rng(6)
    keys = unit(rng.standard_normal((60, 384)))
    near = unit(keys + 0.02 * rng.standard_normal(keys.shape))
    lessons = [Lesson(key, f"answer {number}", 12, number + 1) for number, key in enumerate(keys)]
    newer = [Lesson(key, f"answer {number + 60}", 12, number + 61) for number, key in enumerate(keys[:30])]
    book = book_of(90, DEFAULT)
    first = taught(lessons, recall)
    both = recall.fold(first, newer)

    assert [answers[0].index for answers in recall.answer(first, near, book, top_k=1)] == list(range(60))
    assert [answers[0].index for answers in recall.answer(both, near, book, top_k=1)] == [*range(60, 90), *range(30, 60)]


def test_what_has_left_the_window_is_still_answered() -> None:
    keys = unit_keys(200, 9, centres=200)
    recall = Recall(replace(TINY, frequencies=1_024))
    state = taught([Lesson(key, f"answer {number % 20}", 12, number + 1) for number, key in enumerate(keys)], recall)
    handed = int(state.levels["fast"]["marks"][0, 1])
    assert handed > 90
    said = recall.answer(state, keys[:handed], book_of(20), top_k=1)
    right = [best.index == number % 20 for number, [best] in enumerate(said)]
    assert np.mean(right) > 0.9
    assert np.mean([best.level == "middle" for [best] in said]) > 0.9


def test_a_lesson_moves_only_the_pairs_that_it_touches_most() -> None:
    before = taught(stream(TINY, 60, 8))
    lesson = Lesson(unit_keys(1, 8)[0], "another", 1, before.watermark + 1)
    after = RECALL.update(before, lesson)
    was, now = before.levels["fast"], after.levels["fast"]
    taken, row = int(was["marks"][0, 0]), int(was["marks"][0, 0]) % TINY.window
    closest = set((was["keys"] @ torch.from_numpy(lesson.key)).topk(TINY.neighbours).indices.tolist())
    assert set((now["errors"] != was["errors"]).any(1).nonzero().flatten().tolist()) == closest | {row}
    for name in ("keys", "rates"):
        assert set((now[name] != was[name]).any(1).nonzero().flatten().tolist()) == {row}
    assert now["marks"].tolist() == [[taken + 1, int(was["marks"][0, 1])]]
    assert after.levels["middle"]["weights"].equal(before.levels["middle"]["weights"])


# --- R1: pure and repeatable


def test_update_leaves_its_state_as_it_is_and_fold_is_repeated_update_bitwise() -> None:
    lessons = stream(TINY, 50, 10)
    start = taught(lessons[:20])
    before = bits_of(start)
    state, states = start, []
    for lesson in lessons[20:]:
        state = RECALL.update(state, lesson)
        states.append((state, bits_of(state)))

    assert bits_of(start) == before
    assert all(bits_of(earlier) == bits for earlier, bits in states), "later updates reach no earlier state"
    assert bits_of(RECALL.fold(start, lessons[20:])) == bits_of(state)
    assert bits_of(RECALL.fold(start, iter(lessons[20:]))) == bits_of(state)
    in_place = start.clone()
    for lesson in lessons[20:]:
        RECALL.apply_(in_place, lesson)
    assert bits_of(in_place) == bits_of(state)
    assert bits_of(RECALL.fold(start, [])) == before


@settings(max_examples=25, derandomize=True, deadline=None)
@given(st.integers(1, 30), st.integers(0, 30), st.integers(0, 10**6))
def test_a_fold_may_be_cut_anywhere(count: int, cut: int, seed: int) -> None:
    recall = Recall(MINUTE)
    lessons = stream(MINUTE, count, seed, answers=4)
    whole = taught(lessons, recall)
    assert bits_of(recall.fold(taught(lessons[:cut], recall), lessons[cut:])) == bits_of(whole)
    assert bits_of(taught(lessons, Recall(MINUTE))) == bits_of(whole), "another instance, the same bits"


def laid(key: NDArray[np.float32], how: str) -> NDArray[np.float32]:
    """The same numbers, lying otherwise in memory."""
    match how:
        case "strided":
            return np.stack([key, key], axis=1)[:, 0]
        case "reversed":
            return key[::-1].copy()[::-1]
        case "read-only":
            return np.frombuffer(key.tobytes(), np.float32)
        case _:
            at = int(how)
            moved: NDArray[np.float32] = np.ndarray(key.shape, np.float32, bytearray(at + key.nbytes), at)
            moved[:] = key
            return moved


@pytest.mark.parametrize("how", ["1", "4", "20", "32", "strided", "reversed", "read-only"])
def test_bits_do_not_depend_on_how_a_key_lies_in_memory(how: str) -> None:
    lessons = stream(TINY, 30, 11)
    moved = [
        replace(lesson, key=laid(lesson.key, how), words=None if lesson.words is None else laid(lesson.words, how)) for lesson in lessons
    ]
    state = taught(lessons)
    assert bits_of(taught(moved)) == bits_of(state)
    for lesson, other in zip(lessons, moved, strict=True):
        assert RECALL.read(state, other.key).tobytes() == RECALL.read(state, lesson.key).tobytes()


def history() -> str:
    """What a fixed history gives on this machine: digests of two states and all that one says about a few keys."""
    small, full = Recall(MINUTE), Recall(DEFAULT)
    states = [taught(stream(MINUTE, 13, 12), small), taught(stream(DEFAULT, 3, 12), full)]
    assert int(states[0].levels["fast"]["marks"][0, 1]) > 0, "pairs have left the window"
    reads = b"".join(full.read(states[1], key).tobytes() for key in unit_keys(3, 13))
    asked = small.answer(states[0], unit_keys(1, 14, MINUTE.key_width), book_of(23, MINUTE), top_k=6)[0]
    said = [(c.index, c.score.hex(), c.confidence.hex(), c.level) for c in asked]
    return json.dumps([*(state.digest() for state in states), hashlib.sha256(reads).hexdigest(), said])


def test_bits_are_the_same_over_runs_processes_and_thread_counts() -> None:
    script = (
        "import sys; sys.path[:0] = ['tests/model', '.']\n"
        "import torch; from test_recall import history\n"
        "torch.set_num_threads(2)\n"
        "print(history())\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "77", "OMP_NUM_THREADS": "2"}
    root = Path(__file__).parents[2]
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=root, env=environment)
    torch.set_num_threads(1)
    assert answer.stdout.strip() == history()
    assert history() == history()


# --- bad input


KEY = unit_keys(1, 40)[0]
GOOD = Lesson(KEY, "right", 3, 1_000)
BAD = {
    "shorter key": (replace(GOOD, key=KEY[:-1]), r"float32\(383,\), not float32\(384,\)"),
    "two keys": (replace(GOOD, key=KEY[None]), r"float32\(1, 384\)"),
    "no key": (replace(GOOD, key=KEY[:0]), r"float32\(0,\)"),
    "scalar": (replace(GOOD, key=np.array(1.0, np.float32)), r"float32\(\)"),
    "float64": (replace(GOOD, key=KEY.astype(np.float64)), r"float64\(384,\)"),
    "float16": (replace(GOOD, key=KEY.astype(np.float16)), "float16"),
    "integers": (replace(GOOD, key=np.eye(384, dtype=np.int32)[0]), "int32"),
    "other byte order": (replace(GOOD, key=KEY.astype(">f4")), "not float32"),
    "NaN": (replace(GOOD, key=np.where(np.arange(384) == 5, np.float32("nan"), KEY)), "not of unit length"),
    "infinity": (replace(GOOD, key=np.where(np.arange(384) == 5, np.float32("inf"), KEY)), "not of unit length"),
    "largest numbers": (replace(GOOD, key=np.full(384, np.finfo(np.float32).max)), "not of unit length"),
    "zero": (replace(GOOD, key=KEY * 0), "not of unit length"),
    "too long": (replace(GOOD, key=KEY * np.float32(1.002)), "not of unit length"),
    "too short": (replace(GOOD, key=KEY * np.float32(0.998)), "not of unit length"),
    "seq again": (replace(GOOD, seq=58), "lesson 58 is not after lesson 58"),
    "seq before": (replace(GOOD, seq=7), "lesson 7 is not after lesson 58"),
    "no answer": (replace(GOOD, right=""), "lesson 1000 has no answer or no tokens"),
    "no tokens": (replace(GOOD, tokens=0), "lesson 1000 has no answer or no tokens"),
    "less than no tokens": (replace(GOOD, tokens=-5), "lesson 1000 has no answer or no tokens"),
    "no text": (replace(GOOD, right="\ud800"), "surrogates not allowed"),
    "words of another width": (replace(GOOD, words=KEY[:-1]), r"lesson 1000: the key of the answer's words is float32\(383,\)"),
    "words in float64": (replace(GOOD, words=KEY.astype(np.float64)), "the answer's words is float64"),
    "NaN in words": (replace(GOOD, words=np.full(384, np.float32("nan"))), "the key of the answer's words is not of unit length"),
    "words of no length": (replace(GOOD, words=KEY * 0), "the key of the answer's words is not of unit length"),
    "bad words of a known answer": (replace(GOOD, right="answer 1", words=KEY * 2), "the answer's words is not of unit length"),
}


@pytest.mark.parametrize(("lesson", "reason"), BAD.values(), ids=BAD)
def test_a_bad_lesson_is_refused_with_the_reason_and_changes_no_bit(lesson: Lesson, reason: str) -> None:
    state = taught(stream(TINY, 20, 41, answers=4))
    assert state.watermark == 58
    before = bits_of(state)
    with pytest.raises(ValueError, match=reason):
        RECALL.apply_(state, lesson)
    with pytest.raises(ValueError, match=reason):
        RECALL.update(state, lesson)
    assert bits_of(state) == before
    RECALL.apply_(state, GOOD)
    assert bits_of(state) != before, "a good one is taken"


def test_a_state_of_another_configuration_is_refused_and_stays_as_it_is() -> None:
    foreign = Recall(replace(TINY, seed=12)).initial()
    before = bits_of(foreign)
    with pytest.raises(ValueError, match=f"configuration {foreign.config_hash[:12]}, this memory is {TINY.hash[:12]}"):
        RECALL.apply_(foreign, GOOD)
    assert bits_of(foreign) == before


def test_one_distinct_answer_too_many_is_refused_and_changes_no_bit() -> None:
    recall = Recall(replace(MINUTE, max_responses=5))
    keys = unit_keys(7, 43, MINUTE.key_width)
    state = taught((Lesson(key, f"answer {number}", 3, number + 1) for number, key in enumerate(keys[:5])), recall)
    before = bits_of(state)
    with pytest.raises(ValueError, match="at most 5 distinct answers"):
        recall.apply_(state, Lesson(keys[5], "answer 5", 3, 6))
    assert bits_of(state) == before
    recall.apply_(state, Lesson(keys[5], "answer 4", 3, 6))
    assert len(state.levels["fast"]["codes"]) == 5, "a known one is taken"


def test_a_key_almost_of_unit_length_is_taken() -> None:
    for length in (0.9995, 1.0005):
        state = RECALL.update(RECALL.initial(), replace(GOOD, key=KEY * np.float32(length)))
        assert np.abs(RECALL.read(state, KEY) - code("right", TINY.code_width)).max() < 5e-3 / TINY.code_width**0.5


def test_a_fold_that_meets_a_bad_lesson_gives_no_state_and_leaves_its_own() -> None:
    lessons = stream(TINY, 10, 42)
    start = taught(lessons[:3])
    before = bits_of(start)
    with pytest.raises(ValueError, match="unit length"):
        RECALL.fold(start, [*lessons[3:6], replace(lessons[6], key=KEY * 2), *lessons[7:]])
    assert bits_of(start) == before
