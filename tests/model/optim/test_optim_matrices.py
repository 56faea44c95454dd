"""Newton–Schulz, Muon and M3 against float64 references that share no code (T50, T52)."""

import numpy as np
import pytest
import torch
from optim_reference import m3_default, m3_literal, muon, numbers, orthogonalised, run

from model.optim import M3, DeepMomentum, Muon, RuleOptimizer, newton_schulz


def singular(matrix: torch.Tensor) -> torch.Tensor:
    return torch.linalg.svdvals(matrix)


@pytest.mark.parametrize("shape", [(32, 64), (64, 32), (16, 100), (1, 8), (8, 1)])
def test_t50_five_quintic_steps_bring_singular_values_near_one(shape):
    for seed in range(20):
        values = singular(newton_schulz(numbers(seed, *shape)))
        assert values.min() > 0.6
        assert values.max() < 1.25


def test_t50_square_matrices_keep_a_tail():
    tails = [singular(newton_schulz(numbers(seed, 32, 32))).min() for seed in range(20)]
    assert 0.0 < min(tails) < 0.5  # the default for square weights is not exactly orthogonal, and nobody may rely on it


def test_t50_commutes_with_transposition_and_ignores_scale():
    for shape in [(5, 9), (9, 5), (6, 6)]:
        matrix = numbers(3, *shape)
        torch.testing.assert_close(newton_schulz(matrix).mT, newton_schulz(matrix.mT), rtol=0, atol=1e-12)
        for scale in [1e-200, 1e-3, 1e3, 1e200]:
            torch.testing.assert_close(newton_schulz(scale * matrix), newton_schulz(matrix), rtol=0, atol=1e-10)
    tiny = numbers(3, 5, 9).float() * 1e-30
    torch.testing.assert_close(newton_schulz(tiny).double(), newton_schulz(numbers(3, 5, 9)), rtol=0, atol=1e-4)


def test_t50_keeps_singular_vectors_and_equals_the_map_on_singular_values():
    for shape in [(5, 9), (9, 5), (6, 6)]:
        matrix = numbers(4, *shape)
        np.testing.assert_allclose(newton_schulz(matrix).numpy(), orthogonalised(matrix.numpy()), atol=1e-10)


def test_t50_cubic_form_converges_to_the_orthogonal_factor():
    matrix = numbers(5, 32, 64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(newton_schulz(matrix, 20, "cubic"), left @ right, rtol=0, atol=1e-10)
    few = singular(newton_schulz(matrix, 3, "cubic"))
    assert few.min() < 0.3 < few.max() < 0.9


def test_newton_schulz_is_batched_keeps_dtype_and_leaves_zero_at_zero():
    stack = numbers(6, 2, 3, 4, 7)
    torch.testing.assert_close(newton_schulz(stack)[1, 2], newton_schulz(stack[1, 2]), rtol=0, atol=1e-12)
    assert newton_schulz(torch.zeros(3, 4)).equal(torch.zeros(3, 4))
    assert newton_schulz(stack.bfloat16()).dtype == torch.bfloat16
    half = newton_schulz(stack.float(), compute="bfloat16")
    assert half.dtype == torch.float32
    error = torch.linalg.matrix_norm(half.double() - newton_schulz(stack)) / torch.linalg.matrix_norm(newton_schulz(stack))
    assert 1e-3 < error.max() < 0.1  # the digits of bfloat16 through five steep steps, and it did compute in bfloat16


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: newton_schulz(torch.ones(3)), "matrices"),
        (lambda: newton_schulz(torch.ones(3, 0)), "matrices"),
        (lambda: newton_schulz(torch.ones(3, 3), 0), "steps"),
        (lambda: newton_schulz(torch.ones(3, 3), form="septic"), "form"),
        (lambda: newton_schulz(torch.ones(3, 3), compute="float8"), "compute"),
        (lambda: Muon(scale="big").step(torch.ones(3, 3), torch.ones(3, 3), Muon().slots(torch.ones(3, 3))), "scale"),
    ],
)
def test_newton_schulz_refuses_what_it_cannot_do(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("shape", [(4, 6), (7, 3), (5, 5)])
def test_muon_equals_an_independent_implementation(shape):
    weight, gradients = numbers(1, *shape), [numbers(10 + t, *shape) for t in range(8)]
    ours = run(Muon(0.02, 0.9, weight_decay=0.1), weight, gradients)[-1]
    theirs = muon(weight.numpy(), [gradient.numpy() for gradient in gradients], 0.02, 0.9, 0.1)
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
@pytest.mark.parametrize(("ours", "theirs"), [("shape", "original"), ("rms", "match_rms_adamw")])
def test_muon_follows_torchs_muon_as_near_as_its_bfloat16_allows(ours, theirs):
    a, b = [torch.nn.Parameter(numbers(1, 12, 5).float()) for _ in range(2)]
    first = RuleOptimizer([a], Muon(0.02, 0.9, weight_decay=0.1, scale=ours, compute="bfloat16"))
    second = torch.optim.Muon([b], lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn=theirs)
    for t in range(5):
        a.grad, b.grad = numbers(t, 12, 5).float(), numbers(t, 12, 5).float()
        first.step()
        second.step()
    start = numbers(1, 12, 5).float()
    assert (a - b).norm() < 0.02 * (b - start).norm()


def test_t51_linear_deep_momentum_with_newton_schulz_is_muon():
    weight, gradients = numbers(1, 4, 6), [numbers(10 + t, 4, 6) for t in range(8)]
    deep = run(DeepMomentum(0.02, 0.9, memory="linear", output="newton_schulz"), weight, gradients)
    plain = run(Muon(0.02, 0.9, nesterov=False, scale="none"), weight, gradients)
    torch.testing.assert_close(deep[-1], plain[-1], rtol=0, atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 6), (7, 3)])
