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
    st.lists(st.integers(1, 8) | st.integers(1, 90), min_size=1, max_size=40),
    st.integers(2, 19),
    st.integers(1, 150),
    st.integers(1, 20),
    st.integers(0, 1_000),
)
def test_levels_change_exactly_when_the_clock_crosses_their_period_and_the_middle_one_only_for_want_of_room(
    tokens: list[int], middle: int, more: int, room: int, seed: int
) -> None:
    config = replace(MINUTE, window=2 * middle + room, neighbours=min(4, room), middle_period=middle, slow_period=middle + more)
    recall = Recall(config)
    keys, words = unit_keys(len(tokens), seed, config.key_width), unit_keys(len(tokens), seed + 1, config.key_width)
    state, total, held, handed = recall.initial(), 0, 0, 0
    for seq, (key, own, count) in enumerate(zip(keys, words, tokens, strict=True), 1):
        before = state.clone()
        due = recall.apply_(state, Lesson(key, f"answer {seq}", count, seq, own if seq % 2 else None))

        moments = range(total + 1, total + count + 1)
        total += count
        crossed = {period: any(moment % period == 0 for moment in moments) for period in (middle, middle + more)}
        held += 1 + seq % 2
        leave = max(held - room, 0) if crossed[middle] else 0
        held, handed = held - leave, handed + leave

        assert due == {"fast"} | ({"middle"} if crossed[middle] else set()) | ({"slow"} if crossed[middle + more] else set())
        assert state.level_digests()["fast"] != before.level_digests()["fast"]
        assert (state.level_digests()["middle"] != before.level_digests()["middle"]) == (leave > 0)
        assert state.levels["fast"]["marks"].tolist() == [[held + handed, handed]]
        assert state.levels["middle"]["taken"].tolist() == [[handed]]
        assert held <= config.window
        assert (state.clock.tokens, state.clock.events) == (total, seq)


def lessons_of_one_token(count: int) -> list[Lesson]:
    return [Lesson(key, f"answer {seq % 5}", 1, seq) for seq, key in enumerate(unit_keys(count, 1, MINUTE.key_width), 1)]


def test_one_event_over_many_periods_writes_the_middle_level_once() -> None:
    recall = Recall(MINUTE)
    *first, last = lessons_of_one_token(12)
    short, long = recall.fold(recall.initial(), first), recall.fold(recall.initial(), first)
    empty = short.level_digests()["middle"]
    assert recall.apply_(short, replace(last, tokens=MINUTE.middle_period)) == {"fast", "middle"}
    assert recall.apply_(long, replace(last, tokens=3 * MINUTE.slow_period + 1)) == {"fast", "middle", "slow"}
    assert short.level_digests() == long.level_digests()
    assert short.level_digests()["middle"] != empty


def test_one_token_below_a_multiple_is_no_crossing() -> None:
    recall = Recall(MINUTE)
    lessons = lessons_of_one_token(MINUTE.middle_period)
    state = recall.initial()
    empty = state.level_digests()["middle"]
    assert [recall.apply_(state, lesson) for lesson in lessons[:-1]] == [{"fast"}] * (MINUTE.middle_period - 1)
    assert state.level_digests()["middle"] == empty
    assert recall.apply_(state, lessons[-1]) == {"fast", "middle"}
    assert state.level_digests()["middle"] != empty


def test_the_fullest_stream_of_lessons_always_finds_room() -> None:
    config = replace(MINUTE, window=33, max_responses=200)  # two pairs a token, and a window that leaves one beside the reserve
    recall = Recall(config)
    keys, own = unit_keys(100, 5, config.key_width), unit_keys(100, 6, config.key_width)
    state = recall.initial()
    for seq, (key, words) in enumerate(zip(keys, own, strict=True), 1):
        recall.apply_(state, Lesson(key, f"answer {seq}", 1, seq, words))
        taken, handed = state.levels["fast"]["marks"][0].tolist()
        assert (taken, taken - handed) == (2 * seq, 1 + 2 * (seq % 16) if seq >= 16 else 2 * seq)


@pytest.mark.parametrize("level", ["fast", "middle", "slow"])
def test_reading_changes_no_level(level: str) -> None:
    recall = Recall(MINUTE)
    state = recall.fold(recall.initial(), [replace(lesson, tokens=5) for lesson in lessons_of_one_token(20)])
    assert int(state.levels["fast"]["marks"][0, 1]) > 0
    book = recall.book()
    book.add("answer 1")
    before = state.level_digests()[level], state.clock, state.watermark
    recall.answer(state, unit_keys(20, 4, 24), book, top_k=3)
    assert (state.level_digests()[level], state.clock, state.watermark) == before
