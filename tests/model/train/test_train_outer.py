"""Which parameter decays how much, and which optimizer steps it."""

import pytest
import torch
from torch import nn
from train_little import llama, settings

from model.train.outer import Outer, decay_of


class Fast(nn.Module):
    """A part with a meta-learned start, as a mixer of HOPE has."""

    def __init__(self):
        super().__init__()
        self.start = nn.ParameterDict({"inner": nn.Parameter(torch.ones(2, 3, 4, 4))})
        self.gate, self.embed, self.norm = nn.Linear(4, 4), nn.Embedding(9, 4), nn.RMSNorm(4)


def named_decays(model, **changes):
    decays = decay_of(model, settings(1, **changes))
    return {name: decays[id(parameter)] for name, parameter in model.named_parameters()}


def test_matrices_decay_norms_biases_embeddings_and_fast_starts_do_not():
    assert named_decays(Fast(), weight_decay=0.3) == {
        "start.inner": 0.0, "gate.weight": 0.3, "gate.bias": 0.0, "embed.weight": 0.0, "norm.weight": 0.0,
    }  # fmt: skip


def test_embeddings_and_starts_decay_on_demand():
    decays = named_decays(Fast(), decay_embeddings=True, decay_starts=0.005)
    assert (decays["embed.weight"], decays["start.inner"], decays["norm.weight"]) == (0.1, 0.005, 0.0)


def test_model_may_name_its_fast_starts():
    model = Fast()
    model.fast_starts = lambda: [model.gate.weight]
    decays = named_decays(model, weight_decay=0.3, decay_starts=0.001)
    assert (decays["gate.weight"], decays["start.inner"]) == (0.001, 0.0)


def test_decay_shrinks_matrices_only():
    model = Fast()
    outer = Outer(model, settings(1, weight_decay=0.5))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    outer.step(rate=0.1, tokens=1)
    moved = {name for name, parameter in model.named_parameters() if not torch.equal(parameter, before[name])}
    assert moved == {"gate.weight"}
    assert torch.allclose(model.gate.weight, 0.95 * before["gate.weight"])


@pytest.mark.parametrize("optimizer", ["muon", "m3"])
def test_orthogonal_updates_are_for_hidden_matrices_only(optimizer):
    model = llama()
    outer = Outer(model, settings(1, optimizer=optimizer, weight_decay=0.0))
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    for parameter in model.parameters():
        parameter.grad = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    outer.step(rate=0.1, tokens=1)
    step = {name: (parameter.detach() - before[name]) / 0.1 for name, parameter in model.named_parameters()}
    square = step["model.layers.0.self_attn.q_proj.weight"]
    gram = square @ square.T / (0.2**2 * 16)  # updates are as long as AdamW's: 0.2 √max(out, in)
    assert 0.3 < float(gram.diagonal().mean()) < 1.6
    assert float((gram - torch.diag(gram.diagonal())).abs().mean()) < 0.1
    assert torch.allclose(step["model.embed_tokens.weight"].abs(), torch.ones(()), atol=1e-3)  # Adam's first step is a sign
    assert torch.allclose(step["model.norm.weight"].abs(), torch.ones(()), atol=1e-3)


def test_frozen_parameters_are_not_stepped():
    model = Fast()
    model.embed.requires_grad_(False)
    assert model.embed.weight not in set(Outer(model, settings(1)).parameters)


def test_state_of_other_levels_is_refused():
    plain, other = llama(), llama()
    other.level_groups = lambda: [("all", list(other.parameters()), 1)]
    with pytest.raises(ValueError, match="levels"):
        Outer(plain, settings(1)).load_state_dict(Outer(other, settings(1)).state_dict())
