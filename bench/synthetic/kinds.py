"""The models that learn the synthetic tasks: an LSTM, the rivals of `bench lm`, HOPE.

`hope` on formal languages has a head of each of two rules, both token by token. One adds (dot product, no erase, a small rate): what it
holds along a key counts, without bound, which a^n b^n and brackets need. One replaces (squared error and erase, a rate of 1): its memory
along a key is multiplied by α − 2η = −1, so it turns around, which counting modulo two needs. An erase takes the first and gives the
second, so no single rule has both. Keys, values and rates come from memories that learn every 128 tokens, longer than any word here, and
targets are shared (eq. 79–82): where projections move or make their own targets within a word, counts are no longer sums, and training
finds solutions that end where its words end (docs/journal.md). The other kinds show it: "hope moving" has projections that learn at every
token, "hope self" memories that make their own targets, "hope delta" is the paper's rule alone, η up to 1. On other tasks all are what a
language model has.
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

TRACKING: Mapping[str, Any] = {
    "head_width": 16,
    "hidden_multiple": 0,
    "chunk_projections": 128,
    "chunk_memory": 1,
    "head_rules": ("hebbian", "dgd"),
    "head_rates": (0.1, 1.0),
    "rate_max": 1.1,
    "retention_start": 0.99999,
    "targets": "shared",
    "weight_cap": None,  # a count may grow
    "conv_start": "newest",
}
HOPES: Mapping[str, Mapping[str, Any]] = {  # fields of the mixer on formal languages
    "hope": TRACKING,
    "hope moving": {**TRACKING, "chunk_projections": 1},
    "hope self": {**TRACKING, "targets": "self"},
    "hope delta": {"hidden_multiple": 0, "chunk_projections": 1, "chunk_memory": 1, "rate_max": 1.0, "conv_start": "newest"},
}
EMBEDDED = 0.3  # standard deviation of embeddings, of all kinds: with 0.02, made for large models, HOPE needs several times the steps
RATES: Mapping[str, Mapping[Family, float]] = {
    "lstm": {"languages": 2e-2, "mad": 3e-3, "recall": 3e-3},
    **{kind: {"languages": 3e-3} for kind in HOPES},
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
