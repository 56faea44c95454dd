"""The features of a key: the docstring of `model.features` in dense matrices, and how well they approximate the kernel."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, ReferenceMemory, reference_directions, unit_keys
from numpy.typing import NDArray

from model.config import RecallConfig
from model.features import BLOCK, FeatureMap, Projection, kernel

DEFAULT = RecallConfig("e" * 64)


def features_of(config: RecallConfig, keys: NDArray[np.floating]) -> list[torch.Tensor]:
    view = FeatureMap(config)
    return [view(torch.tensor(key, dtype=torch.float32)) for key in keys]


def pairs(count: int, cosine: float, seed: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Random unit keys (count, 384) twice, with one inner product between partners."""
    rng = np.random.default_rng(seed)
    left, other = rng.standard_normal((2, count, 384))
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    other -= (left * other).sum(1, keepdims=True) * left
    other /= np.linalg.norm(other, axis=1, keepdims=True)
    return left, cosine * left + math.sqrt(1 - cosine**2) * other


@pytest.mark.parametrize("config", [TINY, MINUTE], ids=["tiny", "minute"])
def test_features_are_those_of_the_dense_reference(config: RecallConfig) -> None:
    reference = ReferenceMemory(config)
    keys = unit_keys(60, 1, config.key_width)
    for key, features in zip(keys, features_of(config, keys), strict=True):
        assert features.shape == (2 * config.frequencies,)
        assert np.abs(features.numpy() - reference.psi(key.astype(np.float64))).max() < 1e-6


@pytest.mark.parametrize(("name", "directions"), [("wide", 512), ("other", 1_300), ("wide", 20)])
def test_projection_is_its_dense_matrix(name: str, directions: int) -> None:
    fast = Projection(7, name, directions)
    columns = torch.stack([fast(row) for row in torch.eye(BLOCK)], dim=1).numpy()
    assert np.abs(columns - reference_directions(7, name, directions)).max() < 1e-5


def test_directions_of_a_block_are_orthogonal_and_of_one_length() -> None:
    projection = Projection(11, "wide", 2 * BLOCK)
    matrix = torch.stack([projection(row) for row in torch.eye(BLOCK, dtype=torch.float32)], dim=1).double()  # (1024, 512)
    for block in (matrix[:BLOCK], matrix[BLOCK:]):
        assert float((block @ block.T - BLOCK * torch.eye(BLOCK)).abs().max()) < 2e-3
    across = (matrix[:BLOCK] @ matrix[BLOCK:].T).flatten() / BLOCK
    assert float(across.std()) == pytest.approx(1 / math.sqrt(BLOCK), rel=0.05), "blocks are drawn independently of each other"


def test_products_with_a_unit_vector_have_mean_0_and_variance_1() -> None:
    projection = Projection(3, "wide", 40 * BLOCK)
    for key in unit_keys(5, 2):
        products = projection(torch.tensor(key))
        assert abs(float(products.mean())) < 0.02
        assert float(products.var()) == pytest.approx(1, abs=0.02)


def test_seed_and_name_draw_different_directions() -> None:
    key = torch.tensor(unit_keys(1, 3)[0])
    drawn = [Projection(seed, name, 512)(key) for seed, name in ((11, "wide"), (11, "other"), (12, "wide"))]
    again = Projection(11, "wide", 512)(key)
    assert torch.equal(drawn[0], again)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(drawn[left] @ drawn[right])) / BLOCK < 0.3


@pytest.mark.parametrize("config", [MINUTE, TINY, DEFAULT], ids=["minute", "tiny", "default"])
def test_features_have_unit_length(config: RecallConfig) -> None:
    for features in features_of(config, unit_keys(40, 4, config.key_width)):
        assert float(features @ features) == pytest.approx(1, abs=1e-6)


def test_features_are_those_of_the_key_that_is_asked_for_whatever_was_asked_before() -> None:
    view, keys = FeatureMap(MINUTE), unit_keys(3, 6, MINUTE.key_width)
    alone = [FeatureMap(MINUTE)(torch.tensor(key)) for key in keys]
    for place in (0, 0, 1, 0, 2, 2, 1):
        assert torch.equal(view(torch.tensor(keys[place])), alone[place])
    changing = torch.tensor(keys[0])
    view(changing)
    changing.copy_(torch.tensor(keys[1]))
    assert torch.equal(view(changing), alone[1]), "a key is known by its numbers, not by where it lies"


@pytest.mark.parametrize("cosine", [-0.2, 0.0, 0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize(("config", "count"), [(TINY, 200), (DEFAULT, 200)], ids=["tiny", "default"])
def test_features_approximate_the_kernel_without_bias_and_better_than_independent_frequencies(
    config: RecallConfig, count: int, cosine: float
) -> None:
    left, right = pairs(count, cosine, seed=17)
    expected = math.exp(config.sharpness * (cosine - 1))
    products = np.array([float(x @ y) for x, y in zip(features_of(config, left), features_of(config, right), strict=True)])
    independent = (1 - expected**2) / math.sqrt(2 * config.frequencies)  # standard deviation of independent Gaussian frequencies

    assert abs(products.mean() - expected) < 2e-3 + 3 * independent / math.sqrt(count)
    assert products.std() < 1.15 * independent
    assert np.abs(products - expected).max() < 5 * independent
    if cosine >= 0.9:
        assert products.std() < 0.8 * independent, "orthogonal directions have less variance for near keys"


@settings(max_examples=50, derandomize=True, deadline=None)
@given(st.lists(st.floats(-1, 1), max_size=8), st.floats(0.1, 50))
def test_the_kernel_is_1_at_a_key_itself_and_decays_with_its_sharpness(cosines: list[float], sharpness: float) -> None:
    near = kernel(torch.tensor([1.0, *cosines]), sharpness)
    assert near[0] == 1
    for cosine, closeness in zip(cosines, near[1:].tolist(), strict=True):
        assert closeness == pytest.approx(math.exp(sharpness * (cosine - 1)), rel=2e-4, abs=1e-37)


def test_features_are_repeatable_bitwise_over_maps_and_thread_counts() -> None:
    keys = unit_keys(4, 5)
    first = features_of(DEFAULT, keys)
    torch.set_num_threads(2)
    try:
        second = features_of(DEFAULT, keys)
    finally:
        torch.set_num_threads(1)
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x, y)
