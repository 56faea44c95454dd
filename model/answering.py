"""From what a memory reads at a key to the answers that it gives there, with confidence and the level that says them loudest."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

import numpy as np
from numpy.typing import NDArray

from model import succession
from model.codes import CodeBook, Vector
from model.config import FAST, LEVELS, SLOW, RecallConfig, Weights
from model.learning import noise
from model.products import Reading
from model.state import State

LEAST = 0.01  # a score below is as unfamiliar as one can be: the noise of the codes is larger
SETTLING, KNOWING = 128, 5_000  # corrections of the smallest and the largest settled banks that the confidence was fitted on

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer: index in the code book, score (1 = taught just so), confidence 0 to 1, the level that says it loudest.

    `margin`: by how much its score is above that of the best other answer; below zero where it is not the best.
    """

    index: int
    score: float
    confidence: float
    level: str
    margin: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How one answer stands at a key: its place among the admitted ones (1 is best; None: not admitted), its score and confidence.

    `margin`: by how much its score is above that of the best other.
    """

    rank: int | None
    score: float
    confidence: float
    margin: float


@dataclass(frozen=True, slots=True)
class Asked:
    """Keys (n, key_width) that one bank is asked at: the `top_k` best of the responses in its `book` that `mask` admits are wanted."""

    state: State
    keys: NDArray[np.float32]
    book: CodeBook
    top_k: int
    mask: Mask | None = None


class Answering:
    """Gives answers for the readings at the keys of one bank."""

    def __init__(self, config: RecallConfig, asked: Asked) -> None:
        self._book, self._top_k = asked.book, asked.top_k
        fast, mask = asked.state.levels[FAST], asked.mask
        old, new = (asked.book.places(fast["codes"].numpy()[rows]) for rows in succession.replaced(fast))
        known = (old >= 0) & (new >= 0)
        if mask is not None:
            known &= mask[new] & mask[old]  # who may not be given is not spoken for, and does not speak
        self._replaced = old[known], new[known]
        self._admitted = np.flatnonzero(mask) if mask is not None else np.arange(len(asked.book))
        self._weights = weights(config, asked.state)

    def candidates(self, reading: Reading) -> list[Candidate]:
        """The best ones for one reading, best first; equal ones in the order of the book."""
        found, admitted = self._scores(reading.whole), self._admitted
        order = admitted[best(found[admitted], self._top_k + 1)]  # one more: the margin of the last
        if not len(order):
            return []
        loud = self._loudest(reading, order[: self._top_k])
        runner_up = float(found[order[1]]) if len(order) > 1 else 0.0
        candidates = []
        for rank, index in enumerate(order[: self._top_k]):
            score = float(found[index])
            against = runner_up if rank == 0 else float(found[order[0]])
            margin = score - against
            candidates.append(Candidate(int(index), score, self._confidence(score, margin), loud[rank], margin))
        return candidates

    def standing(self, reading: Reading, index: int) -> Standing:
        """How the answer `index` of the book stands for one reading, wherever it comes among the others."""
        found, admitted = self._scores(reading.whole), self._admitted
        score, place = float(found[index]), np.flatnonzero(admitted == index)
        if not len(place):
            return Standing(None, score, 0.0, 0.0)
        scores = found[admitted]
        others = np.delete(scores, place)
        better = int((scores > scores[place]).sum() + (scores[: place[0]] == scores[place]).sum())
        margin = score - (float(others.max()) if len(others) else 0.0)
        return Standing(1 + better, score, self._confidence(score, margin), margin)

    def voices(self, reading: Reading, index: int) -> NDArray[np.intp]:
        """The answers of the book whose own scores make up that of the answer `index`: itself and those that it speaks for."""
        (old, new), whole = self._replaced, reading.whole
        if not len(old):
            return np.array([index])
        spoken = succession.inferred(self._book.scores(whole), old, noise(whole))
        own = [] if index in old[spoken] else [index]
        return np.array([*own, *old[spoken & (new == index)]], np.intp)

    def _scores(self, whole: Vector) -> Vector:
        return succession.speak_for(self._book.scores(whole), *self._replaced, noise(whole))

    def _loudest(self, reading: Reading, indices: NDArray[np.intp]) -> Sequence[str]:
        silent = np.zeros(len(indices), np.float32)  # a level that says nothing says it of every answer
        said = [self._book.scores_of(indices, level) if level.any() else silent for level in reading]  # in the order of LEVELS
        return [LEVELS[level] for level in np.stack(said).argmax(axis=0)]  # of equal ones the fastest

    def _confidence(self, score: float, margin: float) -> float:
        read = (score, log(max(score, LEAST)), margin, 1.0)
        return 1.0 / (1.0 + exp(-sum(weight * each for weight, each in zip(self._weights, read, strict=True))))


def weights(config: RecallConfig, state: State) -> Weights:
    """What the confidence of a memory gives to score, ln score, margin and 1.

    Once there is a slow level, what is asked lies between others anyway: the more a memory knows then, the less a margin says, and the more
    the score. A lower score is never surer.
    """
    if not state.levels[SLOW]["held"][0, 0]:
        return config.young
    further = log(min(max(state.clock.events, SETTLING), KNOWING) / SETTLING)
    score, familiar, margin, bias = (weight + further * more for weight, more in zip(config.settled, config.growth, strict=True))
    return score, familiar, margin, bias


def best(scores: Vector, count: int) -> NDArray[np.intp]:
    """The places of the `count` highest of scores, highest first; equal ones in order. All of them need not be sorted for it."""
    places = np.arange(len(scores))
    if len(scores) > count:
        places = np.flatnonzero(scores >= np.partition(scores, -count)[-count])
    return places[np.argsort(-scores[places], kind="stable")[:count]]
