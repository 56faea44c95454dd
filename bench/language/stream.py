"""A language model read as a stream, and what a text costs it in bits: the call shape of Hugging Face, whatever a state is called there."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from model.train.batches import windows_in_order
from model.train.evaluate import scoring
from model.train.nats import State, carried, token_nats


def advance(model: nn.Module, ids: Tensor, state: State = None) -> tuple[Tensor, State]:
    """Logits (B, T, V) after each of the ids (B, T), read behind what `state` has seen, and the next state. Keeps no graph.

    A cache of Hugging Face is changed in place: hold on to the state that is returned only.
    """
    with torch.no_grad():
        return carried(model, ids, state)


def bits(logits: Tensor, targets: Tensor) -> Tensor:
    """Bits (B, T) that each target (B, T) costs under logits (B, T, V)."""
    nats = functional.cross_entropy(logits.float().flatten(0, 1), targets.flatten(), reduction="none")
    return nats.reshape(targets.shape) / math.log(2)


def bits_per_token(model: nn.Module, tail: Tensor, context: int, limit: int = 0, batch: int = 32) -> float:
    """Mean bits of the tokens of a text (N,), read in windows of `context`, each afresh; `limit`: about so many, from all over the text."""
    nats = tokens = 0.0
    with scoring(model):
        for rows in windows_in_order(tail, batch, context, limit):
            nats += float(token_nats(model, rows).double().sum())
            tokens += rows.targets.numel()
    return nats / tokens / math.log(2)
