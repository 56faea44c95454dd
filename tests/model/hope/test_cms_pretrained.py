"""Levels from a pretrained MLP keep its function bit for bit (hope.md §5, T38; T39 at the size of one block)."""

import pytest
import torch
from transformers import GPTNeoXConfig, LlamaConfig, Qwen3Config
from transformers.models.gpt_neox.modeling_gpt_neox import GPTNeoXMLP
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm
from transformers.models.qwen3.modeling_qwen3 import Qwen3MLP

from model.hope.cms import ContinuumMemory
from model.hope.cms_pretrained import levels_from_mlp, load_mlp
from model.hope.level import LevelConfig


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(8)


def mlp_of(kind=LlamaMLP, config=LlamaConfig, **fields):
    return kind(config(hidden_size=16, intermediate_size=24, num_attention_heads=2, **fields))


def norm_of(eps=1e-6):
    norm = LlamaRMSNorm(16, eps=eps)
    torch.nn.init.normal_(norm.weight)
    return norm


def memory_of(count, variant, width=16, hidden=24, kind="swiglu", **fields):
    levels = [LevelConfig(f"level{n}", 4 * 2**n, hidden, 0.1, kind=kind) for n in range(count)]
    return ContinuumMemory(width, levels, variant, **fields)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("variant", ["independent", "sequential", "nested"])
def test_levels_from_an_mlp_are_that_mlp_bit_for_bit(variant, count, dtype):
    """T38: copies on the simplex, whatever the weights of the mixture; or the MLP and levels that are still silent."""
    mlp, norm = mlp_of(Qwen3MLP, Qwen3Config).to(dtype), norm_of().to(dtype)
    memory = memory_of(count, variant).to(dtype)
    load_mlp(memory, mlp, norm)
    if variant == "independent":
        torch.nn.init.normal_(memory.mix)
    x = torch.randn(2, 6, 16).to(dtype)
    expected = x + mlp(norm(x))
    assert torch.equal(memory(x), expected)
    assert torch.equal(memory(x, memory.initial(2)), expected)


def test_filling_copies_numbers_and_shares_nothing():
    mlp, memory = mlp_of(), memory_of(2, "independent")
    load_mlp(memory, mlp, norm_of())
    before = memory.levels[0].up_proj.weight.detach().clone()
    torch.nn.init.zeros_(mlp.up_proj.weight)
    torch.nn.init.ones_(memory.levels[1].up_proj.weight)
    assert torch.equal(memory.levels[0].up_proj.weight, before)


def test_appended_levels_can_read_before_they_write():
    first, second = levels_from_mlp(mlp_of(), 2, "append")
    assert torch.equal(first["up_proj"], second["up_proj"])
    assert not second["down_proj"].any()
    assert first["down_proj"].any()


@pytest.mark.parametrize(
    ("mlp", "memory", "eps", "message"),
    [
        (
            lambda: GPTNeoXMLP(GPTNeoXConfig(hidden_size=16, intermediate_size=24, num_attention_heads=2)),
            {},
            1e-6,
            "GPTNeoXMLP has no linear map gate_proj",
        ),
        (lambda: mlp_of(mlp_bias=True), {}, 1e-6, "gate_proj of LlamaMLP has a bias"),
        (lambda: mlp_of(hidden_act="gelu"), {}, 1e-6, "LlamaMLP uses GELUActivation, levels of kind 'swiglu' use SiLU"),
        (mlp_of, {"kind": "gelu"}, 1e-6, "level 'level0' is of kind 'gelu'"),
        (mlp_of, {"hidden": 32}, 1e-6, r"gate_proj of level 'level0' is \(32, 16\), the MLP's is \(24, 16\)"),
        (mlp_of, {}, 1e-5, "eps 1e-05"),
    ],
    ids=["no gate", "bias", "gelu", "kind", "size", "eps"],
)
def test_what_would_not_be_the_same_function_is_refused_and_nothing_is_changed(mlp, memory, eps, message):
    filled = memory_of(2, "independent", **memory)
    before = {name: tensor.clone() for name, tensor in filled.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        load_mlp(filled, mlp(), norm_of(eps))
    assert all(torch.equal(tensor, before[name]) for name, tensor in filled.state_dict().items())


def test_wrong_counts_and_fills_are_refused():
    with pytest.raises(ValueError, match="count is 0"):
        levels_from_mlp(mlp_of(), 0)
    with pytest.raises(ValueError, match="fill is 'chain'"):
        levels_from_mlp(mlp_of(), 2, "chain")
