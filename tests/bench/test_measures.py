"""The arithmetic of the boards against what one can count by hand."""

from itertools import product

import numpy as np
import pytest

from bench.scoreboard.measures import auroc, calibration_error, threshold_keeping


def test_auroc_is_the_share_of_pairs_in_order_with_ties_counted_half():
    random = np.random.default_rng(3)
    inside, outside = random.integers(0, 12, 40) / 10, random.integers(0, 9, 25) / 10  # many ties
    pairs = [1.0 if a > b else 0.5 if a == b else 0.0 for a, b in product(inside, outside)]
    assert auroc(inside, outside) == pytest.approx(sum(pairs) / len(pairs))
    assert auroc([0.9, 0.8], [0.1]) == 1.0
    assert auroc([0.5], [0.5]) == 0.5


@pytest.mark.parametrize("share", [0.05, 0.5, 0.95, 1.0])
def test_threshold_is_the_highest_that_keeps_the_share(share):
    values = np.random.default_rng(1).random(20).tolist()
    threshold = threshold_keeping(values, share)
    assert sum(value >= threshold for value in values) / 20 >= share
    higher = [value for value in values if value > threshold]
    assert len(higher) / 20 < share


def test_calibration_error_weighs_each_bins_distance_by_its_size():
    # bin of .5: three answers, one right; bin of 1.0: one answer, right
    assert calibration_error([0.5, 0.5, 0.5, 1.0], [True, False, False, True]) == pytest.approx(0.75 * abs(0.5 - 1 / 3))
    assert calibration_error([1.0, 1.0], [True, True]) == 0.0
