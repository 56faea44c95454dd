"""Several banks in one call: R3 of `model.recall`, the bits that a bank has alone; and those bits are the ones that there ever were."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, bits_of, book_of, policies, stream, unit_keys
from memory_sequential import SequentialMemory

from model import Asked, Candidate, Lesson, Recall, RecallConfig, Slots, State

DEFAULT = RecallConfig("e" * 64)
FICKLE = replace(MINUTE, neighbours=12, own_words=1.0, code_width=64)
ODD = replace(
    MINUTE, window=41, key_width=23, code_width=24, middle_period=2, neighbours=7, frequencies=19
)  # no row is a multiple of 64 bytes
BANKS = 19  # more than the lanes of a kernel

CONFIGS = {"tiny": TINY, "minute": MINUTE, "fickle": FICKLE, "odd": ODD}
WAYS = pytest.mark.parametrize("stacked", [False, True], ids=["one by one", "stacked"])


# --- the bits that there ever were


@pytest.mark.parametrize(
    ("config", "count", "answers"),
    [
        (TINY, 260, 23),
        (MINUTE, 200, 6),
        (FICKLE, 200, 5),
        (ODD, 200, 5),
        (replace(MINUTE, own_words=0.0, same=0.5), 90, 5),
        (DEFAULT, 60, 23),
    ],
    ids=["tiny", "minute", "fickle", "odd", "same", "default"],
)
def test_a_fold_has_the_bits_of_the_memory_as_it_first_was(config: RecallConfig, count: int, answers: int) -> None:
    recall, lessons = Recall(config), stream(config, count, 5, answers=answers)
    assert bits_of(recall.fold(recall.initial(), lessons)) == bits_of(SequentialMemory(config).fold(lessons))


@settings(max_examples=40, derandomize=True, deadline=None)
@given(st.integers(0, 80), st.integers(0, 12), st.integers(0, 10**6), st.sampled_from([MINUTE, FICKLE, ODD]))
def test_any_fold_has_the_bits_of_the_memory_as_it_first_was(count: int, answers: int, seed: int, config: RecallConfig) -> None:
    lessons = stream(config, count, seed, answers=answers) if answers else policies(config, count, seed)
    recall = Recall(config)
    assert bits_of(recall.fold(recall.initial(), lessons)) == bits_of(SequentialMemory(config).fold(lessons))


@pytest.mark.parametrize("config", [FICKLE, TINY], ids=["fickle", "tiny"])
def test_a_fold_in_which_answers_are_replaced_has_the_bits_of_the_memory_as_it_first_was(config: RecallConfig) -> None:
    replaced = 0
    for seed in range(8):
        recall, lessons, before = Recall(config), policies(config, 70, seed), SequentialMemory(config)
        state, old = recall.initial(), before.fold([])
        for lesson in lessons:
            recall.apply_(state, lesson)
            before.apply_(old, lesson)
            replaced += bool((state.levels["fast"]["kin"][:, 1] >= 0).any())
        assert bits_of(state) == bits_of(old)
    assert replaced > 20


def test_reads_have_the_bits_of_the_memory_as_it_first_was() -> None:
    for config, count in ((MINUTE, 60), (DEFAULT, 20)):
        recall, before = Recall(config), SequentialMemory(config)
        state = recall.fold(recall.initial(), stream(config, count, 6))
        for key in unit_keys(20, 7, config.key_width):
            newer, older = before.read(state, torch.tensor(key))
            assert recall.read(state, key).tobytes() == (newer + older).numpy().tobytes()


# --- any company


class Together:
    """Banks in slots, each with a stream of its own, and what each is alone after any number of lessons."""

    def __init__(self, config: RecallConfig, stacked: bool, *, length: int = 60, seed: int = 100) -> None:
        self.recall = Recall(config, stacked=stacked)
        ways = (lambda bank: stream(config, length, seed + bank, answers=4 + bank % 9), lambda bank: policies(config, length, seed + bank))
        self.streams = [ways[bank % 2](bank) for bank in range(BANKS)]
        self.slots = Slots(config, BANKS + 3)
        self.views = [self.slots.view(self.slots.take()) for _ in range(BANKS)]
        self.alone = [self.recall.initial() for _ in range(BANKS)]
        self.learned = [0] * BANKS

    def teach(self, banks: list[int]) -> None:
        """The next lesson of each of these banks, in one call; and alone."""
        banks = [bank for bank in banks if self.learned[bank] < len(self.streams[bank])]
        lessons = [self.streams[bank][self.learned[bank]] for bank in banks]
        ended = self.recall.apply_many_([self.views[bank] for bank in banks], lessons)
        assert ended == [self.recall.apply_(self.alone[bank], lesson) for bank, lesson in zip(banks, lessons, strict=True)]
        for bank in banks:
            self.learned[bank] += 1

    def check(self) -> None:
        for view, alone in zip(self.views, self.alone, strict=True):
            assert bits_of(view) == bits_of(alone)


@WAYS
@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_r3_a_bank_learns_the_same_bits_whoever_learns_beside_it(config: RecallConfig, stacked: bool) -> None:
    rng, together = np.random.default_rng(1), Together(config, stacked, length=50)
    for _ in range(20 if config == TINY else 60):
        together.teach(rng.permutation(BANKS)[: rng.integers(1, BANKS + 1)].tolist())
    together.check()
    handed = [int(state.levels["fast"]["marks"][0, 1]) > 0 for state in together.alone]
    assert config == TINY or any(handed), "some have filled their windows"


@WAYS
@settings(max_examples=8, derandomize=True, deadline=None)
@given(st.data())
def test_r3_in_any_company(stacked: bool, data: st.DataObject) -> None:
    config = data.draw(st.sampled_from([MINUTE, FICKLE, ODD]))
    together = Together(config, stacked, seed=data.draw(st.integers(0, 10**6)))
    for bank in range(BANKS):  # some far ahead of the others
        for _ in range(data.draw(st.sampled_from([0, 0, 3, 30]))):
            together.teach([bank])
    for banks in data.draw(st.lists(st.lists(st.integers(0, BANKS - 1), unique=True, min_size=1), max_size=12)):
        together.teach(banks)
    together.check()


@WAYS
def test_r3_a_key_reads_the_same_whoever_is_asked_beside_it(stacked: bool) -> None:
    together, book = Together(MINUTE, stacked), book_of(12, MINUTE)
    for bank in range(BANKS):
        for _ in range(3 * bank):
            together.teach([bank])
    keys = unit_keys(40, 8, MINUTE.key_width)
    asked = [Asked(view, keys[bank : bank + 1 + bank % 11], book, 3) for bank, view in enumerate(together.views)]
    asked += [Asked(together.views[4], keys[30:], book, 5), Asked(together.views[2], keys[:3], together.recall.book(), 5)]
    alone = [[answers_of(together.recall, one, key) for key in one.keys] for one in asked]
    assert together.recall.answer_many(asked) == alone
    order = np.random.default_rng(9).permutation(len(asked))
    assert together.recall.answer_many([asked[place] for place in order]) == [alone[place] for place in order]
    assert together.recall.answer_many([]) == []


def answers_of(recall: Recall, asked: Asked, key: np.ndarray) -> list[Candidate]:
    return recall.answer(asked.state, key[None], asked.book, top_k=asked.top_k)[0]


@WAYS
def test_states_and_views_of_slots_may_learn_together(stacked: bool) -> None:
    recall, slots, lessons = Recall(MINUTE, stacked=stacked), Slots(MINUTE, 2), stream(MINUTE, 30, 10)
    other = Slots(MINUTE, 1)
    states = [slots.view(slots.take()), recall.initial(), slots.view(slots.take()), other.view(other.take()), recall.initial()]
    for lesson in lessons:
        recall.apply_many_(states, [lesson] * 5)
    assert {state.digest() for state in states} == {recall.fold(recall.initial(), lessons).digest()}


def test_nothing_happens_where_nobody_learns() -> None:
    assert Recall(MINUTE).apply_many_([], []) == []
    assert Recall(MINUTE, stacked=True).apply_many_([], []) == []


# --- bad input


def test_a_bad_lesson_changes_no_bit_of_any_bank() -> None:
    recall = Recall(MINUTE)
    states = [recall.fold(recall.initial(), stream(MINUTE, count, 11)) for count in (3, 9)]
    before = [bits_of(state) for state in states]
    good = Lesson(unit_keys(1, 12, MINUTE.key_width)[0], "answer", 3, 1_000)
    refused: list[tuple[list[State], list[Lesson], str]] = [
        (states, [good, replace(good, tokens=0)], "no tokens"),
        (states, [good, replace(good, key=good.key * 2)], "unit length"),
        ([states[0], Recall(TINY).initial()], [good, good], "the state has configuration"),
        ([states[0], states[0]], [good, good], "one lesson at a time"),
        (states, [good], "shorter"),
    ]
    for banks, lessons, reason in refused:
        with pytest.raises(ValueError, match=reason):
            recall.apply_many_(banks, lessons)
        assert [bits_of(state) for state in states] == before


def test_a_state_on_another_device_is_refused() -> None:
    with pytest.raises(ValueError, match="the state lies on meta, this memory computes on cpu"):
        Recall(MINUTE).apply_(Recall(MINUTE, "meta").initial(), stream(MINUTE, 1, 13)[0])
