"""A state is a value: independent copies, and a digest over every bit that an answer depends on."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, bits_of, stream

from model import Recall, RecallConfig, State
from model.levels import Clock
from model.state import contradictions, layout

RECALL = Recall(MINUTE)
LESSONS = stream(MINUTE, 40, 1)
TENSORS = [(level, name) for level, named in layout(MINUTE).items() for name in named]


def taught(count: int = 40) -> State:
    return RECALL.fold(RECALL.initial(), LESSONS[:count])


STATE = taught(15)


def test_the_state_of_these_tests_has_pairs_in_both_levels() -> None:
    taken, handed = STATE.levels["fast"]["marks"][0].tolist()
    assert 0 < handed < taken
    assert STATE.levels["middle"]["weights"].any()


def test_equal_histories_have_equal_digests_however_they_are_numbered() -> None:
    renumbered = [replace(lesson, seq=lesson.seq * 7 + 100) for lesson in LESSONS]
    other = RECALL.fold(RECALL.initial(), renumbered)
    assert other.watermark != taught().watermark
    assert other.digest() == taught().digest()
    assert other.level_digests() == taught().level_digests()


def test_the_order_the_key_and_the_answer_of_lessons_are_in_the_digest() -> None:
    first, second, *rest = LESSONS[:12]
    first = replace(first, words=first.key[::-1].copy())
    histories = [
        [first, second, *rest],
        [replace(second, seq=1), replace(first, seq=2), *rest],
        [replace(first, right="another"), second, *rest],
        [replace(first, key=second.key), second, *rest],
        [replace(first, words=second.key), second, *rest],
        [replace(first, words=None), second, *rest],
        [replace(first, tokens=first.tokens + MINUTE.middle_period), second, *rest],
        [first, second, *rest[:-1]],
    ]
    assert len({RECALL.fold(RECALL.initial(), history).digest() for history in histories}) == len(histories)


@settings(max_examples=120, derandomize=True, deadline=None)
@given(st.sampled_from(TENSORS), st.integers(0, 10**9), st.integers(0, 7))
def test_any_flipped_bit_changes_the_digest_and_that_of_its_level_only(where: tuple[str, str], place: int, bit: int) -> None:
    level, name = where
    changed = STATE.clone()
    octets = changed.levels[level][name].view(torch.uint8).flatten()
    octets[place % len(octets)] ^= 1 << bit

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


def test_the_shapes_and_types_of_tensors_are_in_the_digest_also_where_their_bytes_are_the_same() -> None:
    for change in (lambda tensor: tensor.reshape(tensor.shape[1], tensor.shape[0]), lambda tensor: tensor.view(torch.int32)):
        other = STATE.clone()
        other.levels["fast"]["keys"] = change(other.levels["fast"]["keys"])
        assert other.digest() != STATE.digest()


def test_the_configuration_is_in_the_digest() -> None:
    empty, other = RECALL.initial(), Recall(replace(MINUTE, seed=12)).initial()
    assert empty.level_digests() == other.level_digests()
    assert empty.digest() != other.digest()
    assert empty.digest() == Recall(replace(MINUTE, young=(1.0, 2.0, 3.0, -1.0))).initial().digest()


def test_the_digest_does_not_depend_on_how_a_tensor_lies_in_memory() -> None:
    other = STATE.clone()
    for named in other.levels.values():
        for name, tensor in named.items():
            named[name] = tensor.t().contiguous().t()
    assert not other.levels["fast"]["keys"].is_contiguous()
    assert other.digest() == STATE.digest()


def test_a_clone_shares_nothing_with_its_original() -> None:
    original = taught(15)
    before = bits_of(original)
    copy = original.clone()
    assert bits_of(copy) == before

    for lesson in LESSONS[15:]:
        RECALL.apply_(copy, lesson)
    for named in copy.levels.values():
        for tensor in named.values():
            tensor.fill_(7)

    assert bits_of(original) == before
    assert bits_of(copy) != before


def test_a_new_state_is_zeros_at_moment_zero() -> None:
    state = Recall(TINY).initial()
    assert (state.clock, state.watermark, state.config_hash) == (Clock(0, 0), 0, TINY.hash)
    assert not any(bool(tensor.any()) for named in state.levels.values() for tensor in named.values())
    forms = {level: {name: (tuple(tensor.shape), tensor.dtype) for name, tensor in named.items()} for level, named in state.levels.items()}
    assert forms == {
        level: {name: ((form.rows or 0, form.columns), form.dtype) for name, form in named.items()} for level, named in layout(TINY).items()
    }


def held(state: State) -> int:
    """Bytes that the tensors keep alive, views and all."""
    return sum(tensor.untyped_storage().nbytes() for named in state.levels.values() for tensor in named.values())


@pytest.mark.parametrize(
    ("config", "count", "row"), [(TINY, 250, 28), (MINUTE, 150, 14), (RecallConfig("e" * 64), 100, 44)], ids=["tiny", "minute", "default"]
)
def test_i7_a_bank_grows_by_a_few_bytes_with_each_distinct_answer_and_by_nothing_else(config: RecallConfig, count: int, row: int) -> None:
    recall = Recall(config)
    state, known = recall.initial(), set()
    empty = state.nbytes
    for lesson in stream(config, count, 2, answers=60):
        recall.apply_(state, lesson)
        known.add(lesson.right)
        assert state.nbytes == held(state) == empty + len(known) * row
    assert state.clock.events == count


def test_i7_a_bank_with_every_answer_that_it_may_know_stays_below_16_mebibytes() -> None:
    config = RecallConfig("e" * 64)
    book = Recall(config).book()
    for number in range(config.max_responses):
        book.add(f"answer {number}")
    assert Recall(config).initial().nbytes + 44 * config.max_responses + book.nbytes <= 16 * 2**20


# --- what no memory can hold


def changed(name: str, row: int, column: int, value: float) -> State:
    state = STATE.clone()
    state.levels["middle" if name in {"weights", "taken"} else "fast"][name][row, column] = value
    return state


KNOWN = len(STATE.levels["fast"]["codes"])
NAN, INFINITY = float("nan"), float("inf")
CONTRADICTIONS = {
    "keys not finite": (changed("keys", 39, 3, NAN), "fast.keys has numbers that are not finite"),
    "errors not finite": (changed("errors", 0, 0, INFINITY), "fast.errors has numbers that are not finite"),
    "rates not finite": (changed("rates", 1, 0, INFINITY), "fast.rates has numbers that are not finite"),
    "evidence not finite": (changed("evidence", 0, 0, NAN), "fast.evidence has numbers that are not finite"),
    "weights not finite": (changed("weights", 0, 39, NAN), "middle.weights has numbers that are not finite"),
    "more handed on than taken": (changed("marks", 0, 1, 1_000), "no window of 40 pairs has taken and handed on so many"),
    "less than none handed on": (changed("marks", 0, 1, -1), "fast.marks are"),
    "more held than the window": (changed("marks", 0, 0, 1_000), "fast.marks are 1000 and"),
    "a middle level with less than was handed on": (changed("taken", 0, 0, 0), "middle.taken is less than the"),
    "an answer too far": (changed("answers", 20, 0, KNOWN), f"fast.answers point outside the {KNOWN} answers"),
    "an answer below none": (changed("answers", 20, 0, -1), "fast.answers point outside"),
    "a parent too far": (changed("kin", 1, 0, KNOWN), f"fast.kin points outside the {KNOWN} answers"),
    "a successor too far": (changed("kin", 1, 1, KNOWN), "fast.kin points outside"),
    "a last answer too far": (changed("last", 0, 0, KNOWN), "fast.last points outside"),
    "a rate below zero": (changed("rates", 1, 0, -0.5), "fast.rates are below zero"),
    "less than no parent": (changed("kin", 1, 0, -2), "fast.kin points outside"),
    "its own successor": (changed("kin", 1, 1, 1), "answers that replace each other in a circle"),
}


@pytest.mark.parametrize(("state", "reason"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_a_contradiction_is_named(state: State, reason: str) -> None:
    [told] = contradictions(MINUTE, state.levels)
    assert reason in told


@settings(max_examples=100, derandomize=True, deadline=None)
@given(st.lists(st.integers(-1, KNOWN - 1), min_size=KNOWN, max_size=KNOWN))
def test_successions_are_refused_exactly_when_they_run_in_a_circle(successors: list[int]) -> None:
    state = STATE.clone()
    state.levels["fast"]["kin"][:, 1] = torch.tensor(successors)
    circular = False
    for start in range(KNOWN):
        at = start
        for _ in range(KNOWN + 1):
            at = successors[at] if at >= 0 else -1
        circular |= at >= 0
    assert bool(list(contradictions(MINUTE, state.levels))) == circular


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.integers(0, 40), st.integers(0, 10**6), st.sampled_from([0.05, 0.3]))
def test_no_history_leads_to_a_contradiction(count: int, seed: int, replaced_at: float) -> None:
    config = replace(MINUTE, replaced_at=replaced_at)
    recall = Recall(config)
    state = recall.fold(recall.initial(), stream(config, count, seed, answers=6))
    assert not list(contradictions(config, state.levels))
