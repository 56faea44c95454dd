"""The hand-written pass over whole chunks against autograd through the plain chunk form, and against the token loop."""

import mixer_reference as reference
import pytest
import torch

from model.hope.config import service
from model.hope.state import difference
from model.hope.titans import SelfModifyingTitans

WIDTH = 8


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(7)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mixer(**changes):
    settings = {"head_width": 4, "chunk_projections": 4, "chunk_memory": 4, "weight_cap": None} | changes
    built = SelfModifyingTitans(service(WIDTH, **settings))
    with torch.no_grad():
        built.rate.weight.normal_()
        built.retention.weight.normal_()
        built.retention.bias.fill_(-2.0)
    return built


def trained(module, x, state, positions, *, fused):
    """Output, state, and the gradients of a loss of both, for parameters, tokens and the fast weights given."""
    module.fused = fused
    x = x.clone().requires_grad_()
    state = state.map(lambda t: t.detach().clone().requires_grad_(t.is_floating_point()))
    y, after = module(x, state, positions)
    loss = sum(
        (t * torch.linspace(-1, 2, t.numel()).cos().view(t.shape)).sum() for t in (y, *after.running.values(), *after.boundary.values())
    )
    given = {"x": x, **dict(module.named_parameters())}
    leaves = {f"{kind}.{name}": t for kind in ("boundary", "running") for name, t in getattr(state, kind).items()}
    grads = torch.autograd.grad(loss, [*given.values(), *leaves.values()], allow_unused=True, materialize_grads=True)
    named = dict(zip([*given, *leaves], grads, strict=True))
    for name in state.running:  # at a boundary both are one tensor, so only the sum has a meaning
        named[name] = named.pop(f"boundary.{name}") + named.pop(f"running.{name}")
    return y, after.detach(), named


CASES = [
    {},
    {"hidden_multiple": 2, "retention": False},
    {"weight_cap": 1.01},
    {"chunk_projections": 1, "chunk_memory": 1},
    {"head_width": 8},
]
IDS = ["default", "wide", "cap", "chunks of one", "one head"]


@pytest.mark.parametrize("read", ["boundary", "token"])
@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_whole_chunks_in_one_pass_equal_autograd_in_values_and_in_every_gradient(case, read):
    module = mixer(read=read, **case)
    _, state = module(torch.randn(2, 8, WIDTH))
    x = torch.randn(2, 18, WIDTH)  # some chunks and a rest
    y, after, grads = trained(module, x, state, [8, 8], fused=True)
    expected, plain, wanted = trained(module, x, state, [8, 8], fused=False)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-10)
    assert max(difference(after, plain).values(), default=0.0) < 1e-12
    assert torch.equal(after.capped, plain.capped)
    assert bool(after.capped.any()) == ("weight_cap" in case)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name], atol=1e-10, rtol=1e-8, msg=name)
        assert grad.abs().max() > 0 or (name.startswith("retention") and case.get("retention") is False), name


def test_a_stream_that_enters_inside_a_chunk_meets_both_forms_and_has_the_same_gradients():
    module = mixer(read="token")
    _, state = module(torch.randn(2, 6, WIDTH))
    x = torch.randn(2, 13, WIDTH)
    y, _, grads = trained(module, x, state, [6, 6], fused=True)
    expected, _, wanted = trained(module, x, state, [6, 6], fused=False)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-10)
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name], atol=1e-10, rtol=1e-8, msg=name)


@pytest.mark.parametrize("read", ["boundary", "token"])
def test_outer_gradients_of_the_hand_written_pass_are_those_of_the_token_loop(read):
    """T14."""
    module = mixer(read=read)
    x, weights = torch.randn(1, 16, WIDTH), torch.randn(16, WIDTH)
    (module(x)[0][0] * weights).sum().backward()
    ours = {name: parameter.grad.clone() for name, parameter in module.named_parameters()}
    module.zero_grad()
    (reference.mixed(module, x[0])[0] * weights).sum().backward()
    for name, parameter in module.named_parameters():
        torch.testing.assert_close(ours[name], parameter.grad, atol=1e-9, rtol=1e-7, msg=name)
        assert parameter.grad.abs().max() > 0, name


def test_a_second_pass_through_the_same_graph_gives_the_same_gradients():
    module = mixer(read="token")
    x = torch.randn(1, 12, WIDTH, requires_grad=True)
    y = module(x)[0].square().sum()
    first = torch.autograd.grad(y, x, retain_graph=True)[0]
    assert torch.equal(first, torch.autograd.grad(y, x)[0])


def test_second_derivatives_are_refused_by_the_fast_form_and_given_by_the_plain_one():
    module = mixer()
    x = torch.randn(1, 8, WIDTH, requires_grad=True)
    gradient = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.square().sum().backward()
    module.fused = False
    gradient = torch.autograd.grad(module(x)[0].square().sum(), x, create_graph=True)[0]
    gradient.square().sum().backward()
    assert x.grad.abs().max() > 0


def test_float32_stays_within_rounding_of_float64():
    module = mixer(read="token", head_width=8)
    x = torch.randn(1, 16, WIDTH)
    exact = trained(module, x, module.initial(1), [0], fused=True)[2]
    module.float()
    single = trained(module, x.float(), module.initial(1), [0], fused=True)[2]
    for name, grad in exact.items():
        assert (single[name].double() - grad).abs().max() <= 1e-4 * grad.abs().max(), name


@pytest.mark.parametrize("cap", [None, 1.01])
def test_going_back_inside_autocast_gives_the_gradients_of_going_back_outside(cap):
    torch.set_default_dtype(torch.float32)
    module, x = mixer(weight_cap=cap), torch.randn(2, 12, WIDTH)

    def gradients(*, inside):
        module.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = sum(w.square().sum() for w in module(x)[1].running.values())
            if inside:
                loss.backward()
        if not inside:
            loss.backward()
        return {name: module.get_parameter(name).grad.clone() for name in ("start.up", "start.down", "rate.weight", "retention.bias")}

    outside = gradients(inside=False)
    for name, gradient in gradients(inside=True).items():
        assert torch.equal(gradient, outside[name]), name
