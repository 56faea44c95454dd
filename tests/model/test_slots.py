"""Slots and parcels: a bank moves in and out bit for bit, copies what it has learned and no more, and leaves nothing behind."""

from dataclasses import replace

import pytest
import torch
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from memory_reference import MINUTE, TINY, bits_of, stream

from model import NoSlot, Parcel, Recall, RecallConfig, Slots, State, checkpoint
from model.slots import bytes_of_slot
from model.state import filled

DEFAULT = RecallConfig("e" * 64)
ODD = replace(MINUTE, window=41, key_width=23, code_width=24, frequencies=19)
RECALL = Recall(MINUTE)
LESSONS = stream(MINUTE, 60, 1)
STATES = {count: RECALL.fold(RECALL.initial(), LESSONS[:count]) for count in (0, 1, 5, 20, 60)}


def test_the_states_of_these_tests_have_filled_their_window_or_not() -> None:
    marks = [state.levels["fast"]["marks"][0].tolist() for state in STATES.values()]
    assert [taken < MINUTE.window for taken, _ in marks] == [True, True, True, True, False]
    assert [handed > 0 for _, handed in marks] == [False, False, False, True, True]


# --- in and out


@pytest.mark.parametrize("count", STATES)
def test_a_state_comes_out_of_a_slot_as_it_went_in(count: int) -> None:
    slots, state = Slots(MINUTE, 2), STATES[count]
    slot = slots.take()
    assert slots.load(slot, state) is slots.view(slot)
    for copy in (slots.view(slot), slots.save(slot), slots.pack(slot).state(MINUTE), Parcel.of(state).state(MINUTE), state.to("cpu")):
        assert bits_of(copy) == bits_of(state)
        assert copy.digest() == state.digest()
    assert checkpoint.encode(slots.view(slot)) == checkpoint.encode(state)
    slots.load(slot, Parcel.of(STATES[5]))
    assert bits_of(slots.view(slot)) == bits_of(STATES[5]), "nothing is left of what was there"


def test_learning_goes_on_in_a_slot_and_after_it_as_if_nothing_had_happened() -> None:
    slots = Slots(MINUTE, 3)
    whole = bits_of(STATES[60])
    slot = slots.take()
    view = slots.load(slot, STATES[5])
    for place, lesson in enumerate(LESSONS[5:]):
        if place % 7 == 3:  # moves to another slot, as a state or as a parcel
            moved = slots.save(slot) if place % 2 else slots.pack(slot)
            slots.give_back(slot)
            other, slot = slots.take(), slots.take()
            view = slots.load(slot, moved)
            slots.give_back(other)
        RECALL.apply_(view, lesson)
    assert bits_of(view) == bits_of(slots.save(slot)) == whole
    assert bits_of(STATES[5]) != whole


def test_copies_are_independent() -> None:
    slots = Slots(MINUTE, 2)
    slot = slots.take()
    view, before = slots.load(slot, STATES[20]), bits_of(STATES[20])
    copies = [slots.save(slot), slots.pack(slot).state(MINUTE), view.clone(), view.to("cpu")]
    parcel = slots.pack(slot)
    RECALL.apply_(view, LESSONS[20])
    for copy in copies:
        assert copy.berth is None
        assert bits_of(copy) == before == bits_of(STATES[20])
        RECALL.apply_(copy, LESSONS[20])
        assert bits_of(copy) == bits_of(view)
    assert bits_of(parcel.state(MINUTE)) == before


def test_a_parcel_holds_what_was_learned_and_one_block_of_memory() -> None:
    recall = Recall(DEFAULT)
    state = recall.fold(recall.initial(), stream(DEFAULT, 20, 2, answers=6))
    parcel = Parcel.of(state)
    rows = int(state.levels["fast"]["marks"][0, 0])
    assert 20 < rows < 27
    assert rows * (384 + 256 + 2) * 4 + 6 * 44 + 20 <= parcel.nbytes < 75_000
    tensors = [tensor for named in parcel.levels.values() for tensor in named.values()]
    assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
    assert tensors[0].untyped_storage().nbytes() == parcel.nbytes
    assert all(tensor.data_ptr() % 64 == 0 for tensor in tensors if tensor.numel())


@pytest.mark.parametrize("config", [MINUTE, TINY, ODD, DEFAULT], ids=["minute", "tiny", "odd", "default"])
def test_tensors_in_a_stack_lie_as_those_of_a_state_do(config: RecallConfig) -> None:
    slots = Slots(config, 3)
    for state in [*(slots.view(slots.take()) for _ in range(3)), Recall(config).initial()]:
        for named in state.levels.values():
            for tensor in named.values():
                assert tensor.is_contiguous()
                assert tensor.data_ptr() % 64 == 0 or not tensor.numel()


def test_what_a_slot_takes_is_told() -> None:
    device = 2_048 * (384 + 256) * 4 + 256 * 3_840 * 4 + 6_144 * (384 + 256 + 8)
    assert bytes_of_slot(DEFAULT) == (device, 2_048 * 8 + 20 + 8 + 384 * 384 * 4 + 24)
    slots = Slots(DEFAULT, 3)
    empty = 3 * sum(bytes_of_slot(DEFAULT))
    assert empty <= slots.nbytes < empty + 3 * 15 * 64
    recall, before, view = Recall(DEFAULT), slots.nbytes, slots.view(slots.take())
    assert slots.nbytes == before
    for lesson in stream(DEFAULT, 4, 3, answers=100):
        recall.apply_(view, lesson)
    assert slots.nbytes == before + 44 * len(view.levels["fast"]["codes"])
    assert view.nbytes == sum(bytes_of_slot(DEFAULT)) + 44 * len(view.levels["fast"]["codes"])


