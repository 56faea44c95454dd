"""HOPE and its relatives as kinds of the comparison, all from `model.hope`.

- hope:           self-modifying Titans and the seed's continuum memory (16 tokens, 1,000,000, static)
- hope-attention: causal softmax attention over the trained window, and the same continuum memory
- titans:         the main memory alone learns, with momentum and retention, from projections that do not; a static FFN

The knob is the hidden width of each level (of the FFN).
"""

from typing import Any

from torch import nn

from bench.language.rivals import Shape, head_width, register
from model.hope.lm import HopeLM
from model.hope.lm_config import SEED_PERIODS, HopeConfig

RATE = 0.1  # of a level that learns online
TITANS: dict[str, Any] = {"adaptive": ("mem",), "targets": "shared", "dgd": False, "momentum": True}


def hope(shape: Shape, hidden: int) -> nn.Module:
    """HOPE with the defaults of `HopeConfig`."""
    return _model(shape, levels=_continuum(hidden), titans=_heads(shape))


def hope_attention(shape: Shape, hidden: int) -> nn.Module:
    """Attention that sees as far as it was trained to, so that its state has a constant size."""
    attention = {"heads": shape.width // head_width(shape.width), "window": shape.context}
    return _model(shape, mixer="attention", attention=attention, levels=_continuum(hidden))


def titans(shape: Shape, hidden: int) -> nn.Module:
    """Titans (Behrouz et al. 2025, arXiv 2501.00663), the memory as a layer: no self-modification, no continuum memory."""
    static = {"name": "ffn", "period_tokens": None, "hidden": hidden, "kind": "swiglu"}
    return _model(shape, levels=[static], titans=TITANS | _heads(shape))


def _model(shape: Shape, **fields: Any) -> nn.Module:  # noqa: ANN401
    return HopeLM(HopeConfig(vocab_size=shape.vocab, hidden_size=shape.width, num_hidden_layers=shape.layers, **fields))


def _heads(shape: Shape) -> dict[str, Any]:
    return {"head_width": head_width(shape.width)}


def _continuum(hidden: int) -> list[dict[str, Any]]:
    return [
        {"name": name, "period_tokens": period, "hidden": hidden, "kind": "swiglu", "rate": 0.0 if period is None else RATE}
        for name, period in zip(("middle", "slow", "static"), SEED_PERIODS, strict=True)
    ]


register("hope", hope, knob="level width", step=1)
register("hope-attention", hope_attention, knob="level width", step=1)
register("titans", titans)
