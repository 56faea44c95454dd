"""Heads with rules of their own, and the main memory token by token while the projections stand still."""

import pytest
import torch

from model.hope.config import MixerConfig, service
from model.hope.rules import NAMED
from model.hope.state import difference
from model.hope.titans import SelfModifyingTitans

WIDTH = 8


@pytest.fixture(autouse=True)
def _double():
    torch.manual_seed(3)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def mixer(**changes):
    settings = {"head_width": 4, "hidden_multiple": 0, "chunk_projections": 4, "chunk_memory": 1, "weight_cap": None}
    return SelfModifyingTitans(service(WIDTH, **settings | {"retention_start": 0.9} | changes))


def passed(module, x, *, steps):
    """Outputs and state of a stream in two calls, with the gradients of a loss of both."""
    module.fused = steps
    module.zero_grad()
    first, state = module(x[:, :9])
    second, state = module(x[:, 9:], state, [9, 9])
    y = torch.cat([first, second], dim=1)
    (y * torch.linspace(-1, 2, y.numel()).cos().view(y.shape)).sum().backward()
    return y, state.detach(), {name: p.grad.clone() for name, p in module.named_parameters() if p.grad is not None}


CASES = {
    "the paper's rule": {},
    "no erase": {"objective": "dot", "dgd": False},
    "shared targets, two rules": {"targets": "shared", "head_rules": ("hebbian", "dgd"), "head_rates": (0.1, 0.5)},
    "free targets, decay to zero": {"unit_targets": False, "anchor": "zero", "head_rules": ("delta", "dgd")},
    "static projections, no retention": {"adaptive": ("mem",), "retention": False},
    "a period longer than the stream": {"chunk_projections": 128},
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_token_by_token_equals_chunks_of_one_in_values_state_and_every_gradient(case):
    module, x = mixer(**case), torch.randn(2, 14, WIDTH)
    y, state, grads = passed(module, x, steps=True)
    expected, plain, wanted = passed(module, x, steps=False)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-10)
    assert max(difference(state, plain).values(), default=0.0) < 1e-12
    assert grads.keys() == wanted.keys()
    for name, grad in grads.items():
        torch.testing.assert_close(grad, wanted[name], atol=1e-10, rtol=1e-8, msg=name)


@pytest.mark.parametrize("chunk", [1, 4])
def test_each_head_learns_by_its_own_rule_as_if_all_had_it(chunk):
    """A head reads nothing of another, so heads of two rules are those of two mixers with one rule each."""
    x, sizes = torch.randn(2, 12, WIDTH), {"chunk_projections": chunk, "chunk_memory": chunk}
    both = mixer(head_rules=("hebbian", "dgd"), **sizes)
    state = both(x)[1].running["map"]
    for head, name in enumerate(("hebbian", "dgd")):
        one = mixer(objective=NAMED[name].objective, dgd=NAMED[name].erase, **sizes)
        one.load_state_dict(both.state_dict())
        torch.testing.assert_close(state[:, :, head], one(x)[1].running["map"][:, :, head], atol=1e-12, rtol=1e-10)
        assert (state[:, :, 1 - head] - one(x)[1].running["map"][:, :, 1 - head]).abs().max() > 1e-3


def test_a_replacing_head_turns_around_and_an_adding_one_counts():
    """Along a key: α − 2η = −1 at a rate of 1, so what was held alternates; added, the same writes grow by one each."""
    config = {"targets": "shared", "head_rules": ("hebbian", "dgd"), "head_rates": (1.0, 1.0), "rate_max": 2.0, "retention": False}
    module = mixer(adaptive=("mem",), chunk_projections=128, conv_width=1, **config)
    with torch.no_grad():
        module.rate.weight.zero_()
    token = torch.randn(1, 1, WIDTH)
    learned = [module(token.expand(1, length, WIDTH))[1].running["map"][0, 0] for length in range(1, 7)]
    for length, (adding, replacing) in enumerate(learned, start=1):
        torch.testing.assert_close(adding, length * learned[0][0])
        torch.testing.assert_close(replacing, learned[0][1] * (length % 2))


def test_rates_of_heads_start_where_they_are_told_to():
    module = mixer(head_rates=(0.05, 0.5))
    torch.testing.assert_close(0.6 * torch.sigmoid(module.rate.bias), torch.tensor([0.05, 0.5]))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"head_rules": ("dgd",)}, "head_rules has 1 entries for 2 heads"),
        ({"head_rules": ("dgd", "oja")}, "'oja'; the rules are hebbian, delta, dgd"),
        ({"head_rates": (0.1, 0.1, 0.1)}, "head_rates has 3 entries for 2 heads"),
        ({"head_rates": (0.1, 0.7)}, "head_rates has 0.7, each must lie between 0 and rate_max 0.6"),
        ({"head_rules": ("dgd", "dgd"), "momentum": True}, "momentum does not go with head_rules"),
    ],
)
def test_rules_and_rates_that_do_not_fit_the_heads_are_refused_by_name(change, words):
    with pytest.raises(ValueError, match=words):
        MixerConfig(WIDTH, head_width=4, **change)
