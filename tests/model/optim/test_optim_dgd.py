"""Delta gradient descent on torch models: the exact proximal step of hope.md §4.2, and its hooks."""

import copy

import pytest
import torch
from optim_reference import numbers
from torch import nn
from torch.nn import functional

from model.optim import DGD


def linear(seed: int = 1, *, outputs: int = 3, inputs: int = 4) -> nn.Linear:
    layer = nn.Linear(inputs, outputs).double()
    layer.weight.data, layer.bias.data = numbers(seed, outputs, inputs), numbers(seed + 1, outputs)
    return layer


def step_on(layer: nn.Module, optimizer: DGD, *batches: torch.Tensor, reduction: str = "mean") -> None:
    """Ordinary training code: one step on the batches, each a part of one mean or sum."""
    for x in batches:
        loss = functional.mse_loss(layer(x), torch.zeros(len(x), 3).double(), reduction="sum") / 2
        (loss / (sum(map(len, batches)) if reduction == "mean" else 1)).backward()
    optimizer.step()
    optimizer.zero_grad()


def explicit(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor, rate: float, *, mean: bool) -> torch.Tensor:
    """The argmin of Σ ½‖V x − u‖² + ‖V − W‖² / 2η, solved as one least-squares problem of stacked rows."""
    desired = -(x @ weight.mT + bias)  # −∂loss/∂y of ½‖y‖², per input
    scale = (1.0 / len(x)) ** 0.5 if mean else 1.0
    rows = torch.cat([scale * x, torch.eye(x.shape[1]).double() / rate**0.5])
    answers = torch.cat([scale * desired, weight.mT / rate**0.5])
    return torch.linalg.lstsq(rows, answers).solution.mT


@pytest.mark.parametrize("count", [1, 3, 20], ids=["one input", "fewer than width", "more than width"])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_t6_a_step_is_the_exact_minimum_of_the_proximal_problem(count, reduction):
    layer, x = linear(), numbers(7, count, 4)
    weight, bias = layer.weight.detach().clone(), layer.bias.detach().clone()
    with DGD(layer, 0.3, reduction=reduction) as optimizer:
        step_on(layer, optimizer, x, reduction=reduction)
    expected = explicit(weight, bias, x, 0.3, mean=reduction == "mean")
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-10)
    slope = (x @ weight.mT + bias).sum(0) / (count if reduction == "mean" else 1)
    torch.testing.assert_close(layer.bias.detach(), bias - 0.3 * slope, rtol=0, atol=1e-12)


def test_t6_one_input_gives_the_sherman_morrison_form_for_any_length():
    for scale in [0.1, 1.0, 10.0]:
        layer, x = linear(), scale * functional.normalize(numbers(7, 1, 4))
        weight, rate = layer.weight.detach().clone(), 0.5 / (1 + 0.5 * scale**2)
        slope = weight @ x[0] + layer.bias.detach()
        with DGD(layer, 0.5) as optimizer:
            step_on(layer, optimizer, x)
        expected = weight - rate * torch.outer(weight @ x[0], x[0]) - rate * torch.outer(slope, x[0])
        torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradient_accumulation_equals_one_large_batch(reduction):
    whole, parts, x = linear(), linear(), numbers(7, 12, 4)
    with DGD(whole, 0.3, reduction=reduction) as one, DGD(parts, 0.3, reduction=reduction) as several:
        step_on(whole, one, x, reduction=reduction)
        step_on(parts, several, x[:3], x[3:4], x[4:], reduction=reduction)
    torch.testing.assert_close(parts.weight, whole.weight, rtol=0, atol=1e-12)


def test_erase_zero_is_torch_sgd():
    ours, theirs = linear(), linear()
    sgd = torch.optim.SGD(theirs.parameters(), lr=0.2)
    with DGD(ours, 0.2, erase=0.0) as optimizer:
        for seed in range(5):
            step_on(ours, optimizer, numbers(seed, 6, 4))
            step_on(theirs, sgd, numbers(seed, 6, 4))
    torch.testing.assert_close(ours.weight, theirs.weight, rtol=0, atol=1e-12)


def test_only_passes_with_a_backward_count():
    a, b, x = linear(), linear(), numbers(7, 5, 4)
    with DGD(a, 0.3) as seen, DGD(b, 0.3) as plain:
        a(numbers(8, 50, 4))  # never differentiated
        with torch.no_grad():
            a(numbers(9, 50, 4))
        a(numbers(8, 50, 4)).sum().backward()
        seen.zero_grad()  # differentiated, and dropped
        step_on(a, seen, x)
        step_on(b, plain, x)
    assert a.weight.equal(b.weight)


