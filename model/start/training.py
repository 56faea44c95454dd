"""Learning a start: texts that mean the same come together, all others apart, and no vector goes far from where it was.

The loss of a text is the supervised contrastive one (Khosla et al. 2020) with the sum inside the logarithm: it asks for one near text of
its own group, not for all, since an intent may have several ways to be said. The second term, 1 - <v, v0>, keeps a vector near the plain
encoder's: what both agree on, all that was learned from the web, is worth more than what five public sets can teach.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.start.batches import Batches
from model.start.network import TEXTS, ChangedEncoder

LONGEST = 64  # tokens of a text that are read in training
WARMUP = 50  # steps over which the rate rises


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a start is learned. Defaults are the shipped one's."""

    steps: int = 200
    rank: int = 8
    rate: float = 1e-3
    keep: float = 3.0  # weight of the distance to the plain vectors
    temperature: float = 0.05
    passages_share: float = 0.3  # batches of general text in which a word was exchanged
    wordings_share: float = 0.35  # of the others: batches of facts and rewordings
    hard_share: float = 0.75
    weight_decay: float = 0.01
    clip: float = 1.0
    strength: float = 0.4  # share of what was learned that is taken
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What a step showed: the contrastive loss, and how far vectors have gone (1 - cosine)."""

    loss: float
    drift: float


def contrast(vectors: Tensor, groups: Tensor, temperature: float) -> Tensor:
    """The loss of unit `vectors` (n, d), averaged over those that have another of their group in the batch."""
    own = torch.eye(len(vectors), dtype=torch.bool)
    scores = (vectors @ vectors.T / temperature).masked_fill(own, -math.inf)
    same = (groups[:, None] == groups[None, :]) & ~own
    told = torch.logsumexp(scores.masked_fill(~same, -math.inf)[same.any(dim=1)], dim=1)
    return (torch.logsumexp(scores[same.any(dim=1)], dim=1) - told).mean()


class Training:
    """A start in the making."""

    def __init__(self, network: ChangedEncoder, batches: Batches, tokens: Callable[[str], Sequence[int]], recipe: Recipe) -> None:
        self._network, self._batches, self._recipe, self._tokens = network, batches, recipe, tokens
        self.parameters = network.learned()
        self.optimizer = torch.optim.AdamW(self.parameters, lr=recipe.rate, weight_decay=recipe.weight_decay)

    def step(self, number: int) -> Step:
        """One step, counted from 0."""
        recipe, batch = self._recipe, self._batches(number)
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate * rate_at(number, recipe.steps)
        rows = [self._tokens(text)[:LONGEST] for text in batch.texts]
        vectors, before = self._network(rows), self._network.plain(rows)
        loss = contrast(vectors, torch.from_numpy(batch.groups), recipe.temperature)
        drift = (1.0 - (vectors * before).sum(dim=1)).mean()
        (loss + recipe.keep * drift).backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, recipe.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return Step(loss.item(), drift.item())

    def changes(self) -> Mapping[str, tuple[NDArray[np.float32], NDArray[np.float32]]]:
        """`down` (rank, in) and `up` (out, rank) of each linear map, of the strength that the recipe says."""
        strength = np.float32(self._recipe.strength)
        return {name: (one.down.detach().numpy().copy(), one.up.detach().numpy() * strength) for name, one in self._network.changes.items()}


def rate_at(step: int, steps: int) -> float:
    """The share of the peak rate: up over the first steps, down along a half cosine."""
    return min(1.0, (step + 1) / WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def plain_vectors(network: ChangedEncoder, tokens: Callable[[str], Sequence[int]], texts: Sequence[str]) -> NDArray[np.float32]:
    """(texts, 384) of the plain encoder, in the precision of training."""
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    vectors = np.empty((len(texts), 384), np.float32)
    for begin in range(0, len(order), TEXTS):
        places = order[begin : begin + TEXTS]
        vectors[places] = network.plain([tokens(texts[place])[:LONGEST] for place in places]).numpy()
    return vectors
