"""The associative memory: its formulas against a plain float64 memory, what they are for, R1 of `model.recall`, and bad lessons."""

import hashlib
import json
import math
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
from memory_reference import MINUTE, TINY, ReferenceMemory, bits_of, book_of, reference_code, stream, taught, unit_keys
from numpy.typing import NDArray

from model import Lesson, Recall, RecallConfig
from model.codes import code

RECALL = Recall(TINY)
DEFAULT = RecallConfig("e" * 64)
TOLERANCE = 2e-6  # of float32 sums against float64 ones; a read-out is of length 1 or so


# --- the formulas


@pytest.mark.parametrize(
    ("config", "count"),
    [(TINY, 300), (replace(TINY, step=0.4, share=0.3), 150), (replace(TINY, middle_period=90, sharpness=9.0), 150), (DEFAULT, 20)],
    ids=["tiny", "small steps", "long periods", "default"],
)
def test_the_memory_is_the_plain_float64_memory_of_its_docstring(config: RecallConfig, count: int) -> None:
    recall, reference = Recall(config), ReferenceMemory(config)
    lessons = stream(config, count, 1)
    state = taught(lessons, recall)
    reference.fold(lessons)

    assert np.abs(state.levels["fast"]["weights"].numpy() - reference.S).max() < TOLERANCE
    assert np.abs(state.levels["middle"]["weights"].numpy() - reference.M).max() < TOLERANCE
    waiting = state.levels["middle"]
    assert len(waiting["pending_keys"]) == len(waiting["pending_errors"]) == len(reference.waiting)
    for row, (key, error) in enumerate(reference.waiting):
        assert np.abs(waiting["pending_keys"][row].numpy() - key).max() == 0
        assert np.abs(waiting["pending_errors"][row].numpy() - error).max() < TOLERANCE
    for key in [*unit_keys(30, 2), *(lesson.key for lesson in lessons[-30:])]:
        assert np.abs(recall.read(state, key) - reference.read(key.astype(np.float64))).max() < TOLERANCE


REFERENCES = {share: ReferenceMemory(replace(MINUTE, share=share)) for share in (0.0, 0.5, 1.0)}


@settings(max_examples=30, derandomize=True, deadline=None)
@given(st.sampled_from(sorted(REFERENCES)), st.integers(2, 60), st.floats(0.05, 1.0), st.integers(0, 40), st.integers(0, 10**6))
def test_the_memory_is_the_plain_memory_on_any_stream(share: float, period: int, step: float, count: int, seed: int) -> None:
    config = replace(MINUTE, share=share, step=step, middle_period=period)
    reference = REFERENCES[share]  # its directions depend on the seed alone: they are the costly part
    reference.config, reference.tokens, reference.waiting = config, 0, []
    reference.S, reference.M = np.zeros_like(reference.S), np.zeros_like(reference.M)
    lessons = stream(config, count, seed, answers=5)
    recall = Recall(config)
    state = taught(lessons, recall)
    reference.fold(lessons)
    for key in [*unit_keys(5, seed + 1, config.key_width), *(lesson.key for lesson in lessons[-5:])]:
        assert np.abs(recall.read(state, key) - reference.read(key.astype(np.float64))).max() < 1e-5


@pytest.mark.parametrize("written", [False, True], ids=["waiting", "written"])
@pytest.mark.parametrize("step", [1.0, 0.5])
def test_the_errors_of_a_chunk_are_one_triangular_solve(written: bool, step: float) -> None:
    # (I + η tril(K, −1)) A = V with K the kernel that the memory sees: sharp features, and waves (written) or their kernel (waiting)
    config = replace(TINY, step=step, middle_period=10_000)
    recall, reference = Recall(config), ReferenceMemory(config)
    lessons = [replace(lesson, tokens=1) for lesson in stream(config, 80, 7)]
    keys = [lesson.key.astype(np.float64) for lesson in lessons]
    phi = np.stack([reference.phi(x) for x in keys])
    wide = np.array([[reference.kernel(x, y) for y in keys] for x in keys])
    psi = np.stack([reference.psi(x) for x in keys])
    K = phi @ phi.T + (psi @ psi.T if written else wide)
    V = np.stack([reference_code(lesson.right, config.code_width) for lesson in lessons])
    A = np.linalg.solve(np.eye(len(keys)) + step * np.tril(K, -1), V)

    if written:  # every event is a period
        recall, lessons = Recall(replace(config, middle_period=16)), [replace(lesson, tokens=16) for lesson in lessons]
        state = taught(lessons, recall)
        assert len(state.levels["middle"]["pending_errors"]) == 0
        assert np.abs(state.levels["middle"]["weights"].numpy() - step * A.T @ psi).max() < TOLERANCE
    else:
        state = taught(lessons, recall)
        assert np.abs(state.levels["middle"]["pending_errors"].numpy() - A).max() < TOLERANCE
    assert np.abs(state.levels["fast"]["weights"].numpy() - step * phi.T @ A).max() < TOLERANCE


# --- what it is for


@pytest.mark.parametrize(("config", "count"), [(TINY, 120), (DEFAULT, 60)], ids=["tiny", "default"])
def test_with_step_1_the_newest_lesson_is_exact_at_its_key(config: RecallConfig, count: int) -> None:
    recall = Recall(config)
    state, exact = recall.initial(), 0
    for lesson in stream(config, count, 3):
        waited = state.levels["middle"]["pending_errors"]
        due = recall.apply_(state, lesson)
        missed = float(np.linalg.norm(recall.read(state, lesson.key) - code(lesson.right, config.code_width)))
        if "middle" in due and len(waited):  # waves take over from the kernel that they approximate, for the others that waited
            noise = 5 * config.share / math.sqrt(2 * config.frequencies)
            assert missed < noise * float(torch.linalg.vector_norm(waited, dim=1).sum())
        else:
            assert missed < 1e-5
            exact += 1
    assert exact > count // 2


