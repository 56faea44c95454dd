"""Momentum as a memory, its delta rule, and momentum that is a network (T51)."""

import numpy as np
import pytest
import torch
from optim_reference import delta_momentum, numbers, run

from model.optim import DeepMomentum, DeltaMomentum, HigherOrderMomentum, Momentum
from model.optim.momentum import memory_objective

WEIGHT = numbers(1, 4, 6)
GRADIENTS = [numbers(10 + t, 4, 6) for t in range(12)]


def test_momentum_is_gradient_descent_on_a_memory_without_values():
    rule, slots = Momentum(0.1, 0.9), Momentum().slots(WEIGHT)
    for gradient in GRADIENTS:
        memory = slots["momentum"].clone().requires_grad_()
        loss = 0.1 * memory_objective(memory, gradient) + 0.5 * (1 - 0.9) * memory.square().sum()
        (slope,) = torch.autograd.grad(loss, memory)
        change, slots = rule.step(gradient, WEIGHT, slots)
        torch.testing.assert_close(change, memory.detach() - slope, rtol=0, atol=1e-12)


def test_momentum_of_decay_09_holds_half_of_itself_in_6_gradients_and_99_percent_in_43():
    weight = torch.zeros(1, 100, dtype=torch.float64)
    gradients = [torch.eye(100, dtype=torch.float64)[t : t + 1] for t in range(100)]  # step t writes entry t
    slots = Momentum(1.0, 0.9).slots(weight)
    for gradient in gradients:
        _, slots = Momentum(1.0, 0.9).step(gradient, weight, slots)
    held = slots["momentum"].abs().flip(-1)[0]
    share = held.cumsum(0) / held.sum()
    assert share[4] < 0.46 < 0.468 < share[5]
    assert 0.989 < share[42] < 0.9905


def test_t51_delta_momentum_without_the_delta_term_is_plain_momentum():
    for off, plain in zip(
        run(DeltaMomentum(0.1, 0.9, erase=0.0), WEIGHT, GRADIENTS), run(Momentum(0.1, 0.9), WEIGHT, GRADIENTS), strict=True
    ):
        assert off.equal(plain)
    assert not run(DeltaMomentum(0.1, 0.9), WEIGHT, GRADIENTS)[-1].equal(plain)


def test_t51_linear_deep_momentum_is_plain_momentum():
    deep = run(DeepMomentum(0.1, 0.9, memory="linear"), WEIGHT, GRADIENTS)
    for ours, plain in zip(deep, run(Momentum(0.1, 0.9), WEIGHT, GRADIENTS), strict=True):
        torch.testing.assert_close(ours, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("erase", [None, 0.5])
@pytest.mark.parametrize("shape", [(3, 5), (5, 3)], ids=["wide", "tall"])
def test_delta_momentum_equals_its_equation_entry_by_entry(shape, erase):
    weight, gradients = numbers(1, *shape), [numbers(10 + t, *shape) for t in range(6)]
    ours = run(DeltaMomentum(0.1, 0.9, erase), weight, gradients)[-1]
    theirs = delta_momentum(weight.numpy(), [g.numpy() for g in gradients], 0.1, 0.9, 0.1 if erase is None else erase)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-12)


def test_delta_momentum_forgets_along_the_gradient_and_keeps_the_rest():
    rule = DeltaMomentum(1.0, 0.999, erase=1.0)
    rows = torch.eye(4, dtype=torch.float64)
    first, second = torch.outer(rows[0], rows[0]), torch.outer(rows[1], rows[1])
    slots = rule.slots(first)
    for gradient in [first, second, *[0.0001 * first] * 3]:
        _, slots = rule.step(gradient, first, slots)
    assert slots["momentum"][0, 0].abs() < 0.01  # overwritten, though the gradient is tiny: the key counts, not its length
    assert slots["momentum"][1, 1] < -0.99  # another direction: kept


def test_delta_momentum_stays_bounded_for_any_length_of_gradient():
    for scale in [1e-3, 1.0, 1e3]:
        slots = DeltaMomentum(1.0, 0.99, erase=1.9).slots(WEIGHT)
        for t in range(300):
            _, slots = DeltaMomentum(1.0, 0.99, erase=1.9).step(scale * GRADIENTS[t % 12], WEIGHT, slots)
        assert slots["momentum"].norm() < 100 * scale * max(gradient.norm() for gradient in GRADIENTS)


def test_higher_order_keys_store_signs_or_large_gradients():
    gradient = torch.tensor([[-2.0, 0.5]], dtype=torch.float64)
    for power, stored in [(0.0, [[1.0, -1.0]]), (3.0, [[8.0, -0.125]])]:
        rule = HigherOrderMomentum(1.0, power=power)
        change, _ = rule.step(gradient, torch.zeros_like(gradient), rule.slots(gradient))
        torch.testing.assert_close(change, torch.tensor(stored, dtype=torch.float64))


def objective(gradient, keys, values):
    """Σ_r m(g_r)_r of the memory m(k) = B relu(A k)."""
    return sum((values @ torch.relu(keys @ row))[r] for r, row in enumerate(gradient))


@pytest.mark.parametrize("shape", [(4, 6), (5, 2)])
def test_deep_momentum_makes_the_inner_step_and_reads_the_slope_of_its_own_objective(shape):
    rule, inputs = DeepMomentum(0.3, 0.8, inner=0.7, turn=0.1), shape[1]
    start = torch.cat([torch.eye(inputs), -torch.eye(inputs)]).double()
    slots, weight = rule.slots(numbers(1, *shape)), numbers(1, *shape)
    for t in range(5):
        gradient = numbers(20 + t, *shape)
        keys, values = (start + slots["turned"]).requires_grad_(), slots["values"].clone().requires_grad_()
        of_keys, of_values = torch.autograd.grad(objective(gradient, keys, values), (keys, values))
        length = of_keys.norm() if of_keys.norm() > 0 else 1.0
        turned = 0.8 * slots["turned"] - 0.1 * start.norm() * of_keys / length
        values = 0.8 * slots["values"] - 0.7 * of_values
        asked = gradient.clone().requires_grad_()
        (recalled,) = torch.autograd.grad(objective(asked, start + turned, values), asked)
        change, slots = rule.step(gradient, weight, slots)
        torch.testing.assert_close(slots["values"], values, rtol=0, atol=1e-12)
        torch.testing.assert_close(slots["turned"], turned, rtol=0, atol=1e-12)
        torch.testing.assert_close(change, 0.3 * recalled, rtol=0, atol=1e-12)


def test_deep_momentum_starts_as_plain_momentum_and_then_differs():
    deep, plain = run(DeepMomentum(0.1, 0.9), WEIGHT, GRADIENTS), run(Momentum(0.1, 0.9), WEIGHT, GRADIENTS)
    torch.testing.assert_close(deep[0], plain[0], rtol=0, atol=1e-12)
    assert (deep[1] - plain[1]).norm() > 0.01


def test_deep_momentum_goes_down_its_own_gradient_and_scales_with_it():
    rule = DeepMomentum(0.1, 0.9)
    slots, scaled = rule.slots(WEIGHT), rule.slots(WEIGHT)
    for gradient in GRADIENTS:
        change, slots = rule.step(gradient, WEIGHT, slots)
        large, scaled = rule.step(1000 * gradient, WEIGHT, scaled)
        assert (change * gradient).sum() < 0
        torch.testing.assert_close(large, 1000 * change, rtol=1e-10, atol=0)
        assert slots["turned"].norm() <= 0.02 / (1 - 0.9) * 12**0.5
