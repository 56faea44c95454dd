"""A state is a value: independent copies, and a digest over every bit that an answer depends on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, bits_of, stream

from model import Recall, RecallConfig, State
from model.levels import Clock
from model.state import layout

RECALL = Recall(MINUTE)
LESSONS = stream(MINUTE, 40, 1)
TENSORS = [(level, name) for level, named in layout(MINUTE).items() for name in named]


def taught(count: int = 40) -> State:
    return RECALL.fold(RECALL.initial(), LESSONS[:count])


STATE = taught(12)  # two lessons wait


def test_the_state_of_these_tests_has_lessons_that_wait() -> None:
    assert len(STATE.levels["middle"]["pending_keys"]) == 2


def test_equal_histories_have_equal_digests_however_they_are_numbered() -> None:
    renumbered = [replace(lesson, seq=lesson.seq * 7 + 100) for lesson in LESSONS]
    other = RECALL.fold(RECALL.initial(), renumbered)
    assert other.watermark != taught().watermark
    assert other.digest() == taught().digest()
    assert other.level_digests() == taught().level_digests()


def test_the_order_the_key_and_the_answer_of_lessons_are_in_the_digest() -> None:
    first, second, *rest = LESSONS[:8]
    histories = [
        [first, second, *rest],
        [replace(second, seq=1), replace(first, seq=2), *rest],
        [replace(first, right="another"), second, *rest],
        [replace(first, key=second.key), second, *rest],
        [replace(first, tokens=first.tokens + MINUTE.middle_period), second, *rest],
        [first, second, *rest[:-1]],
    ]
    assert len({RECALL.fold(RECALL.initial(), history).digest() for history in histories}) == len(histories)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(st.sampled_from(TENSORS), st.integers(0, 10**9), st.integers(0, 31))
def test_any_flipped_bit_changes_the_digest_and_that_of_its_level_only(where: tuple[str, str], place: int, bit: int) -> None:
    level, name = where
    changed = STATE.clone()
    words = changed.levels[level][name].view(torch.int32).flatten()
    words[place % len(words)] ^= torch.tensor(1 << bit if bit < 31 else -(2**31), dtype=torch.int32)

    assert changed.digest() != STATE.digest()
    assert {at for at, digest in changed.level_digests().items() if digest != STATE.level_digests()[at]} == {level}


@pytest.mark.parametrize("clock", [Clock(1, 0), Clock(0, 1), Clock(-1, 0), Clock(0, -1)], ids=str)
def test_the_clock_is_in_the_digest_and_the_watermark_is_not(clock: Clock) -> None:
    other = STATE.clone()
    other.clock = Clock(STATE.clock.tokens + clock.tokens, STATE.clock.events + clock.events)
    assert other.digest() != STATE.digest()
    assert other.level_digests() == STATE.level_digests()
    other.clock, other.watermark = STATE.clock, STATE.watermark + 5
    assert other.digest() == STATE.digest()


def test_what_waits_is_in_the_digest_also_when_only_its_shape_tells() -> None:
    longer = STATE.clone()
    for name in ("pending_keys", "pending_errors"):
        rows = longer.levels["middle"][name]
        longer.levels["middle"][name] = torch.cat([rows, torch.zeros(1, rows.shape[1])])
    assert longer.digest() != STATE.digest()
    reshaped = STATE.clone()
    weights = reshaped.levels["fast"]["weights"]
    reshaped.levels["fast"]["weights"] = weights.reshape(weights.shape[1], weights.shape[0])
    assert reshaped.digest() != STATE.digest()


def test_the_configuration_is_in_the_digest() -> None:
    empty, other = RECALL.initial(), Recall(replace(MINUTE, seed=12)).initial()
    assert empty.level_digests() == other.level_digests()
    assert empty.digest() != other.digest()
    assert empty.digest() == Recall(replace(MINUTE, bias=-1.0)).initial().digest()


def test_the_digest_does_not_depend_on_how_a_tensor_lies_in_memory() -> None:
    other = STATE.clone()
    for named in other.levels.values():
        for name, tensor in named.items():
            named[name] = tensor.t().contiguous().t()
    assert not other.levels["fast"]["weights"].is_contiguous()
    assert other.digest() == STATE.digest()


def test_a_clone_shares_nothing_with_its_original() -> None:
    original = taught(12)
    before = bits_of(original)
    copy = original.clone()
    assert bits_of(copy) == before

    for lesson in LESSONS[12:]:
        RECALL.apply_(copy, lesson)
    for named in copy.levels.values():
        for tensor in named.values():
            tensor.fill_(7.0)

    assert bits_of(original) == before
    assert bits_of(copy) != before


def test_a_new_state_is_zeros_at_moment_zero() -> None:
    state = Recall(TINY).initial()
    assert (state.clock, state.watermark, state.config_hash) == (Clock(0, 0), 0, TINY.hash)
    assert not any(bool(tensor.any()) for named in state.levels.values() for tensor in named.values())
    shapes = {(level, name): tuple(tensor.shape) for level, named in state.levels.items() for name, tensor in named.items()}
    expected = {(level, name): (rows or 0, columns) for level, named in layout(TINY).items() for name, (rows, columns) in named.items()}
    assert shapes == expected
    assert all(tensor.dtype == torch.float32 for named in state.levels.values() for tensor in named.values())


def held(state: State) -> int:
    """Bytes that the tensors keep alive, views and all."""
    return sum(tensor.untyped_storage().nbytes() for named in state.levels.values() for tensor in named.values())


@pytest.mark.parametrize(("config", "count"), [(TINY, 2_000), (RecallConfig("e" * 64), 300)], ids=["tiny", "default"])
def test_i7_a_bank_stays_below_16_mebibytes_and_does_not_grow_with_what_it_has_learned(config: RecallConfig, count: int) -> None:
    recall = Recall(config)
    state, book = recall.initial(), recall.book()
    for number in range(config.max_responses):
        book.add(f"answer {number}")
    empty, row = state.nbytes, 4 * (config.key_width + config.code_width)
    for lesson in stream(config, count, 2, answers=500):
        recall.apply_(state, lesson)
        waiting = len(state.levels["middle"]["pending_keys"])
        assert waiting < config.middle_period
        assert state.nbytes == held(state) == empty + waiting * row
    assert state.clock.events == count
    assert empty + config.middle_period * row + book.nbytes <= 16 * 2**20
