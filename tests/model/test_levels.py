"""I10: a level changes only at its frequency."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, unit_keys

from model import Lesson, Recall
from model.levels import Clock, crossings

COUNTS = st.integers(0, 10**12)
STEPS = st.integers(1, 10**6)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.integers(0, 500), st.lists(st.integers(1, 60), max_size=8), st.integers(1, 70))
def test_crossings_count_the_multiples_in_the_half_open_interval(start: int, steps: list[int], period: int) -> None:
    before = after = Clock(start, 3)
    for step in steps:
        after = after.after(step)
    multiples = [moment for moment in range(before.tokens + 1, after.tokens + 1) if moment % period == 0]
    assert crossings(before, after, period) == len(multiples)
    assert crossings(before, after, 0) == len(steps)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(COUNTS, STEPS, STEPS, st.integers(0, 10**7))
def test_crossings_add_up_over_any_cut(start: int, first: int, second: int, period: int) -> None:
    a = Clock(start, 5)
    b = a.after(first)
    c = b.after(second)
    assert crossings(a, c, period) == crossings(a, b, period) + crossings(b, c, period)
    assert crossings(a, a, period) == 0


@settings(max_examples=40, derandomize=True, deadline=None)
@given(
    st.lists(st.integers(1, 8) | st.integers(1, 90), min_size=1, max_size=25),
    st.integers(2, 50),
    st.integers(1, 150),
    st.integers(0, 1_000),
)
def test_levels_change_exactly_when_the_clock_crosses_their_period(tokens: list[int], middle: int, more: int, seed: int) -> None:
    config = replace(MINUTE, middle_period=middle, slow_period=middle + more)
    recall = Recall(config)
    state, waiting, total = recall.initial(), 0, 0
    for seq, (key, count) in enumerate(zip(unit_keys(len(tokens), seed, config.key_width), tokens, strict=True), 1):
        before = state.clone()
        due = recall.apply_(state, Lesson(key, f"answer {seq}", count, seq))

        moments = range(total + 1, total + count + 1)
        total += count
        crossed = {period: any(moment % period == 0 for moment in moments) for period in (middle, middle + more)}
        waiting = 0 if crossed[middle] else waiting + 1

        assert due == {"fast"} | ({"middle"} if crossed[middle] else set()) | ({"slow"} if crossed[middle + more] else set())
        assert not state.levels["fast"]["weights"].equal(before.levels["fast"]["weights"])
        assert state.levels["middle"]["weights"].equal(before.levels["middle"]["weights"]) != crossed[middle]
        assert len(state.levels["middle"]["pending_keys"]) == len(state.levels["middle"]["pending_errors"]) == waiting < middle
        for name in ("pending_keys", "pending_errors") if waiting else ():
            assert state.levels["middle"][name][:-1].equal(before.levels["middle"][name]), "what waits is not touched"
        assert (state.clock.tokens, state.clock.events) == (total, seq)


def test_one_event_over_many_periods_writes_the_middle_level_once() -> None:
    recall = Recall(MINUTE)
    key = unit_keys(1, 1, MINUTE.key_width)[0]
    short, long = recall.initial(), recall.initial()
    assert recall.apply_(short, Lesson(key, "a", MINUTE.middle_period, 1)) == {"fast", "middle"}
    assert recall.apply_(long, Lesson(key, "a", 3 * MINUTE.slow_period + 1, 1)) == {"fast", "middle", "slow"}
    assert short.level_digests() == long.level_digests()


def test_one_token_below_a_multiple_is_no_crossing() -> None:
    recall = Recall(MINUTE)
    keys = unit_keys(2, 2, MINUTE.key_width)
    state = recall.initial()
    assert recall.apply_(state, Lesson(keys[0], "a", MINUTE.middle_period - 1, 1)) == {"fast"}
    assert recall.apply_(state, Lesson(keys[1], "b", 1, 2)) == {"fast", "middle"}
    assert len(state.levels["middle"]["pending_keys"]) == 0


@pytest.mark.parametrize("level", ["fast", "middle"])
def test_reading_changes_no_level(level: str) -> None:
    recall = Recall(MINUTE)
    state = recall.fold(recall.initial(), [Lesson(key, "a", 5, seq) for seq, key in enumerate(unit_keys(8, 3, 24), 1)])
    book = recall.book()
    book.add("a")
    before = state.level_digests()[level], state.clock, state.watermark
    recall.answer(state, unit_keys(20, 4, 24), book, top_k=3)
    assert (state.level_digests()[level], state.clock, state.watermark) == before
