"""One level: the maths of its block, changes row by row, gradients in closed form."""

import math

import pytest
import torch
from cms_reference import block
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from model.hope.level import OUTPUT_SCALE, Level, LevelConfig
from model.hope.norm import RmsNorm

KINDS = pytest.mark.parametrize("kind", ["gelu", "swiglu"])


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


def level_of(kind="gelu", width=6, hidden=10, dtype=torch.float64, **fields):
    level = Level(width, LevelConfig("fast", 4, hidden, 0.1, kind=kind, **fields)).to(dtype)
    torch.nn.init.uniform_(level.norm.weight, 0.5, 1.5)
    return level


def changes(level, rows, size=0.3):
    return {name: size * torch.randn(rows, *weight.shape, dtype=weight.dtype) for name, weight in level.adapted().items()}


@KINDS
def test_a_level_is_its_equation_with_the_weights_of_each_row(kind):
    level = level_of(kind)
    delta, x = changes(level, 3), torch.randn(3, 5, 6, dtype=torch.float64)
    y = level(x, delta)
    for row in range(3):
        whole = {name: matrix.weight.detach() + delta[name][row] for name, matrix in level.matrices()}
        expected = torch.stack([block(whole, level.norm.weight.detach(), token) for token in x[row]])
        torch.testing.assert_close(y[row], expected, atol=1e-12, rtol=1e-12)


def test_swiglu_is_hugging_faces_block_bit_for_bit():
    config = LlamaConfig(hidden_size=16, intermediate_size=40, num_attention_heads=2)
    mlp, norm = LlamaMLP(config), LlamaRMSNorm(16, eps=1e-5)
    torch.nn.init.normal_(norm.weight)
    level = Level(16, LevelConfig("only", None, 40, kind="swiglu"), norm_eps=1e-5)
    missing = level.load_state_dict({**mlp.state_dict(), "norm.weight": norm.weight})
    assert not missing.missing_keys
    for dtype in (torch.float32, torch.bfloat16):
        x = torch.randn(2, 7, 16).to(dtype)
        assert torch.equal(level.to(dtype)(x), mlp.to(dtype)(norm.to(dtype)(x)))


def test_the_norm_is_exact_in_float64_and_finite_at_zero():
    norm, x = RmsNorm(5).double(), torch.randn(3, 5, dtype=torch.float64)
    torch.testing.assert_close(norm(x), torch.nn.functional.rms_norm(x, (5,), eps=1e-6), atol=1e-14, rtol=1e-14)
    assert torch.equal(norm(torch.zeros(1, 5, dtype=torch.float64)), torch.zeros(1, 5, dtype=torch.float64))


@KINDS
def test_a_change_of_zero_is_the_plain_block_bit_for_bit(kind):
    level, x = level_of(kind, dtype=torch.float32), torch.randn(2, 5, 6)
    assert torch.equal(level(x, changes(level, 2, size=0.0)), level(x))


@KINDS
def test_no_row_sees_anothers_change(kind):
    level, x = level_of(kind), torch.randn(3, 5, 6, dtype=torch.float64)
    delta = changes(level, 3)
    y = level(x, delta)
    delta["down_proj"] = torch.cat([delta["down_proj"][:1], delta["down_proj"][1:] + 1.0])
    again = level(x, delta)
    assert torch.equal(again[0], y[0])
    assert not torch.allclose(again[1:], y[1:])


@KINDS
@pytest.mark.parametrize("adapt", ["all", "down"])
def test_closed_form_gradients_are_those_of_autograd(kind, adapt):
    level = level_of(kind, adapt=adapt)
    x, error = torch.randn(3, 5, 6, dtype=torch.float64), torch.randn(3, 5, 6, dtype=torch.float64)
    delta = {name: change.requires_grad_() for name, change in changes(level, 3).items()}
    expected = torch.autograd.grad((level(x, delta) * error).sum(), list(delta.values()))
    with torch.inference_mode():
        got = level.gradients(x, error, delta)
    assert list(got) == list(delta) == (["down_proj"] if adapt == "down" else [name for name, _ in level.matrices()])
    for gradient, wanted in zip(got.values(), expected, strict=True):
        torch.testing.assert_close(gradient, wanted, atol=1e-11, rtol=1e-11)


def test_gradients_of_bfloat16_activations_are_summed_in_float32():
    level = level_of(dtype=torch.bfloat16)
    x = torch.randn(1, 64, 6).bfloat16()
    assert all(gradient.dtype == torch.float32 for gradient in level.gradients(x, x).values())
    y = level(x, changes(level_of(dtype=torch.float32), 1))
    assert y.dtype == torch.bfloat16


def test_a_fresh_level_hardly_disturbs_the_stream():
    level = level_of(width=64, hidden=256, dtype=torch.float32)
    torch.nn.init.ones_(level.norm.weight)
    ratio = float(level(torch.randn(1, 400, 64)).detach().pow(2).mean().sqrt())
    unscaled = math.sqrt(0.425)  # E gelu(z)², z normal
    assert abs(ratio / (OUTPUT_SCALE * unscaled) - 1) < 0.1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"name": ""}, "name is ''"),
        ({"name": "a.b"}, "without dots"),
        ({"period_tokens": 0}, "period_tokens is 0"),
        ({"hidden": 0}, "hidden is 0"),
        ({"rate": -0.1}, "rate is -0.1"),
        ({"rate": math.nan}, "rate is nan"),
        ({"clip": 0.0}, "clip is 0.0"),
        ({"reduction": "max"}, "reduction is 'max', it must be one of mean, sum"),
        ({"adapt": "up"}, "adapt is 'up'"),
        ({"kind": "relu"}, "kind is 'relu'"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        LevelConfig(**{"name": "fast", "period_tokens": 4, "hidden": 8, "rate": 0.1, **fields})


def test_a_level_of_no_width_is_refused():
    with pytest.raises(ValueError, match="width is 0"):
        Level(0, LevelConfig("fast", 4, 8))
