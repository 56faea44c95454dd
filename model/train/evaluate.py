"""How well a model foresees a text: nats summed over all targets, and the bytes and characters that these targets really cover.

Bits per byte is therefore comparable between tokenizers: a BPE token counts for the bytes that it stands for.
"""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.train.batches import IGNORED, Batch, pieces_in_order, windows_in_order
from model.train.nats import carried_nats, detached, token_nats
from model.train.settings import Precision
from model.train.tokens import Tokenizer, sizes


@dataclass(frozen=True, slots=True)
class Score:
    """Sums over targets. Scores of several texts add up."""

    nats: float
    tokens: int
    bytes: int
    characters: int

    def __add__(self, other: "Score") -> "Score":
        return Score(self.nats + other.nats, self.tokens + other.tokens, self.bytes + other.bytes, self.characters + other.characters)

    @property
    def loss(self) -> float:
        """Nats per token."""
        return self.nats / self.tokens

    @property
    def bits_per_byte(self) -> float:
        """Bits per byte of UTF-8."""
        return self.nats / math.log(2) / self.bytes

    @property
    def bits_per_character(self) -> float:
        """Bits per character (code point)."""
        return self.nats / math.log(2) / self.characters

    def as_dict(self) -> dict[str, float]:
        """The three means and what they are over."""
        means = {"loss": self.loss, "bits_per_byte": self.bits_per_byte, "bits_per_character": self.bits_per_character}
        return means | {"tokens": self.tokens, "bytes": self.bytes}


class Scorer:
    """Scores models on texts of one tokenizer."""

    def __init__(self, tokenizer: Tokenizer, precision: Precision = "fp32") -> None:
        self._bytes, self._characters = sizes(tokenizer)
        self._precision = precision

    def windows(self, model: nn.Module, stream: Tensor, *, batch: int, context: int, limit: int = 0) -> Score:
        """In windows of `context` tokens side by side, each from a fresh state; all, or about `limit` tokens from all over the text.

        Raises:
            ValueError: fewer than two tokens.
        """
        _check(stream)
        with scoring(model):
            return self._sum(self._fresh(model, windows_in_order(stream, batch, context, limit)))

    def stream(self, model: nn.Module, stream: Tensor, *, context: int) -> Score:
        """As one stream, read in pieces of `context` tokens through the model's carried state.

        A transformer's state is a cache that grows with the text; a HOPE state does not.

        Raises:
            ValueError: fewer than two tokens.
        """
        _check(stream)
        with scoring(model):
            return self._sum(self._carried(model, pieces_in_order(stream, context)))

    def _fresh(self, model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        device = device_of(model)
        for batch in batches:
            yield token_nats(model, batch.to(device), self._precision), batch.targets

    def _carried(self, model: nn.Module, batches: Iterable[Batch]) -> Iterator[tuple[Tensor, Tensor]]:
        device, state = device_of(model), None
        for batch in batches:
            nats, state = carried_nats(model, batch.to(device), state, self._precision)
            state = detached(state)
            yield nats, batch.targets

    def _sum(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Score:
        score = Score(0.0, 0, 0, 0)
        for nats, targets in parts:
            ids = targets[targets != IGNORED]
            score += Score(float(nats.double().sum()), len(ids), int(self._bytes[ids].sum()), int(self._characters[ids].sum()))
        return score


@contextmanager
def scoring(model: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients, and back to the mode that was."""
    was = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was)


def device_of(model: nn.Module) -> torch.device:
    """Where a model's parameters are."""
    return next(model.parameters()).device


def _check(stream: Tensor) -> None:
    if len(stream) < 2:
        raise ValueError(f"a text of {len(stream)} tokens has nothing to foresee; at least 2 are needed")
