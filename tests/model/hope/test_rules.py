"""The write of an associative memory: closed forms, fixed points, and a chunk that equals its tokens (hope.md §10, T2, T6–T10, T16)."""

import pytest
import torch

from model.hope import chunk, rules
from model.hope.memory import LinearMemory, ResidualMLP, gelu_and_slope, layers_of, unit
from model.hope.rules import DELTA, DGD, HEBBIAN, Rule


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(1)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def one(value):
    return torch.tensor(float(value))


def taught(rule, weight, keys, values, *, rate, retention=1.0):
    """A linear memory after one write per pair, each with the error at the weight of its moment."""
    memory = LinearMemory(keys.shape[-1])
    for key, value in zip(keys, values, strict=True):
        (layer,) = memory.writes({"map": weight}, key[None], value[None], rule, None).values()
        weight, _ = rules.write(
            weight, None, layer.x[0], layer.error[0], rate=one(rate), retention=one(retention), decay=None, erase=rule.erase
        )
    return weight


@pytest.mark.parametrize("length", [1.0, 0.3, 4.0])
def test_dgd_is_the_exact_minimiser_of_its_proximal_problem(length):
    """T6: argmin ½‖Wx − u‖² + ‖W − W_t‖²/2η, solved as a least-squares problem, for unit and other inputs."""
    weight, gradient, eta = torch.randn(3, 4), torch.randn(3), 0.7
    x = unit(torch.randn(4)) * length
    left = torch.cat([x[:, None].mT, torch.eye(4) * eta**-0.5])  # rows of the stacked problem in Wᵀ
    right = torch.cat([-gradient[None], weight.mT * eta**-0.5])
    expected = torch.linalg.lstsq(left, right).solution.mT
    rate = rules.proximal_rate(one(eta), (x * x).sum())
    ours, _ = rules.write(weight, None, x, gradient, rate=rate, retention=one(1), decay=None, erase=True)
    torch.testing.assert_close(ours, expected, atol=1e-12, rtol=1e-10)
    assert float(rate * (x * x).sum()) < 1.0  # an erase never overshoots


def test_dot_product_with_erase_is_the_delta_rule():
    """T7: M + η (v − M k) kᵀ."""
    weight, key, value = torch.randn(4, 4), unit(torch.randn(4)), torch.randn(4)
    ours = taught(Rule("dot", erase=True), weight, key[None], value[None], rate=0.4)
    torch.testing.assert_close(ours, weight + 0.4 * torch.outer(value - weight @ key, key))


def test_dot_product_with_erase_and_retention_is_the_gated_delta_rule():
    """T8: α M (I − (η/α) k kᵀ) + η v kᵀ."""
    weight, key, value = torch.randn(4, 4), unit(torch.randn(4)), torch.randn(4)
    ours = taught(Rule("dot", erase=True), weight, key[None], value[None], rate=0.4, retention=0.9)
    erased = 0.9 * weight @ (torch.eye(4) - (0.4 / 0.9) * torch.outer(key, key))
    torch.testing.assert_close(ours, erased + 0.4 * torch.outer(value, key))


@pytest.mark.parametrize(("rule", "share"), [(DGD, 0.5), (Rule("dot", erase=True), 1.0), (DELTA, 1.0)], ids=["dgd", "gated delta", "delta"])
def test_a_repeated_pair_ends_at_its_fixed_point(rule, share):
    """T9: v/2 under L2 with erase, v under the dot product with erase and under plain L2."""
    key, value = unit(torch.randn(4)), torch.randn(4)
    weight = taught(rule, torch.randn(4, 4), key.expand(200, 4), value.expand(200, 4), rate=0.3)
    torch.testing.assert_close(weight @ key, share * value, atol=1e-9, rtol=0)


def test_orthonormal_keys_written_once_are_recalled_exactly():
    """T10."""
    keys, values = torch.linalg.qr(torch.randn(5, 5)).Q, torch.randn(5, 5)
    weight = taught(Rule("dot", erase=True), torch.zeros(5, 5), keys, values, rate=1.0)
    torch.testing.assert_close(keys @ weight.mT, values)


def test_hebbian_writes_add_up():
    keys, values = unit(torch.randn(6, 3)), torch.randn(6, 3)
    torch.testing.assert_close(taught(HEBBIAN, torch.zeros(3, 3), keys, values, rate=0.5), 0.5 * values.mT @ keys)


