"""Rotary positions, bit for bit as in Hugging Face's Llama and Qwen up to position 131,072, and still exact far beyond.

A float32 angle has lost a milliradian at position 10⁴ and a whole radian at 10⁷. Pretrained models learned with that loss, so it is kept
where they can have been trained; from `EXACT_FROM` on, where only a service that lives for millions of tokens gets, angles are float64.
"""

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

EXACT_FROM = 131_072
KINDS: dict[str, tuple[str, ...]] = {  # rope_type: the parameters that it needs
    "default": (),
    "linear": ("factor",),
    "llama3": ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"),
}


def frequencies(head_width: int, theta: float, scaling: Mapping[str, Any] | None, device: torch.device) -> Tensor:
    """(head_width / 2,) float32 radians per token. `scaling` as Hugging Face's `rope_parameters`: rope_type default, linear or llama3.

    Raises:
        ValueError: another rope_type, or a parameter that it needs is missing.
    """
    known = scaling or {}
    kind = known.get("rope_type", "default")
    if kind not in KINDS:
        raise ValueError(f"rope_type is {kind!r}, it must be one of {', '.join(KINDS)}")
    if missing := [name for name in KINDS[kind] if name not in known]:
        raise ValueError(f"rope_type {kind!r} needs {missing[0]}")
    return _frequencies(head_width, theta, kind, tuple(known[name] for name in KINDS[kind]), device)


@lru_cache(maxsize=64)
def _frequencies(head_width: int, theta: float, kind: str, needed: tuple[Any, ...], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # kept between calls, so it must be fit for graphs, too
        plain = 1.0 / (theta ** (torch.arange(0, head_width, 2, dtype=torch.int64, device="cpu").to(torch.float) / head_width))
        if kind == "linear":
            plain = plain / needed[0]
        if kind == "llama3":
            plain = _llama3(plain, *needed)
        return plain.to(device)


def _llama3(plain: Tensor, factor: float, low: float, high: float, trained: int) -> Tensor:
    """Long waves slower by `factor`, short ones as they are, those between interpolated (Llama 3.1)."""
    waves = 2 * math.pi / plain
    slowed = torch.where(waves > trained / low, plain / factor, plain)
    share = (trained / waves - low) / (high - low)
    between = ~(waves < trained / high) * ~(waves > trained / low)
    return torch.where(between, (1 - share) * slowed / factor + share * slowed, slowed)


def rotation(positions: Tensor, frequency: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosine and sine (B, 1, T, head_width) of positions (B, T) int64, for `rotated`."""
    trained = positions[..., None].float() * frequency
    exact = positions[..., None].double() * frequency.double()
    far = positions[..., None] >= EXACT_FROM
    cosine = torch.where(far, exact.cos().float(), trained.cos())
    sine = torch.where(far, exact.sin().float(), trained.sin())
    return _twice(cosine).to(dtype), _twice(sine).to(dtype)


def rotated(x: Tensor, cosine: Tensor, sine: Tensor) -> Tensor:
    """x (B, heads, T, head_width), each channel of the first half turned together with its partner in the second."""
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat((-second, first), dim=-1) * sine


def _twice(half: Tensor) -> Tensor:
    return torch.cat((half, half), dim=-1)[:, None]
