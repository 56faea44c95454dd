"""Attention against Hugging Face's own modules and a loop; streams in any cut; rows that do not meet (T4, T17, T18, T39)."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import LlamaConfig, Qwen2Config, Qwen3Config
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaRotaryEmbedding
from transformers.models.qwen2.modeling_qwen2 import Qwen2Attention
from transformers.models.qwen3.modeling_qwen3 import Qwen3Attention

from model.hope.attention import AttentionConfig, CausalAttention
from model.hope.rotary import EXACT_FROM, frequencies, rotation
from model.hope.state import difference, stack, unstack

LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
ROPES = {"default": {"rope_type": "default"}, "linear": {"rope_type": "linear", "factor": 4.0}, "llama3": LLAMA3}


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(9)


def attention_of(window=None, **fields):
    config = {"width": 12, "heads": 4, "kv_heads": 2, "head_width": 6, "window": window, **fields}
    return CausalAttention(AttentionConfig(**config)).double()


def text(rows, tokens, width=12):
    return torch.randn(rows, tokens, width, dtype=torch.float64)


def streamed(attention, x, cuts, state, start=0):
    outputs, at = [], 0
    for cut in cuts:
        y, state = attention(x[:, at : at + cut], state, [start + at] * len(x))
        outputs.append(y)
        at += cut
    return torch.cat(outputs, 1), state


@pytest.mark.parametrize(
    ("kind", "config", "fields", "switches"),
    [
        (LlamaAttention, LlamaConfig, {"attention_bias": False}, {}),
        (LlamaAttention, LlamaConfig, {"attention_bias": True}, {"qkv_bias": True, "out_bias": True}),
        (Qwen2Attention, Qwen2Config, {}, {"qkv_bias": True}),
        (Qwen3Attention, Qwen3Config, {"head_dim": 16}, {"qk_norm": True, "head_width": 16}),
    ],
    ids=["llama", "llama with biases", "qwen2", "qwen3"],
)
@pytest.mark.parametrize("rope", sorted(ROPES))
@pytest.mark.parametrize("kv_heads", [2, 4])
def test_it_is_hugging_faces_attention_bit_for_bit(kind, config, fields, switches, rope, kv_heads):
    """T39 at the size of one layer: same names, same numbers, whole sequences from position 0."""
    parameters = {**ROPES[rope], "rope_theta": 5000.0}
    theirs_config = config(
        hidden_size=32,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        rope_parameters=parameters,
        max_position_embeddings=512,
        **fields,
    )
    theirs_config._attn_implementation = "sdpa"
    theirs = kind(theirs_config, 0).eval()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours = CausalAttention(AttentionConfig(32, 4, kv_heads, rope_theta=5000.0, rope_scaling=parameters, **switches))
    ours.load_state_dict(theirs.state_dict())
    x, positions = torch.randn(2, 40, 32), torch.arange(40)[None]
    expected = theirs(x, LlamaRotaryEmbedding(theirs_config)(x, positions), None)[0]
    assert torch.equal(ours(x, None, [0, 0])[0], expected)


@pytest.mark.parametrize("window", [None, 1, 3, 50])
def test_each_token_attends_to_its_window_and_no_further(window):
    """Against a double loop over heads and tokens, with complex numbers for the turns."""
    attention, x = attention_of(window), text(1, 9)
    y = attention(x, None, [5])[0][0]
    turn = torch.polar(torch.ones(1, dtype=torch.float64), (torch.arange(5, 14)[:, None] * 10000.0 ** (-torch.arange(3) / 3)).double())

    def turned(flat):
        halves = flat[0].unflatten(-1, (-1, 2, 3)).transpose(-1, -2).contiguous()  # (T, heads, 3, 2)
        return torch.view_as_real(torch.view_as_complex(halves) * turn[:, None]).transpose(-1, -2).flatten(-2)

    queries, keys, values = turned(attention.q_proj(x)), turned(attention.k_proj(x)), attention.v_proj(x)[0].unflatten(-1, (2, 6))
    for t in range(9):
        heads = []
        for head in range(4):
            seen = range(max(0, t - (window or 9) + 1), t + 1)
            weights = torch.softmax(torch.stack([queries[t, head] @ keys[s, head // 2] / math.sqrt(6) for s in seen]), 0)
            heads.append(sum(weight * values[s, head // 2] for weight, s in zip(weights, seen, strict=True)))
        torch.testing.assert_close(y[t], attention.o_proj(torch.cat(heads)), atol=1e-6, rtol=1e-6)  # frequencies are float32


@settings(max_examples=25, deadline=None, derandomize=True)
@given(cuts=st.lists(st.integers(1, 9), min_size=1, max_size=6), window=st.sampled_from([1, 2, 5, 40]), start=st.sampled_from([0, 1000]))
def test_a_stream_in_any_cut_is_one_pass(cuts, window, start):
    """T18: outputs and state, also against the pass without a state."""
    torch.manual_seed(9)
    attention, x = attention_of(window), text(2, sum(cuts))
    expected, end = streamed(attention, x, [sum(cuts)], attention.initial(2), start)
    y, state = streamed(attention, x, cuts, attention.initial(2), start)
    torch.testing.assert_close(y, expected, atol=1e-12, rtol=1e-12)
    assert max(difference(state, end).values(), default=0.0) < 1e-12
    fresh, begun = attention(x, None, [start] * 2)
    torch.testing.assert_close(fresh, expected, atol=1e-12, rtol=1e-12)
    assert max(difference(begun, end).values(), default=0.0) < 1e-12


def test_the_state_has_one_size_forever_and_keeps_no_call_alive():
    attention = attention_of(4)
    state = attention.initial(1)
    size = state.size_bytes
    for at in range(0, 30, 10):
        _, state = attention(text(1, 10), state, [at])
        assert state.size_bytes == size
        assert all(tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size() for _, tensor in state.named())
    assert state.positions.tolist() == [[26, 27, 28, 29]]


def test_rows_at_different_positions_share_a_batch_without_meeting():
    """T17: stacked states of owners who have read 0, 2 and 11 tokens."""
    attention, x = attention_of(5), text(3, 6)
    seen = [0, 2, 11]
    alone = [streamed(attention, text(1, n), [n], attention.initial(1))[1] if n else attention.initial(1) for n in seen]
    y, after = attention(x, stack(alone), seen)
    for row, (own, state) in enumerate(zip(alone, unstack(after), strict=True)):
        single, end = attention(x[row : row + 1], own, [seen[row]])
        torch.testing.assert_close(y[row : row + 1], single, atol=1e-12, rtol=1e-12)
        assert max(difference(state, end).values(), default=0.0) < 1e-12


def test_no_token_sees_the_future():
    """T4: outputs before a changed token are the same bits."""
    attention, x = attention_of(4), text(1, 12)
    other = x.clone()
    other[:, 7] += 1.0
    y, z = attention(x, attention.initial(1), [0])[0], attention(other, attention.initial(1), [0])[0]
    assert torch.equal(y[:, :7], z[:, :7])
    assert ((y[:, 7:11] - z[:, 7:11]).abs().amax(-1) > 1e-6).all()
    assert torch.equal(y[:, 11:], z[:, 11:])


def test_grad_modes_and_training_change_nothing():
    """T20; frequencies that were first made in inference mode serve a graph."""
    attention, x = attention_of(4, rope_theta=777.0), text(2, 6)
    with torch.inference_mode():
        expected = attention.eval()(x, attention.initial(2), [0, 3])[0]
    y = attention.train()(x.requires_grad_(), attention.initial(2), [0, 3])[0]
    assert torch.equal(y.detach(), expected)
    y.sum().backward()
    assert all(parameter.grad is not None for parameter in attention.parameters())


@pytest.mark.parametrize("position", [EXACT_FROM - 1, EXACT_FROM, 10**7, 10**9])
def test_positions_are_exact_where_float32_no_longer_is(position):
    frequency = frequencies(8, 10_000.0, None, torch.device("cpu"))
    cosine, sine = rotation(torch.tensor([[position]]), frequency, torch.float64)
    for channel, omega in enumerate(frequency.double().tolist()):
        for part in (channel, channel + 4):
            assert float(cosine[0, 0, 0, part]) == pytest.approx(math.cos(position * omega), abs=5e-3 if position < EXACT_FROM else 1e-6)
            assert float(sine[0, 0, 0, part]) == pytest.approx(math.sin(position * omega), abs=5e-3 if position < EXACT_FROM else 1e-6)


def test_bfloat16_activations_stay_near_float32():
    """T24 for attention; the state has the type of the weights."""
    attention, x = attention_of(4).float(), torch.randn(2, 9, 12)
    y, state = attention(x, attention.initial(2), [0, 0])
    with torch.autocast("cpu", torch.bfloat16):
        z, other = attention(x, attention.initial(2), [0, 0])
    torch.testing.assert_close(z.float(), y, atol=2e-2, rtol=2e-2)
    assert state.keys.dtype == other.keys.dtype == torch.float32


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"window": 0}, "window is 0"),
        ({"heads": 5, "kv_heads": 2}, "heads 5 is not a multiple of kv_heads 2"),
        ({"heads": 5, "head_width": None}, "width 12 is not a multiple of heads 5"),
        ({"head_width": 5}, "head_width 5 is odd"),
        ({"rope_theta": 0.0}, "rope_theta is 0.0"),
        ({"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type is 'yarn', it must be one of default, linear, llama3"),
        ({"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0]}}, "rope_type is 'longrope', it must be one of"),
        ({"rope_scaling": {"rope_type": "linear"}}, "rope_type 'linear' needs factor"),
    ],
)
def test_a_wrong_field_is_named(fields, message):
    with pytest.raises(ValueError, match=message):
        attention_of(**fields)


def test_wrong_calls_are_refused():
    bounded, free = attention_of(4), attention_of()
    with pytest.raises(ValueError, match="attention without a window has no bounded state"):
        free.initial(1)
    for attention, x, state, positions, message in (
        (bounded, text(1, 3)[0], None, [0], "x is"),
        (bounded, text(1, 0), None, [0], "at least one token"),
        (bounded, text(2, 3), None, [0], "positions has 1 entries, x has 2 rows"),
        (bounded, text(2, 3), bounded.initial(1), [0, 0], r"keys of the state are \(1, 2, 4, 6\)"),
        (free, text(1, 3), free(text(1, 3), None, [0])[1], [3], "keys of the state are"),
    ):
        with pytest.raises(ValueError, match=message):
            attention(x, state, positions)