@pytest.mark.parametrize("rule", [DGD, HEBBIAN], ids=["l2", "dot"])
def test_inner_gradients_are_those_of_the_objective_with_the_target_held_fixed(rule):
    """T16: error ⊗ input of every layer against autograd on the objective; the target is a constant of the inner problem."""
    memory = ResidualMLP(4, 6)
    weights = {name: w.requires_grad_() for name, w in memory.start().items()}
    key, value = unit(torch.randn(1, 4)), torch.randn(1, 4)
    target = memory.read(layers_of(weights), value)
    prediction = memory.read(layers_of(weights), key)
    fixed = target.detach()
    loss = 0.5 * (prediction - fixed).square().sum() if rule.objective == "l2" else -(prediction * fixed).sum()
    expected = dict(zip(weights, torch.autograd.grad(loss, list(weights.values())), strict=True))
    for name, layer in memory.writes(weights, key, target, rule, None).items():
        torch.testing.assert_close(layer.error.mT @ layer.x, expected[name])


def test_the_target_stays_in_the_outer_graph():
    memory = ResidualMLP(4, 4)
    weights = memory.start()
    target = torch.randn(1, 4, requires_grad=True)
    (memory.writes(weights, unit(torch.randn(1, 4)), target, DGD, None)["up"].error).sum().backward()
    assert float(target.grad.abs().max()) > 0


@pytest.mark.parametrize("size", [1, 2, 7, 16])
@pytest.mark.parametrize("momentum", [False, True], ids=["plain", "momentum"])
@pytest.mark.parametrize("erase", [False, True], ids=["keep", "erase"])
def test_a_chunk_equals_its_tokens_one_after_another(size, momentum, erase):
    """T2 for one layer: final weight and momentum, and the read before every token."""
    weight, carried = torch.randn(2, 3, 4), torch.randn(2, 3, 4) if momentum else None
    x, error, probes = torch.randn(2, size, 4), torch.randn(2, size, 3), torch.randn(2, size, 4)
    rate, log_retention, log_decay = torch.rand(2, size) * 0.2, -torch.rand(2, size) * 0.3, -torch.rand(2, size)
    plan = chunk.schedule(rate, log_retention, log_decay if momentum else None)
    done = chunk.write_chunk(plan, weight, carried, x, error, erase=erase)
    seen = done.reads.at(plan, probes)
    for t in range(size):
        torch.testing.assert_close(seen[:, t], (weight @ probes[:, t, :, None])[..., 0], atol=1e-12, rtol=1e-10)
        weight, carried = rules.write(
            weight,
            carried,
            x[:, t],
            error[:, t],
            rate=rate[:, t],
            retention=log_retention[:, t].exp(),
            decay=log_decay[:, t].exp() if momentum else None,
            erase=erase,
        )
    torch.testing.assert_close(done.weight, weight, atol=1e-12, rtol=1e-10)
    if momentum:
        torch.testing.assert_close(done.momentum, carried, atol=1e-12, rtol=1e-10)


def test_tiny_retention_over_a_long_chunk_stays_finite_with_its_gradients():
    """Ratios are differences of logarithms: α = 1e-4 over 64 tokens underflows as a product."""
    log_retention = torch.full((1, 64), -9.2, dtype=torch.float32, requires_grad=True)
    plan = chunk.schedule(torch.full((1, 64), 0.1, dtype=torch.float32), log_retention)
    done = chunk.write_chunk(
        plan,
        torch.ones(1, 2, 2, dtype=torch.float32),
        None,
        torch.ones(1, 64, 2, dtype=torch.float32),
        torch.ones(1, 64, 2, dtype=torch.float32),
        erase=True,
    )
    done.weight.sum().backward()
    assert bool(torch.isfinite(done.weight).all())
    assert bool(torch.isfinite(log_retention.grad).all())


def test_gelu_and_its_slope_are_exact_with_both_gradients():
    z = torch.randn(3, 4, requires_grad=True)
    hidden, slope = gelu_and_slope(z)
    torch.testing.assert_close(hidden, torch.nn.functional.gelu(z))
    (expected,) = torch.autograd.grad(torch.nn.functional.gelu(z).sum(), z, create_graph=True)
    torch.testing.assert_close(slope, expected)
    assert torch.autograd.gradcheck(lambda z: tuple(gelu_and_slope(z)), z)


def test_a_zero_key_stays_zero_and_finite():
    zero = torch.zeros(2, 3, requires_grad=True)
    unit(zero).sum().backward()
    assert bool(torch.isfinite(zero.grad).all())
    assert not unit(zero).any()
