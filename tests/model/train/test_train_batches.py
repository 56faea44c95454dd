"""Windows: the same for the same seed and index, inside one domain, and in order when scored."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.train.batches import Windows, pieces_in_order, windows_in_order

ONE, OTHER = torch.arange(100, dtype=torch.int32), torch.arange(1000, 1012, dtype=torch.int32)


def test_batch_depends_on_seed_and_index_alone():
    windows, again = Windows([ONE], 4, 8, seed=3), Windows([ONE], 4, 8, seed=3)
    forwards = [windows(index).inputs for index in range(5)]
    backwards = [again(index).inputs for index in reversed(range(5))][::-1]
    assert all(torch.equal(left, right) for left, right in zip(forwards, backwards, strict=True))
    assert not torch.equal(forwards[0], forwards[1])
    assert not torch.equal(forwards[0], Windows([ONE], 4, 8, seed=4)(0).inputs)


def test_targets_are_the_tokens_that_follow():
    batch = Windows([ONE], 4, 8, seed=0)(0)
    assert batch.inputs.shape == batch.targets.shape == (4, 8)
    assert torch.equal(batch.targets, batch.inputs + 1)


def test_no_window_crosses_domains_and_every_start_is_used():
    windows = Windows([ONE, OTHER], 50, 8, seed=1)
    batches = [windows(index) for index in range(40)]
    assert all(torch.equal(batch.targets, batch.inputs + 1) for batch in batches)
    starts = {int(start) for batch in batches for start in batch.inputs[:, 0]}
    assert starts == {*range(92), *range(1000, 1004)}


def test_text_shorter_than_a_window_is_refused():
    Windows([OTHER], 1, 11, seed=0)
    with pytest.raises(ValueError, match="window of 12 tokens needs texts of at least 13; the shortest has 12"):
        Windows([ONE, OTHER], 1, 12, seed=0)


@given(st.integers(2, 60), st.integers(1, 5), st.integers(1, 20))
def test_windows_in_order_score_every_token_but_the_first_once(length, batch, context):
    batches = list(windows_in_order(ONE[:length], batch, context))
    assert sorted(int(target) for each in batches for target in each.targets.flatten()) == list(range(1, length))
    assert all(torch.equal(each.targets, each.inputs + 1) for each in batches)
    assert all(each.inputs.shape[0] <= batch and each.inputs.shape[1] <= context for each in batches)


@given(st.integers(2, 60), st.integers(1, 20))
def test_pieces_in_order_are_one_stream(length, context):
    pieces = list(pieces_in_order(ONE[:length], context))
    assert torch.cat([piece.inputs[0] for piece in pieces]).tolist() == list(range(length - 1))
    assert torch.cat([piece.targets[0] for piece in pieces]).tolist() == list(range(1, length))


def test_limit_takes_windows_from_all_over_the_text():
    stream = torch.arange(1001)
    targets = torch.cat([batch.targets.flatten() for batch in windows_in_order(stream, 4, 10, limit=200)])
    assert len(targets) == 200
    assert int(targets.min()) < 50
    assert int(targets.max()) > 950