def test_t52_m3_literal_equals_the_algorithm_computed_by_hand(shape):
    weight, gradients = numbers(1, *shape), [numbers(10 + t, *shape) for t in range(10)]
    rule = M3(0.02, 0.9, 0.7, 0.8, period=3, mix=0.4, literal=True, v_mode="none", weight_decay=9.0)
    expected = m3_literal(weight.numpy(), [g.numpy() for g in gradients], 0.02, 0.9, 0.8, 0.7, 0.4, 3, 1e-8)
    for ours, theirs in zip(run(rule, weight, gradients), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)


@pytest.mark.parametrize("shape", [(4, 6), (7, 3)])
def test_t52_m3_default_equals_its_reference(shape):
    weight, gradients = numbers(1, *shape), [numbers(10 + t, *shape) for t in range(10)]
    rule = M3(0.02, 0.9, 0.7, period=3, mix=0.4, weight_decay=0.1)
    expected = m3_default(weight.numpy(), [g.numpy() for g in gradients], 0.02, 0.9, 0.7, 0.4, 3, 0.1)
    for ours, theirs in zip(run(rule, weight, gradients), expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-10)


def test_the_slow_memory_of_m3_averages_the_mean_gradients_of_its_periods():
    rule, weight, gradients = M3(0.02, slow_decay=0.7, period=3), numbers(1, 4, 6), [numbers(10 + t, 4, 6) for t in range(7)]
    slots = rule.slots(weight)
    for gradient in gradients:
        _, slots = rule.step(gradient, weight, slots)
    first, second = sum(gradients[:3]) / 3, sum(gradients[3:6]) / 3
    torch.testing.assert_close(slots["slow"], 0.7 * 0.3 * first + 0.3 * second, rtol=0, atol=1e-12)
    torch.testing.assert_close(slots["window"], gradients[6])


def test_m3_post_divides_the_default_update_by_the_corrected_root_of_squares():
    weight, gradients = numbers(1, 4, 6), [numbers(10 + t, 4, 6) for t in range(5)]
    plain, divided = M3(0.02, period=2), M3(0.02, square_decay=0.8, period=2, v_mode="post")
    a, b = plain.slots(weight), divided.slots(weight)
    for t, gradient in enumerate(gradients, 1):
        whole, a = plain.step(gradient, weight, a)
        part, b = divided.step(gradient, weight, b)
        square = sum(0.2 * 0.8 ** (t - i) * gradients[i - 1] ** 2 for i in range(1, t + 1)) / (1 - 0.8**t)
        torch.testing.assert_close(part, whole / (square.sqrt() + 1e-8), rtol=1e-10, atol=0)


@pytest.mark.parametrize("literal", [False, True])
def test_t52_slow_momentum_changes_only_at_its_period_and_is_used_one_step_later(literal):
    period, weight = 4, numbers(1, 4, 6)
    rules = {mix: M3(0.02, period=period, mix=mix, literal=literal) for mix in (0.0, 0.5)}
    slots = {mix: rule.slots(weight) for mix, rule in rules.items()}
    for t in range(1, 3 * period + 1):
        before = {mix: slots[mix]["slow"] for mix in rules}
        change = {}
        for mix, rule in rules.items():
            change[mix], slots[mix] = rule.step(numbers(10 + t, 4, 6), weight, slots[mix])
        assert slots[0.5]["slow"].equal(before[0.5]) == (t % period != 0)
        assert slots[0.5]["window"].any() == (t % period != 0)
        assert change[0.0].equal(change[0.5]) == (t <= period)  # the step that computes the first slow term does not use it
