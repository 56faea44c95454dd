"""Which corrections hold: the newest of a situation, and older ones for as long as the memory tells them from it."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from memory_reference import MINUTE, bits_of, book_of, key_pair, stream, unit, unit_keys

from model import Lesson, Recall, State
from model.config import RecallConfig
from model.consolidation import consolidate
from model.holding import collected, holding

T = TypeVar("T")

ROOMY = replace(MINUTE, slow_from=10, code_width=64, window=300, places=200, replaced_at=1e9)  # no answer is another's successor


def ended(work: Generator[float, None, T]) -> T:
    """What comes of work that is done in steps."""
    shares = []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as stopped:
            assert shares == sorted(shares)
            found: T = stopped.value
            return found


def learned(lessons: Sequence[Lesson], config: RecallConfig = ROOMY) -> State:
    recall = Recall(config)
    return recall.fold(recall.initial(), lessons)


def right(state: State, lessons: Sequence[Lesson], answers: int = 6, config: RecallConfig = ROOMY) -> list[bool]:
    """Whether a recall gives each lesson's own answer at its key."""
    found = Recall(config).answer(state, np.stack([lesson.key for lesson in lessons]), book_of(answers, config), top_k=1)
    return [f"answer {one[0].index}" == lesson.right for one, lesson in zip(found, lessons, strict=True)]


def held(state: State, lessons: Sequence[Lesson], config: RecallConfig = ROOMY) -> tuple[list[int], list[int]]:
    """The places of lessons without own words that are the newest of their situations, and of older ones that hold."""
    found = ended(holding(config, state, collected(config, state.levels["fast"], lessons)))
    newest, apart = ([int(place) for place in each.nonzero()[:, 0]] for each in found)
    return newest, apart


def beside() -> list[Lesson]:
    """Twenty situations that have nothing to do with those of the tests."""
    return [Lesson(key, f"answer {place % 4 + 2}", 3, 1 + place) for place, key in enumerate(unit_keys(20, 31, ROOMY.key_width))]


def two_in_one(cosine: float = 0.992) -> tuple[Lesson, Lesson]:
    """An older and a newer correction in one situation."""
    older, newer = key_pair(cosine, 32, ROOMY.key_width)
    return Lesson(older, "answer 0", 3, 101), Lesson(newer, "answer 1", 3, 102)


def told_apart(older: Lesson, newer: Lesson) -> State:
    """A memory that has both of two, as if each were a situation of its own."""
    return learned([*beside(), older, newer], replace(ROOMY, same=1.0, neighbours=39, rate=100.0))


def of_roomy(state: State) -> State:
    """The state as one of the configuration in which both are one situation."""
    return replace(state, config_hash=ROOMY.hash)


def test_an_older_correction_holds_where_the_memory_tells_it_from_the_newer_and_stays_right() -> None:
    pair = two_in_one()
    state = of_roomy(told_apart(*pair))
    lessons = [*beside(), *pair]
    assert right(state, pair) == [True, True]
    assert held(state, lessons) == ([*range(20), 21], [20])
    found = ended(consolidate(ROOMY, state, lessons))
    assert found.stands.all()
    assert right(found.state, pair) == [True, True]
    assert int(found.state.levels["slow"]["held"][0, 0]) == 21, "only the newer one is learned"


def test_an_older_correction_whose_newer_one_the_memory_has_not_taken_in_is_replaced() -> None:
    older, newer = two_in_one()
    lessons = [*beside(), older, newer]
    state = learned([*beside(), newer, replace(older, seq=103), replace(newer, right=older.right, seq=104)])
    assert len(state.levels["fast"]["codes"]) == 6, "both answers are known, and it says the older at both keys"
    assert right(state, [older, newer]) == [True, False]
    assert held(state, lessons) == ([*range(20), 21], [])
    found = ended(consolidate(ROOMY, state, lessons))
    assert np.flatnonzero(~found.stands).tolist() == [20], "the gate does not ask for it"
    assert right(found.state, [newer]) == [True]


