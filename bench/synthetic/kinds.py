"""The models that learn the synthetic tasks: an LSTM, the rivals of `bench lm`, HOPE.

`hope` on formal languages learns token by token (chunks of one) with linear memories, the dot product and no erase, so a memory's own
target makes its transition: W ← W (α I + η v kᵀ), up to the length of targets, which is one here. A learned v = −k turns what is stored
around (η up to 2: an eigenvalue of −1, which counting modulo two needs), a learned v ⟂ k adds without saturating (which counting needs);
an erase gives the first and takes the second. "hope delta" is the paper's rule on the same tasks: squared error and erase, η up to 1. On
other tasks all are what a language model has.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from bench.language import rivals
from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig

Family = Literal["languages", "mad", "recall"]

TRACKING: Mapping[str, Any] = {"chunk_projections": 1, "chunk_memory": 1, "hidden_multiple": 0, "conv_start": "newest"}
SELF_MADE: Mapping[str, Any] = {  # transitions made by the memory's own target
    **TRACKING,
    "head_width": 16,
    "read": "token",
    "objective": "dot",
    "dgd": False,
    "rate_max": 2.0,
    "rate_start": 0.03,
    "retention_start": 0.99999,
}
HOPES: Mapping[str, Mapping[str, Any]] = {  # fields of the mixer on formal languages
    "hope": SELF_MADE,
    "hope static": {**SELF_MADE, "adaptive": ("mem",)},  # the same with projections that do not learn while reading
    "hope delta": {**TRACKING, "rate_max": 1.0},
}
EMBEDDED = 0.3  # standard deviation of embeddings, of all kinds: with 0.02, made for large models, HOPE needs several times the steps
RATES: Mapping[str, Mapping[Family, float]] = {
    "lstm": {"languages": 2e-2, "mad": 3e-3, "recall": 3e-3},
    **{kind: {"languages": 1e-2} for kind in HOPES},
}
RATE = 1e-3  # of every other kind: what MAD's own sweep ends at


@dataclass(frozen=True, slots=True)
class Size:
    """Width of the residual stream, and layers."""

    width: int
    layers: int


SIZES: Mapping[Family, Size] = {"languages": Size(32, 1), "mad": Size(128, 2), "recall": Size(64, 2)}


class Lstm(nn.Module):
    """Embedding, LSTM, linear; ids (B, T) → logits (B, T, V)."""

    def __init__(self, vocabulary: int, size: Size) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, size.width)
        self.lstm = nn.LSTM(size.width, size.width, size.layers, batch_first=True)
        self.lm_head = nn.Linear(size.width, vocabulary)

    def forward(self, ids: Tensor) -> Tensor:
        """(B, T, V)."""
        logits: Tensor = self.lm_head(self.lstm(self.embedding(ids))[0])
        return logits


def names() -> list[str]:
    """Every kind, the one that the others are measured against first."""
    return ["lstm", *(name for name in rivals.KINDS if name not in HOPES), *HOPES]


def make(kind: str, family: Family, vocabulary: int, longest: int, seed: int, *, size: Size | None = None) -> nn.Module:
    """A fresh model; the same arguments give the same weights. `longest`: tokens of the longest row it will see.

    Raises:
        ValueError: no such kind.
    """
    if kind not in names():
        raise ValueError(f"there is no kind {kind!r}; there are {', '.join(names())}")
    size = size or SIZES[family]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        if kind == "lstm":
            return Lstm(vocabulary, size)
        if kind in HOPES:
            return _hope(vocabulary, size, HOPES[kind] if family == "languages" else {})
        return rivals.build(kind, vocabulary, size.width, size.layers, longest, seed, embedded=EMBEDDED)


def rate(kind: str, family: Family) -> float:
    """The learning rate of a kind on a family."""
    return RATES.get(kind, {}).get(family, RATE)


def _hope(vocabulary: int, size: Size, titans: Mapping[str, Any]) -> nn.Module:
    mixer = {**titans, "head_width": min(titans.get("head_width", 32), size.width)}
    config = HopeConfig(vocabulary, size.width, size.layers, titans=mixer, initializer_range=EMBEDDED)
    return HopeLM(config)
