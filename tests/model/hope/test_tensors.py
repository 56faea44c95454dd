"""Fast state as values, and the token clock (hope.md §9)."""

from dataclasses import dataclass

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.hope.clock import pieces
from model.hope.state import Tensors, difference, scattered, stack, unstack, where


@dataclass(frozen=True, slots=True)
class Leaf(Tensors):
    weight: Tensor
    named_ones: dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Tree(Tensors):
    position: Tensor
    leaves: tuple[Leaf | None, ...]


def tree(rows, value=0.0):
    leaf = Leaf(torch.full((rows, 2, 3), value), {"a": torch.arange(rows * 2.0).reshape(rows, 2) + value})
    return Tree(torch.arange(rows) + int(value), (leaf, None, leaf.map(lambda t: t + 1)))


def test_every_tensor_has_a_dotted_path():
    assert [name for name, _ in tree(1).named()] == [
        "position",
        "leaves.0.weight",
        "leaves.0.named_ones.a",
        "leaves.2.weight",
        "leaves.2.named_ones.a",
    ]


def test_stacked_states_come_back_as_they_were_and_as_copies():
    states = [tree(1, 1.0), tree(2, 5.0), tree(1, 9.0)]
    whole = stack(states)
    assert len(whole.position) == 4
    back = unstack(whole, [1, 2, 1])
    assert all(difference(one, other) == {} for one, other in zip(states, back, strict=True))
    back[0].position.fill_(77)
    assert whole.position[0] == 1


def test_states_of_different_layouts_are_not_stacked():
    one = tree(1)
    other = Tree(one.position, (one.leaves[0], one.leaves[2], None))
    with pytest.raises(ValueError, match="only some have leaves"):
        stack([one, other])
    with pytest.raises(ValueError, match="no state"):
        stack([])


def test_states_of_different_sizes_are_not_stacked():
    wide = Leaf(torch.zeros(1, 2, 4), {"a": torch.zeros(1, 2)})
    with pytest.raises(ValueError, match=r"leaves.0.weight is float32\(1, 2, 3\) and float32\(1, 2, 4\)"):
        stack([tree(1), Tree(torch.arange(1), (wide, None, wide))])


def test_rows_are_chosen_replaced_and_compared():
    whole, other = tree(3, 0.0), tree(3, 4.0)
    mixed = where(torch.tensor([True, False, True]), other, whole)
    assert difference(mixed.rows(torch.tensor([1])), whole.rows(torch.tensor([1]))) == {}
    assert difference(mixed.rows(torch.tensor([0, 2])), other.rows(torch.tensor([0, 2]))) == {}
    again = scattered(whole, torch.tensor([0, 2]), other.rows(torch.tensor([0, 2])))
    assert difference(again, mixed) == {}
    assert difference(whole, other)["leaves.0.weight"] == 4.0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda named: named.pop("leaves.0.weight"), "lacks the tensor leaves.0.weight"),
        (lambda named: named.update(odd=torch.zeros(1)), "has the tensor odd"),
        (lambda named: named.update(position=torch.zeros(1)), r"position is float32\(1,\), this configuration needs int64"),
        (lambda named: named.update({"leaves.0.weight": torch.zeros(1, 3, 3)}), r"leaves.0.weight is float32\(1, 3, 3\)"),
    ],
    ids=["missing", "extra", "type", "shape"],
)
def test_tensors_that_do_not_fit_are_refused_by_name(change, message):
    named = dict(tree(1).named())
    change(named)
    with pytest.raises(ValueError, match=message):
        tree(1).filled(named)


def test_the_order_in_which_a_dict_was_filled_does_not_matter():
    one = Leaf(torch.zeros(1, 1), {"a": torch.tensor([1.0]), "b": torch.tensor([2.0])})
    other = Leaf(torch.zeros(1, 1), {"b": torch.tensor([20.0]), "a": torch.tensor([10.0])})
    chosen = where(torch.tensor([True]), one, other)
    assert {name: tensor.item() for name, tensor in chosen.named_ones.items()} == {"a": 1.0, "b": 2.0}
    assert difference(stack([one, other]).rows(torch.tensor([1])), other) == {}
    assert difference(scattered(one, torch.tensor([0]), other), other) == {}


def test_a_clone_shares_nothing_and_knows_its_size():
    state = tree(2)
    copy = state.clone()
    copy.position.fill_(9)
    assert state.position.tolist() == [0, 1]
    assert state.size_bytes == 2 * 8 + 2 * (2 * 6 * 4 + 2 * 2 * 4)


@given(
    positions=st.lists(st.integers(0, 200), min_size=1, max_size=4),
    length=st.integers(0, 60),
    periods=st.lists(st.integers(1, 17), min_size=1, max_size=3),
)
def test_pieces_cover_a_call_and_end_at_every_multiple_of_every_row(positions, length, periods):
    cut = pieces(positions, length, periods)
    assert [piece.start for piece in cut] == [0, *[piece.stop for piece in cut][:-1]][: len(cut)]
    assert (cut[-1].stop if cut else 0) == length
    stops = {piece.stop for piece in cut}
    due = {stop for stop in range(1, length + 1) if any((position + stop) % period == 0 for position in positions for period in periods)}
    assert stops == due | ({length} if length else set())
    for piece in cut:
        expected = tuple(tuple((position + piece.stop) % period == 0 for position in positions) for period in periods)
        assert piece.due == expected


def test_a_period_below_one_token_is_refused():
    with pytest.raises(ValueError, match="at least 1, not 0"):
        pieces([0], 4, [0])