def test_only_rows_that_were_written_to_are_filled() -> None:
    sizes = {(level, name): len(tensor) for level, name, tensor in filled(STATES[5].levels)}
    assert {sizes["fast", name] for name in ("keys", "errors", "rates", "answers")} == {int(STATES[5].levels["fast"]["marks"][0, 0])}
    assert sizes["middle", "weights"] == 0
    assert {len(tensor) for _, name, tensor in filled(STATES[60].levels) if name == "rates"} == {MINUTE.window}
    assert {len(tensor) for _, name, tensor in filled(STATES[60].levels) if name == "weights"} == {MINUTE.code_width}
    for state in STATES.values():
        for level, name, tensor in filled(state.levels):
            assert not state.levels[level][name][len(tensor) :].any()


# --- who has which slot


def test_a_slot_that_was_given_back_is_empty_and_its_view_is_of_no_use() -> None:
    slots = Slots(MINUTE, 1)
    slot = slots.take()
    view = slots.load(slot, STATES[60])
    stacks = view.berth.stacks if view.berth else {}
    assert stacks["fast"]["keys"].any()
    slots.give_back(slot)
    assert not any(bool(stack.any()) for named in stacks.values() for stack in named.values())
    with pytest.raises(ValueError, match="none: its s"):
        RECALL.apply_(view, LESSONS[0])
    for act in (slots.view, slots.save, slots.pack, slots.give_back):
        with pytest.raises(KeyError):
            act(slot)
    with pytest.raises(KeyError):
        slots.load(slot, STATES[5])
    assert bits_of(slots.view(slots.take())) == bits_of(RECALL.initial())


def test_there_are_no_more_slots_than_there_are() -> None:
    slots = Slots(MINUTE, 2)
    assert (len(slots), slots.free) == (0, 2)
    taken = {slots.take(), slots.take()}
    assert (len(taken), len(slots), slots.free) == (2, 2, 0)
    with pytest.raises(NoSlot, match="all 2 slots are taken"):
        slots.take()
    slots.give_back(taken.pop())
    slots.take()


def test_a_state_of_another_configuration_is_refused_and_the_slot_stays_as_it_is() -> None:
    slots = Slots(MINUTE, 1)
    slot = slots.take()
    slots.load(slot, STATES[5])
    for foreign in (Recall(TINY).initial(), Parcel.of(Recall(replace(MINUTE, seed=12)).initial())):
        with pytest.raises(ValueError, match=f"these slots are for {MINUTE.hash[:12]}"):
            slots.load(slot, foreign)
    assert bits_of(slots.view(slot)) == bits_of(STATES[5])


class AnyHistory(RuleBasedStateMachine):
    """Slots beside states of their own."""

    slots_taken = Bundle("slots_taken")

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(MINUTE, 4)
        self.alone: dict[int, State] = {}

    @rule(target=slots_taken)
    def take(self) -> object:
        if self.slots.free:
            slot = self.slots.take()
            assert slot not in self.alone
            self.alone[slot] = RECALL.initial()
            return slot
        with pytest.raises(NoSlot):
            self.slots.take()
        return None

    @rule(slot=slots_taken, count=st.sampled_from(sorted(STATES)), packed=st.booleans())
    def load(self, slot: int, count: int, packed: bool) -> None:
        if slot in self.alone:
            self.slots.load(slot, Parcel.of(STATES[count]) if packed else STATES[count])
            self.alone[slot] = STATES[count].clone()

    @rule(slot=slots_taken, count=st.integers(1, 6))
    def learn(self, slot: int, count: int) -> None:
        if slot in self.alone:
            for lesson in stream(MINUTE, count, slot, first=self.alone[slot].watermark + 1):
                RECALL.apply_(self.slots.view(slot), lesson)
                RECALL.apply_(self.alone[slot], lesson)

    @rule(slot=consumes(slots_taken))
    def give_back(self, slot: int) -> None:
        if self.alone.pop(slot, None):
            self.slots.give_back(slot)

    @invariant()
    def every_slot_is_what_its_bank_is_alone(self) -> None:
        assert (len(self.slots), self.slots.free) == (len(self.alone), 4 - len(self.alone))
        for slot, state in self.alone.items():
            assert bits_of(self.slots.view(slot)) == bits_of(state)


TestAnyHistory = AnyHistory.TestCase
TestAnyHistory.settings = settings(max_examples=25, stateful_step_count=20, derandomize=True, deadline=None)


def test_zeros_on_the_host_are_zeros_of_their_own() -> None:
    one, other = Recall(DEFAULT).initial(), Recall(DEFAULT).initial()
    one.levels["fast"]["keys"].fill_(1.0)
    assert not other.levels["fast"]["keys"].any()
    assert torch.equal(Recall(DEFAULT).initial().levels["middle"]["weights"], torch.zeros(256, 3_840))
