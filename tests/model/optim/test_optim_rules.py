"""What every rule promises: pure, row by row, float32 slots, and equal to torch where torch has the same optimizer."""

import pytest
import torch
from optim_reference import MATRIX_ONLY, RULES, numbers, run

from model.optim import M3, AdamW, HigherOrderMomentum, Momentum, Muon, PreconditionedMomentum, RuleOptimizer, Sgd

each_rule = pytest.mark.parametrize("name", RULES)


@each_rule
@pytest.mark.parametrize("shape", [(4, 6), (7, 3)], ids=["wide", "tall"])
def test_batched_rows_equal_separate_rows(name, shape):
    rule, rows = RULES[name], (2, 3)
    weight, gradients = numbers(1, *rows, *shape), [numbers(10 + t, *rows, *shape) for t in range(7)]
    together = run(rule, weight, gradients)[-1]
    for row in [(i, j) for i in range(2) for j in range(3)]:
        alone = run(rule, weight[row], [gradient[row] for gradient in gradients])[-1]
        torch.testing.assert_close(together[row], alone, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["m3", "m3-post", "m3-literal", "adamw"])
def test_rows_may_be_at_different_steps(name):
    rule = RULES[name]
    weight, gradients = numbers(1, 2, 4, 6), [numbers(10 + t, 2, 4, 6) for t in range(7)]
    slots = [rule.slots(weight[row]) for row in range(2)]
    ahead = weight[0]
    for gradient in gradients[:2]:  # row 0 is two steps ahead
        change, slots[0] = rule.step(gradient[0], ahead, slots[0])
        ahead = ahead + change
    both = {name: torch.stack([slots[0][name], slots[1][name]]) for name in slots[0]}
    weights = torch.stack([ahead, weight[1]])
    for t in range(2, 7):
        change, both = rule.step(torch.stack([gradients[t][0], gradients[t - 2][1]]), weights, both)
        weights = weights + change
    torch.testing.assert_close(weights[0], run(rule, weight[0], [g[0] for g in gradients])[-1], rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(weights[1], run(rule, weight[1], [g[1] for g in gradients[:5]])[-1], rtol=1e-10, atol=1e-12)


@each_rule
def test_a_step_changes_none_of_its_arguments(name):
    rule, weight, gradient = RULES[name], numbers(1, 4, 6), numbers(2, 4, 6)
    slots = rule.slots(weight)
    for _ in range(3):
        before = weight.clone(), gradient.clone(), {key: slot.clone() for key, slot in slots.items()}
        _, after = rule.step(gradient, weight, slots)
        assert weight.equal(before[0])
        assert gradient.equal(before[1])
        assert all(slots[key].equal(before[2][key]) for key in slots)
        slots = after


@each_rule
def test_slots_of_a_bfloat16_weight_are_float32_and_keep_their_shapes(name):
    rule, weight = RULES[name], numbers(1, 3, 4, 6).bfloat16()
    fresh = rule.slots(weight)
    change, slots = rule.step(weight, weight, fresh)
    assert change.shape == weight.shape
    assert {key: (slot.shape, slot.dtype) for key, slot in slots.items()} == {key: (slot.shape, slot.dtype) for key, slot in fresh.items()}
    for key, slot in slots.items():
        assert slot.dtype == (torch.int64 if key == "count" else torch.float32)
        assert key != "count" or slot.shape == (3,)


@each_rule
def test_a_gradient_of_zero_gives_no_nan_and_no_step_from_the_start(name):
    rule = RULES[name]
    weight = numbers(1, 4, 6)
    change, slots = rule.step(torch.zeros_like(weight), weight, rule.slots(weight))
    decay = getattr(rule, "weight_decay", 0.0) * rule.rate * (not getattr(rule, "literal", False))
    torch.testing.assert_close(change, -decay * weight, rtol=0, atol=1e-15)
    assert all(slot.isfinite().all() for slot in slots.values())


@each_rule
@pytest.mark.parametrize("shape", [(5,), ()], ids=["vector", "number"])
def test_vectors_and_numbers_step_or_are_refused_by_name(name, shape):
    rule, weight = RULES[name], numbers(1, *shape)
    if name in MATRIX_ONLY:
        with pytest.raises(ValueError, match="matrices"):
            rule.slots(weight)
        return
    path = run(rule, weight, [numbers(2 + t, *shape) for t in range(3)])
    assert path[-1].shape == weight.shape
    assert not path[-1].equal(weight)
    assert path[-1].isfinite().all()


@pytest.mark.parametrize(
    ("rule", "reference"),
    [
        (Sgd(0.1), lambda p: torch.optim.SGD(p, lr=0.1)),
        (Momentum(0.1, 0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        (HigherOrderMomentum(0.1, 0.8), lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.8)),
        (PreconditionedMomentum(0.01, 0.8, 0.95), lambda p: torch.optim.RMSprop(p, lr=0.01, momentum=0.8, alpha=0.95, eps=1e-8)),
        (AdamW(0.01, 0.8, 0.99, weight_decay=0.1), lambda p: torch.optim.AdamW(p, lr=0.01, betas=(0.8, 0.99), weight_decay=0.1)),
    ],
    ids=["sgd", "momentum", "power-1", "rmsprop", "adamw"],
)
def test_equals_torch_on_the_same_gradients(rule, reference):
    ours, theirs = [torch.nn.Parameter(numbers(1, 5, 3)) for _ in range(2)]
    a, b = RuleOptimizer([ours], rule), reference([theirs])
    for t in range(20):
        ours.grad, theirs.grad = numbers(t, 5, 3), numbers(t, 5, 3)
        a.step()
        b.step()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-10)


def test_adamw_in_float32_keeps_torchs_precision_from_the_first_step():
    ours, theirs = [torch.nn.Parameter(numbers(1, 5, 3).float()) for _ in range(2)]
    a, b = RuleOptimizer([ours], AdamW(0.01)), torch.optim.AdamW([theirs], lr=0.01)
    for t in range(5):
        ours.grad, theirs.grad = numbers(t, 5, 3).float(), numbers(t, 5, 3).float()
        a.step()
        b.step()
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Sgd(-0.1), "rate is a step size"),
        (lambda: Momentum(0.1, 1.0), "decay is the share"),
        (lambda: AdamW(epsilon=0.0), "epsilon"),
        (lambda: M3(period=0), "period is counted in steps"),
        (lambda: M3(v_mode="pre"), "v_mode"),
        (lambda: Muon(steps=0), "steps"),
        (lambda: HigherOrderMomentum(power=-1.0), "power"),
        (lambda: RULES["delta"].__class__(erase=2.0), "erase"),
        (lambda: RULES["deep-mlp"].__class__(memory="lstm"), "memory must be"),
    ],
)
def test_a_bad_option_is_refused_by_its_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()