def test_an_older_one_is_told_from_the_newest_of_its_situation_whatever_came_between() -> None:
    older, newer = two_in_one()
    lessons = [*beside(), older, newer, replace(older, key=unit(older.key + 0.001 * newer.key), seq=103)]
    state = learned(lessons)
    assert right(state, lessons[-3:]) == [True, False, True], "it says the first answer everywhere"
    assert held(state, lessons) == ([*range(20), 22], [20])


@pytest.mark.parametrize("cosine", [0.9999, 0.99999])
def test_two_that_lie_as_good_as_at_one_key_are_both_kept_or_the_older_one_is_told_to_be_replaced(cosine: float) -> None:
    pair = two_in_one(cosine)
    state = of_roomy(told_apart(*pair))
    lessons = [*beside(), *pair]
    found = ended(consolidate(ROOMY, state, lessons))
    assert right(found.state, [lesson for lesson, stands in zip(lessons, found.stands, strict=True) if stands]) == [True] * int(
        found.stands.sum()
    )
    assert found.stands[:20].all()
    assert found.stands[21]


def test_what_a_full_window_has_no_room_for_is_told_to_be_replaced() -> None:
    config = replace(ROOMY, window=ROOMY.reserve + 21)  # all of it for those that are learned
    pair = two_in_one()
    state = replace(told_apart(*pair), config_hash=config.hash)
    for name in ("keys", "errors", "rates", "answers"):
        state.levels["fast"][name] = state.levels["fast"][name][: config.window].clone()
    assert right(state, pair, config=config) == [True, True]
    lessons = [*beside(), *pair]
    found = ended(consolidate(config, state, lessons))
    assert np.flatnonzero(~found.stands).tolist() == [20]
    assert right(found.state, lessons[:20] + lessons[21:], config=config) == [True] * 21


def test_at_one_key_only_the_newest_holds() -> None:
    (older, newer), lessons = two_in_one(1.0), beside()
    again = replace(newer, key=older.key)
    for second in (again, replace(again, right=older.right)):
        lessons = [*beside(), older, second]
        assert held(learned(lessons), lessons) == ([*range(20), 21], [])


def test_what_lies_apart_holds_and_own_words_replace_nothing() -> None:
    lessons = beside()
    lessons[0] = replace(lessons[0], words=unit_keys(1, 33, ROOMY.key_width)[0])
    lessons += [Lesson(unit_keys(1, 34, ROOMY.key_width)[0], "answer 0", 3, 101, words=lessons[5].key)]
    state = learned(lessons)
    material = collected(ROOMY, state.levels["fast"], lessons)
    assert material.taught.tolist() == [False, *[True] * 20, False, True]
    found = ended(holding(ROOMY, state, material))
    assert found.newest.all()
    assert not found.apart.any()


@pytest.mark.parametrize("seed", range(6))
def test_of_corrections_that_hold_none_that_the_memory_gets_right_flips_however_alike_they_are(seed: int) -> None:
    rng = np.random.default_rng(seed)
    few = unit_keys(30, 40 + seed, ROOMY.key_width)
    keys = unit(few[rng.integers(30, size=150)] + 0.02 * rng.standard_normal((150, ROOMY.key_width)))  # about five in a situation
    lessons = [Lesson(key, f"answer {rng.integers(6)}", 3, 1 + place) for place, key in enumerate(keys)]
    state = learned(lessons[:60])
    for upto in (60, 100, 150):
        state = Recall(ROOMY).fold(state, lessons[int(state.clock.events) : upto])
        before = np.array(right(state, lessons[:upto]))
        found = ended(consolidate(ROOMY, state, lessons[:upto]))
        after = np.array(right(found.state, lessons[:upto]))
        assert not (before & ~after & found.stands).any()
        assert after[found.stands].all(), "all that hold are right"
        assert not found.stands.all()
        state = found.state


def test_what_holds_is_found_again_bit_for_bit_and_leaves_the_memory_as_it_is() -> None:
    lessons = stream(ROOMY, 120, 3, answers=6)
    state = learned(lessons)
    before, material = bits_of(state), collected(ROOMY, state.levels["fast"], lessons)
    first, second = (ended(holding(ROOMY, state, material)) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert bits_of(state) == before
