"""Language learned in context: what a byte costs, by how much of an unseen domain the model has read before it.

Streams of a domain that no weight was trained on are read from their start; a model that learns while it reads pays less and less.
Two ways to read: with the state carried from piece to piece, which a model with a state of constant size can do for ever, and with a
window that slides over the text, which is all that a transformer can do beyond the length it was trained at (every token is then
predicted from half a window at least).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from bench.language.stream import advance, bits
from model.train.evaluate import scoring

Read = Callable[[nn.Module, Tensor], Iterator[Tensor]]  # bits (B, n) of ids (B, N), from the second on, piece by piece


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean bits of the tokens with `edges[i]` ≤ position < `edges[i + 1]`; `spread` is the standard deviation over the streams."""

    edges: tuple[int, ...]
    bits: tuple[float, ...]
    spread: tuple[float, ...]

    @property
    def gain(self) -> float:
        """Bits saved between the first bucket that a trained window fills and the last one."""
        return self.bits[0] - self.bits[-1]


def streams(text: Tensor, rows: int, length: int) -> Tensor:
    """`rows` stretches (rows, length) int64 of a text (N,), evenly apart.

    Raises:
        ValueError: the text is shorter than one stream.
    """
    if len(text) < length:
        raise ValueError(f"a text of {len(text):,} tokens has no stream of {length:,}")
    starts = torch.linspace(0, len(text) - length, rows).long()
    return text[starts[:, None] + torch.arange(length)].long()


def by_position(model: nn.Module, ids: Tensor, read: Read, edges: Sequence[int]) -> Curve:
    """The curve over streams (B, N); the last edge is at most N.

    Raises:
        ValueError: edges that do not rise from 1 or more to N at most.
    """
    if list(edges) != sorted(set(edges)) or edges[0] < 1 or edges[-1] > ids.shape[1] or len(edges) < 2:
        raise ValueError(f"edges {list(edges)} must rise from 1 or more to at most {ids.shape[1]}")
    with scoring(model):
        cost = torch.cat(list(read(model, ids)), 1).double()  # (B, N - 1): of positions 1 … N - 1
    means = torch.stack([cost[:, low - 1 : high - 1].mean(1) for low, high in pairwise(edges)])
    spread = means.std(1) if ids.shape[0] > 1 else torch.zeros(len(means))
    return Curve(tuple(edges), tuple(means.mean(1).tolist()), tuple(spread.tolist()))


def doubling(first: int, length: int) -> list[int]:
    """Edges first, 2·first, 4·first, … and `length`."""
    edges = [first]
    while edges[-1] * 2 < length:
        edges.append(edges[-1] * 2)
    return [*edges, length]


def carried(piece: int) -> Read:
    """Read with the state carried from one piece of so many tokens to the next."""

    def read(model: nn.Module, ids: Tensor) -> Iterator[Tensor]:
        state = None
        for start in range(0, ids.shape[1] - 1, piece):
            part = ids[:, start : start + piece + 1]
            logits, state = advance(model, part[:, :-1], state)
            yield bits(logits, part[:, 1:])

    return read


def sliding(window: int) -> Read:
    """Read in windows of so many tokens, each half a window further; what the first half predicts was counted before."""

    def read(model: nn.Module, ids: Tensor) -> Iterator[Tensor]:
        done = 0  # predictions made
        while done < ids.shape[1] - 1:
            start = 0 if done == 0 else done - window // 2
            part = ids[:, start : start + window + 1]
            logits = model(input_ids=part[:, :-1], use_cache=False).logits
            new = part.shape[1] - 1 - (done - start)
            yield bits(logits, part[:, 1:])[:, -new:]
            done += new

    return read
