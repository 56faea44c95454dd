"""The models that learn the synthetic tasks: an LSTM, the rivals of `bench lm`, HOPE.

`hope` on formal languages has chunks of one token and step sizes up to 1: only then can a memory have the negative eigenvalues that
counting modulo two needs (hope.md §8.2). On the other tasks it is what a language model has.
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

TRACKING: Mapping[str, Any] = {"chunk_projections": 1, "chunk_memory": 1, "rate_max": 1.0}
HOPES: Mapping[str, Mapping[str, Any]] = {"hope": {}, "hope linear": {"hidden_multiple": 0}}  # further fields of the mixer
RATES: Mapping[str, Mapping[Family, float]] = {
    "lstm": {"languages": 2e-2, "mad": 3e-3, "recall": 3e-3},
    "hope": {"languages": 5e-3},
    "hope linear": {"languages": 1e-2},
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
            return _hope(vocabulary, size, {**(TRACKING if family == "languages" else {}), **HOPES[kind]})
        return rivals.build(kind, vocabulary, size.width, size.layers, longest, seed)


def rate(kind: str, family: Family) -> float:
    """The learning rate of a kind on a family."""
    return RATES.get(kind, {}).get(family, RATE)


def _hope(vocabulary: int, size: Size, titans: Mapping[str, Any]) -> nn.Module:
    mixer = {"head_width": min(32, size.width), **titans}
    return HopeLM(HopeConfig(vocab_size=vocabulary, hidden_size=size.width, num_hidden_layers=size.layers, titans=mixer))