@pytest.mark.parametrize("step", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("share", [0.0, 0.7, 1.0])
@pytest.mark.parametrize("tokens", [1, 16], ids=["waiting", "written"])
def test_a_lesson_moves_the_read_out_at_its_key_by_the_step(step: float, share: float, tokens: int) -> None:
    config = replace(TINY, step=step, share=share)
    recall = Recall(config)
    before = taught([replace(lesson, tokens=16) for lesson in stream(config, 30, 4)], recall)
    lesson = Lesson(unit_keys(1, 99)[0], "right", tokens, before.watermark + 1)
    was = recall.read(before, lesson.key)
    now = recall.read(recall.update(before, lesson), lesson.key)
    assert np.abs(now - (was + step * (code("right", config.code_width) - was))).max() < TOLERANCE


def test_a_newer_correction_at_the_same_key_wins_at_once_and_leaves_nothing_of_the_older() -> None:
    key, book = unit_keys(1, 5)[0], book_of(40)
    state = taught(stream(TINY, 60, 5))
    for number in (3, 31, 3, 8):
        RECALL.apply_(state, Lesson(key, f"answer {number}", 5, state.watermark + 1))
        [[best, second]] = RECALL.answer(state, key[None], book, top_k=2)
        assert best.index == number
        assert best.score == pytest.approx(1, abs=1e-5)
        older = book.scores(code(f"answer {number}", TINY.code_width))[second.index]
        assert second.score == pytest.approx(older, abs=1e-5), "only what two codes have in common"


def test_what_was_taught_is_found_in_other_words_and_the_newer_answer_too() -> None:
    recall = Recall(DEFAULT)
    keys = unit_keys(60, 6, centres=60)
    rng = np.random.default_rng(7)
    near = keys + 0.02 * rng.standard_normal(keys.shape).astype(np.float32)
    near = (near / np.linalg.norm(near, axis=1, keepdims=True)).astype(np.float32)
    lessons = [Lesson(key, f"answer {number}", 12, number + 1) for number, key in enumerate(keys)]
    newer = [Lesson(key, f"answer {number + 60}", 12, number + 61) for number, key in enumerate(keys[:30])]
    book = book_of(90, DEFAULT)
    first = taught(lessons, recall)
    both = recall.fold(first, newer)

    assert [answers[0].index for answers in recall.answer(first, near, book, top_k=1)] == list(range(60))
    assert [answers[0].index for answers in recall.answer(both, near, book, top_k=1)] == [*range(60, 90), *range(30, 60)]


def test_a_lesson_writes_only_the_rows_of_its_sharp_features() -> None:
    before = taught(stream(TINY, 40, 8))
    lesson = Lesson(unit_keys(1, 9)[0], "right", 1, before.watermark + 1)
    after = RECALL.update(before, lesson)
    changed = (after.levels["fast"]["weights"] != before.levels["fast"]["weights"]).any(dim=1).numpy()
    active = ReferenceMemory(TINY).phi(lesson.key.astype(np.float64)) > 1e-4
    assert 0 < changed.sum() <= TINY.active
    assert not (active & ~changed).any()


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
    moved = [replace(lesson, key=laid(lesson.key, how)) for lesson in lessons]
    state = taught(lessons)
    assert bits_of(taught(moved)) == bits_of(state)
    for lesson, other in zip(lessons, moved, strict=True):
        assert RECALL.read(state, other.key).tobytes() == RECALL.read(state, lesson.key).tobytes()


def history() -> str:
    """What a fixed history gives on this machine: digests of two states and all that one says about a few keys."""
    small, full = Recall(TINY), Recall(DEFAULT)
    states = [taught(stream(TINY, 20, 12), small), taught(stream(DEFAULT, 6, 12), full)]
    reads = b"".join(full.read(states[1], key).tobytes() for key in unit_keys(3, 13))
    said = [
        (c.index, c.score.hex(), c.confidence.hex(), c.level) for c in small.answer(states[0], unit_keys(1, 14), book_of(23), top_k=6)[0]
    ]
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
}


@pytest.mark.parametrize(("lesson", "reason"), BAD.values(), ids=BAD)
def test_a_bad_lesson_is_refused_with_the_reason_and_changes_no_bit(lesson: Lesson, reason: str) -> None:
    state = taught(stream(TINY, 20, 41))
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


def test_a_key_almost_of_unit_length_is_taken() -> None:
    for length in (0.9995, 1.0005):
        state = RECALL.update(RECALL.initial(), replace(GOOD, key=KEY * np.float32(length)))
        assert np.abs(RECALL.read(state, KEY) - code("right", TINY.code_width)).max() < 1e-3


def test_a_fold_that_meets_a_bad_lesson_gives_no_state_and_leaves_its_own() -> None:
    lessons = stream(TINY, 10, 42)
    start = taught(lessons[:3])
    before = bits_of(start)
    with pytest.raises(ValueError, match="unit length"):
        RECALL.fold(start, [*lessons[3:6], replace(lessons[6], key=KEY * 2), *lessons[7:]])
    assert bits_of(start) == before
