"""What is compared in one step: texts of one domain, some of which mean the same.

Some are general text in which one word was exchanged (`model.start.passages`). Most of the others are hard: their groups are near each
other for the plain encoder, so that telling them apart has to be learned. Batch n of a seed is always the same, whatever was drawn before:
a run that goes on needs no state of a generator.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.start.passages import Family
from model.start.sources import Domain

CLASSES, OF_EACH = 24, 4  # an intent batch
WORDINGS, OF_PAIR = 48, 2  # a batch of facts or rewordings
SEEDS, NEIGHBOURS = 8, 16  # a hard one: groups drawn, and of how many nearest ones the rest comes
FAMILIES = 12  # a batch of passages: sentences, each with one word exchanged several times
ANCHORING = 8  # texts whose mean stands for a class

Vectors = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Batch:
    """Texts and the group of each; texts with one number mean the same."""

    texts: list[str]
    groups: NDArray[np.int64]


class Batches:
    """Draws batches from domains. `encode` gives the plain encoder's unit vectors: once, at the beginning."""

    def __init__(
        self,
        domains: Sequence[Domain],
        encode: Callable[[Sequence[str]], Vectors],
        families: Sequence[Family] = (),
        *,
        seed: int,
        passages_share: float = 0.0,
        wordings_share: float,
        hard_share: float,
    ) -> None:
        self._classes = [domain for domain in domains if domain.intents]
        self._wordings = [domain for domain in domains if not domain.intents]
        if not domains:
            raise ValueError("every domain is left out: nothing is left to learn from")
        self._seed, self._hard_share = seed, hard_share
        self._families, self._passages_share = families, passages_share if families else 0.0
        self._wordings_share = 0.0 if not self._wordings else wordings_share if self._classes else 1.0
        self._near = {domain.name: _nearest(_anchors(domain, encode), CLASSES if domain.intents else NEIGHBOURS + 1) for domain in domains}

    def __call__(self, step: int) -> Batch:
        """The batch of a step, counted from 0."""
        draw = np.random.default_rng([self._seed, step])
        if self._passages_share and draw.random() < self._passages_share:
            return self._some_passages(draw)
        if draw.random() < self._wordings_share:
            domain = self._wordings[draw.integers(len(self._wordings))]
            return _filled(domain, self._some_wordings(domain, draw), OF_PAIR, draw)
        domain = self._classes[draw.integers(len(self._classes))]
        return _filled(domain, self._some_classes(domain, draw), OF_EACH, draw)

    def _some_classes(self, domain: Domain, draw: np.random.Generator) -> Sequence[int]:
        if draw.random() < self._hard_share:
            return [int(at) for at in self._near[domain.name][draw.integers(len(domain.groups))]]
        return _drawn(len(domain.groups), CLASSES, draw)

    def _some_wordings(self, domain: Domain, draw: np.random.Generator) -> Sequence[int]:
        if draw.random() >= self._hard_share:
            return _drawn(len(domain.groups), WORDINGS, draw)
        chosen: dict[int, None] = {}
        for seed in _drawn(len(domain.groups), SEEDS, draw):
            near = self._near[domain.name][seed][1:]
            chosen |= dict.fromkeys([seed, *(int(near[at]) for at in _drawn(len(near), WORDINGS // SEEDS - 1, draw))])
        return list(chosen)

    def _some_passages(self, draw: np.random.Generator) -> Batch:
        groups = [group for at in _drawn(len(self._families), FAMILIES, draw) for group in self._families[at]]
        texts = [group[at] for group in groups for at in _drawn(len(group), OF_PAIR, draw)]
        return Batch(texts, np.repeat(np.arange(len(groups)), OF_PAIR))


def _filled(domain: Domain, groups: Sequence[int], of_each: int, draw: np.random.Generator) -> Batch:
    texts: list[str] = []
    labels: list[int] = []
    for group in groups:
        among = domain.groups[group]
        texts += [among[at] for at in _drawn(len(among), of_each, draw)]
        labels += [group] * min(of_each, len(among))
    return Batch(texts, np.array(labels, np.int64))


def _drawn(among: int, number: int, draw: np.random.Generator) -> list[int]:
    return [int(at) for at in draw.permutation(among)[:number]]


def _anchors(domain: Domain, encode: Callable[[Sequence[str]], Vectors]) -> Vectors:
    taken = [group[: ANCHORING if domain.intents else 1] for group in domain.groups]
    vectors, end = encode([text for texts in taken for text in texts]), 0
    anchors = np.empty((len(taken), vectors.shape[1]), np.float32)
    for place, texts in enumerate(taken):
        mean = vectors[end : end + len(texts)].mean(axis=0)
        anchors[place], end = mean / np.linalg.norm(mean), end + len(texts)
    return anchors


def _nearest(anchors: Vectors, number: int) -> NDArray[np.int64]:
    """(groups, number) the nearest groups of each, itself first."""
    likeness = anchors @ anchors.T
    np.fill_diagonal(likeness, 2.0)
    return np.argsort(-likeness, axis=1, kind="stable")[:, :number]
