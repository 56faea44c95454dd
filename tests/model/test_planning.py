"""Plans: P1 and P2 of `model.planning`, whatever was learned before and whatever comes."""

from dataclasses import replace

import numpy as np
import pytest
from memory_reference import MINUTE, TINY, bits_of, book_of, policies, stream, unit_keys

from model import Asked, Candidate, Recall, RecallConfig, Slots, State

FICKLE = replace(MINUTE, neighbours=12, own_words=1.0, code_width=64)
DEFAULT = RecallConfig("e" * 64)
CONFIGS = {"tiny": (TINY, 260), "minute": (MINUTE, 200), "fickle": (FICKLE, 200), "default": (DEFAULT, 8)}


def answers_of(recall: Recall, state: State) -> list[list[list[Candidate]]]:
    book = book_of(23, recall.config)
    return recall.answer_many([Asked(state, unit_keys(5, 3, recall.config.key_width), book, 3)])


@pytest.mark.parametrize(("config", "count"), CONFIGS.values(), ids=CONFIGS)
def test_p2_a_bank_whose_lessons_are_planned_has_the_bits_of_one_that_learns_in_place(config: RecallConfig, count: int) -> None:
    recall, slots = Recall(config), Slots(config, 2)
    lived, folded = slots.view(slots.take()), recall.initial()
    lessons, handed_on, born = stream(config, count, 5, answers=23), 0, 0
    for place, lesson in enumerate(lessons):
        plan = recall.plan(lived, lesson)
        recall.apply_(folded, lesson)
        assert answers_of(recall, plan.after) == answers_of(recall, folded), "the copy says what the state will say"
        plan.carry_out()
        assert place % 7 or bits_of(lived) == bits_of(folded)
        handed_on += plan.handed_on
        born += plan.born
    assert bits_of(lived) == bits_of(folded)
    assert born == 23 or config == DEFAULT
    assert (handed_on > 0) is (config != DEFAULT), "windows of some have filled, and pairs have left them"


@pytest.mark.parametrize("config", [MINUTE, FICKLE], ids=["minute", "fickle"])
@pytest.mark.parametrize("changing", [False, True], ids=["stream", "policies"])
def test_p1_plans_that_are_not_carried_out_leave_nothing_behind(config: RecallConfig, changing: bool) -> None:
    recall, rng = Recall(config), np.random.default_rng(3)
    lessons = policies(config, 90, 4) if changing else stream(config, 90, 4, answers=9)
    state, folded = recall.initial(), recall.initial()
    for place, lesson in enumerate(lessons):
        before = bits_of(state)
        given_up = [recall.plan(state, other) for other in lessons[place : place + rng.integers(4)]]
        assert bits_of(state) == before
        assert all(plan.holds for plan in given_up)
        recall.apply_(state, lesson)
        recall.apply_(folded, lesson)
        assert not any(plan.holds for plan in given_up)
    assert bits_of(state) == bits_of(folded)
    assert int(state.levels["fast"]["marks"][0, 1]) > 0, "pairs have left the window"


def test_plan_of_a_state_that_has_learned_something_else_is_refused_and_changes_nothing() -> None:
    recall, (first, second, third) = Recall(TINY), stream(TINY, 3, 1)
    state = recall.update(recall.initial(), first)
    late, twice = recall.plan(state, second), recall.plan(state, second)
    twice.carry_out()
    before = bits_of(state)
    for plan in (late, twice):
        assert not plan.holds
        with pytest.raises(ValueError, match="it was at 1 when"):
            plan.carry_out()
    assert bits_of(state) == before
    recall.apply_(state, third)
    assert bits_of(state) == bits_of(recall.fold(recall.initial(), [first, second, third]))


@pytest.mark.parametrize(
    "change",
    [{"seq": 1}, {"tokens": 0}, {"right": ""}, {"key": np.zeros(TINY.key_width, np.float32)}],
    ids=["seq", "tokens", "right", "key"],
)
def test_lesson_that_cannot_be_learned_cannot_be_planned(change: dict[str, object]) -> None:
    recall, (first, second) = Recall(TINY), stream(TINY, 2, 1)
    state = recall.update(recall.initial(), first)
    before = bits_of(state)
    with pytest.raises(ValueError, match="lesson"):
        recall.plan(state, replace(second, **change))
    assert bits_of(state) == before


def test_memory_whose_banks_learn_by_one_kernel_plans_nothing() -> None:
    assert Recall(TINY).plans
    assert not Recall(TINY, stacked=True).plans


def test_plan_keeps_what_is_read_while_it_is_made() -> None:
    """A reader of the state meanwhile, also of rows that the lesson will write, reads what was there."""
    recall, lessons = Recall(MINUTE), stream(MINUTE, 60, 2)
    state, other = recall.fold(recall.initial(), lessons[:59]), recall.fold(recall.initial(), lessons[:59])
    plan = recall.plan(state, lessons[59])
    assert answers_of(recall, state) == answers_of(recall, other)
    assert answers_of(recall, plan.after) == answers_of(recall, recall.update(other, lessons[59]))