def test_a_layer_used_twice_sums_over_its_uses_and_a_sequence_over_its_tokens():
    layer, x = linear(inputs=3), numbers(7, 2, 5, 3)
    weight = layer.weight.detach().clone()
    with DGD(layer, 0.3, reduction="sum") as optimizer:
        hidden = layer(input=x)
        (0.5 * layer(hidden).square().sum()).backward()
        gradient = layer.weight.grad.clone()
        optimizer.step()
    rows = torch.cat([x.reshape(-1, 3), hidden.detach().reshape(-1, 3)])
    expected = torch.linalg.solve(torch.eye(3).double() + 0.3 * rows.mT @ rows, (weight - 0.3 * gradient).mT).mT
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-10)


def test_a_clipped_gradient_steps_with_the_clipped_gradient():
    layer, x = linear(), numbers(7, 5, 4)
    weight = layer.weight.detach().clone()
    with DGD(layer, 0.3) as optimizer:
        (0.5 * layer(x).square().sum() / 5).backward()
        nn.utils.clip_grad_norm_(layer.parameters(), 1e-9)
        optimizer.step()
    expected = torch.linalg.solve(torch.eye(4).double() + 0.06 * x.mT @ x, weight.mT).mT  # nothing but the erase is left
    torch.testing.assert_close(layer.weight.detach(), expected, rtol=0, atol=1e-8)


def test_removal_leaves_no_hook_and_refuses_further_steps():
    layer = linear()
    optimizer = DGD(layer)
    assert layer._forward_hooks
    optimizer.remove()
    optimizer.remove()
    assert not layer._forward_hooks
    with pytest.raises(RuntimeError, match="hooks of this optimizer were removed"):
        optimizer.step()


def test_a_copy_of_the_model_does_not_feed_the_optimizer_of_the_original():
    layer, x = linear(), numbers(7, 5, 4)
    with DGD(layer, 0.3) as optimizer:
        twin, alone = copy.deepcopy(layer), linear()
        twin(numbers(8, 50, 4)).sum().backward()
        step_on(layer, optimizer, x)
    with DGD(alone, 0.3) as optimizer:
        step_on(alone, optimizer, x)
    assert layer.weight.equal(alone.weight)


def test_weights_whose_module_is_not_called_step_plainly_and_are_named():
    model = nn.MultiheadAttention(4, 2).double()
    with DGD(model, 0.1) as optimizer:
        x = numbers(7, 5, 1, 4)
        model(x, x, x)[0].square().sum().backward()
        expected = model.out_proj.weight.detach() - 0.1 * model.out_proj.weight.grad
        optimizer.step()
    assert optimizer.without_inputs == ("out_proj.weight",)
    torch.testing.assert_close(model.out_proj.weight.detach(), expected)


def test_inputs_that_are_not_finite_are_refused_by_layer_and_nothing_changes():
    model = nn.Sequential(linear(), nn.Tanh(), linear(inputs=3)).double()
    before = copy.deepcopy(model.state_dict())
    with DGD(model, 0.1) as optimizer:
        model(torch.full((2, 4), float("inf")).double()).sum().backward()
        with pytest.raises(ValueError, match=r"inputs of the layer of 0\.weight are not finite"):
            optimizer.step()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_inputs_too_large_to_solve_for_are_refused_and_nothing_changes():
    layer = nn.Linear(32, 3)
    before = layer.weight.detach().clone()
    with DGD(layer, 1.0) as optimizer:
        layer(1e8 * numbers(7, 4, 32).float()).sum().backward()
        with pytest.raises(ValueError, match="too large to solve for"):
            optimizer.step()
    assert layer.weight.equal(before)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"lr": -1.0}, "lr"), ({"erase": -1.0}, "erase"), ({"other_lr": -1.0}, "other_lr"), ({"reduction": "max"}, "reduction")],
)
def test_bad_options_are_refused_before_any_hook(options, message):
    layer = linear()
    with pytest.raises(ValueError, match=message):
        DGD(layer, **options)
    assert not layer._forward_hooks
    with pytest.raises(ValueError, match=r"no nn.Linear"):
        DGD(nn.Embedding(3, 3))
