"""The two views of a key: the docstring of `model.features` in dense matrices, and how well the wide one approximates its kernel."""

import math

import numpy as np
import pytest
import torch
from memory_reference import MINUTE, TINY, ReferenceMemory, reference_directions, unit_keys
from numpy.typing import NDArray

from model.config import RecallConfig
from model.features import BLOCK, FeatureMap, Features, Projection

DEFAULT = RecallConfig("e" * 64)


def dense(features: Features, units: int) -> NDArray[np.float64]:
    whole = np.zeros(units)
    whole[features.units.numpy()] = features.strengths.numpy()
    return whole


def features_of(config: RecallConfig, keys: NDArray[np.floating]) -> list[Features]:
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
        assert np.abs(features.waves.numpy() - reference.psi(key.astype(np.float64))).max() < 1e-6
        assert np.abs(dense(features, config.units) - reference.phi(key.astype(np.float64))).max() < 2e-6
        assert features.units.shape == features.strengths.shape == (config.active,)
        assert bool((features.strengths >= 0).all())


@pytest.mark.parametrize(("name", "directions"), [("wide", 512), ("sharp", 1_300), ("wide", 20)])
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
    projection = Projection(3, "sharp", 40 * BLOCK)
    for key in unit_keys(5, 2):
        products = projection(torch.tensor(key))
        assert abs(float(products.mean())) < 0.02
        assert float(products.var()) == pytest.approx(1, abs=0.02)


def test_seed_and_name_draw_different_directions() -> None:
    key = torch.tensor(unit_keys(1, 3)[0])
    drawn = [Projection(seed, name, 512)(key) for seed, name in ((11, "wide"), (11, "sharp"), (12, "wide"))]
    again = Projection(11, "wide", 512)(key)
    assert torch.equal(drawn[0], again)
    for left, right in ((0, 1), (0, 2), (1, 2)):
        assert abs(float(drawn[left] @ drawn[right])) / BLOCK < 0.3


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_strengths_and_waves_together_have_unit_length(share: float) -> None:
    config = RecallConfig.tiny(encoder_digest="e", share=share)
    for features in features_of(config, unit_keys(40, 4)):
        assert float(features.waves @ features.waves) == pytest.approx(share, abs=1e-6)
        assert float(features.strengths @ features.strengths) == pytest.approx(1 - share, abs=1e-6)


@pytest.mark.parametrize("cosine", [-0.2, 0.0, 0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize(("config", "count"), [(TINY, 200), (DEFAULT, 120)], ids=["tiny", "default"])
def test_waves_approximate_the_kernel_without_bias_and_better_than_independent_frequencies(
    config: RecallConfig, count: int, cosine: float
) -> None:
    left, right = pairs(count, cosine, seed=17)
    kernel = math.exp(config.sharpness * (cosine - 1))
    products = (
        np.array([float(x.waves @ y.waves) for x, y in zip(features_of(config, left), features_of(config, right), strict=True)])
        / config.share
    )
    independent = (1 - kernel**2) / math.sqrt(2 * config.frequencies)  # standard deviation of independent Gaussian frequencies

    assert abs(products.mean() - kernel) < 2e-3 + 3 * independent / math.sqrt(count)
    assert products.std() < 1.12 * independent
    assert np.abs(products - kernel).max() < 5 * independent
    if cosine >= 0.9:
        assert products.std() < 0.8 * independent, "orthogonal directions have less variance for near keys"


def test_the_kernel_is_the_expectation_of_the_waves() -> None:
    left, right = pairs(20, 0.8, seed=18)
    view = FeatureMap(TINY)
    for x, y in zip(left.astype(np.float32), right.astype(np.float32), strict=True):
        kernel = view.kernel(torch.tensor(np.stack([x, y])), torch.tensor(y))
        assert float(kernel[0]) == pytest.approx(TINY.share * math.exp(TINY.sharpness * (float(x @ y) - 1)), rel=1e-5)
        assert float(kernel[1]) == pytest.approx(TINY.share, rel=1e-5)


@pytest.mark.parametrize(
    ("cosine", "mean", "largest"), [(-0.2, 0.01, 0.08), (0.0, 0.02, 0.16), (0.3, 0.1, 0.33), (0.6, 0.3, 0.55)], ids=str
)
def test_sharp_features_share_little_for_distant_keys(cosine: float, mean: float, largest: float) -> None:
    left, right = pairs(200, cosine, seed=19)
    shared = [
        float(dense(x, DEFAULT.units) @ dense(y, DEFAULT.units)) / (1 - DEFAULT.share)
        for x, y in zip(features_of(DEFAULT, left), features_of(DEFAULT, right), strict=True)
    ]
    assert np.mean(shared) < mean
    assert max(shared) < largest


def test_sharp_features_of_near_keys_share_most() -> None:
    left, right = pairs(100, 0.97, seed=20)
    shared = [
        float(dense(x, DEFAULT.units) @ dense(y, DEFAULT.units)) / (1 - DEFAULT.share)
        for x, y in zip(features_of(DEFAULT, left), features_of(DEFAULT, right), strict=True)
    ]
    assert min(shared) > 0.8


def test_features_are_repeatable_bitwise_over_maps_and_thread_counts() -> None:
    keys = unit_keys(4, 5)
    first = features_of(DEFAULT, keys)
    torch.set_num_threads(2)
    try:
        second = features_of(DEFAULT, keys)
    finally:
        torch.set_num_threads(1)
    for x, y in zip(first, second, strict=True):
        assert torch.equal(x.units, y.units)
        assert torch.equal(x.strengths, y.strengths)
        assert torch.equal(x.waves, y.waves)
