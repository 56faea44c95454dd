"""The associative memory: one delta rule over two widths of generalisation, on a clock.

Read:   o = Sᵀφ(x) + M ψ(x) + Σ_j η k(x_j, x) e_j        S fast, M middle; j runs over the lessons that the middle level has not written yet
Learn:  e = code(right) − o,   S += η φ(x) eᵀ at once,   (x, e) waits for the middle level
Clock:  when the token clock crosses a multiple of the middle period, M += η e_j ψ(x_j)ᵀ for all that wait

φ is sharp, ψ is wide, |φ|² + |ψ|² = 1 and k is the kernel that ψ·ψ approximates, so with η = 1 the read-out at a key is its newest
lesson (one step of gradient descent on ½|code − o|², the delta rule: Nested Learning eq. 56–57, Schlag et al. 2021), but for the noise
of ψ·ψ when it takes over from k for the lessons that waited. The two levels share one error, so what the fast level explains the middle
one does not learn twice.

R1  A lesson changes bits only by this rule: `update` is pure, `fold` is repeated `update`, both repeatable bit for bit on one kind
    of processor.
R2  The size never grows.
R3  What one key reads does not depend on what else is read with it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model.codes import CodeBook, Vector, code
from model.config import FAST, LEVELS, MIDDLE, RecallConfig
from model.features import FeatureMap, Features
from model.levels import crossings
from model.state import State, initial

UNIT = 1e-3  # how far a key's length may be from 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an event teaches: at the key of a situation (key_width,), `right` is the answer. `tokens` drives the level clock."""

    key: Vector
    right: str
    tokens: int
    seq: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer: index in the code book, score (1 = taught just so), confidence 0 to 1, the level that says it loudest."""

    index: int
    score: float
    confidence: float
    level: str


@dataclass(frozen=True, slots=True)
class _Reading:
    features: Features
    fast: Tensor  # (code_width,)
    middle: Tensor


class Recall:
    """The memory of one configuration; states are given and returned. Not for two threads at once on one state."""

    def __init__(self, config: RecallConfig) -> None:
        self.config = config
        self._features = FeatureMap(config)

    def initial(self) -> State:
        """A state that has learned nothing."""
        return initial(self.config)

    def book(self) -> CodeBook:
        """An empty code book of this configuration."""
        return CodeBook(self.config.code_width, self.config.max_responses)

    def update(self, state: State, lesson: Lesson) -> State:
        """The state after one more lesson; `state` stays as it is. See `apply_`."""
        return self.fold(state, [lesson])

    def fold(self, state: State, lessons: Iterable[Lesson]) -> State:
        """The state after `lessons`, in order; `state` stays as it is. See `apply_`."""
        after = state.clone()
        for lesson in lessons:
            self.apply_(after, lesson)
        return after

    def apply_(self, state: State, lesson: Lesson) -> frozenset[str]:
        """Learn one lesson in place; the levels whose period ended with it.

        Raises:
            ValueError: key of the wrong shape, not finite or not of unit length; no answer; no tokens; a seq that is not after the
                state's watermark; a state of another configuration. Nothing has changed then.
        """
        key = self._checked(state, lesson)
        reading = self._read(state, key)
        error = torch.from_numpy(code(lesson.right, self.config.code_width)) - (reading.fast + reading.middle)
        fast, middle = state.levels[FAST]["weights"], state.levels[MIDDLE]
        strengths = reading.features.strengths * self.config.step
        fast.index_add_(0, reading.features.units, torch.outer(strengths, error))
        middle["pending_keys"] = torch.cat([middle["pending_keys"], key[None]])
        middle["pending_errors"] = torch.cat([middle["pending_errors"], error[None]])
        clock = state.clock.after(lesson.tokens)
        due = frozenset(level for level in LEVELS if crossings(state.clock, clock, self.config.period_of(level)))
        if MIDDLE in due:
            self._write_middle(middle, reading.features.waves)
        state.clock, state.watermark = clock, lesson.seq
        return due

    def answer(
        self,
        state: State,
        keys: NDArray[np.float32],
        book: CodeBook,
        *,
        top_k: int,
        mask: NDArray[np.bool_] | None = None,
    ) -> list[list[Candidate]]:
        """For each of `keys` (n, key_width) the `top_k` best candidates, best first, among the responses that `mask` admits."""
        return [self._answer(state, key, book, top_k, mask) for key in keys]

    def read(self, state: State, key: Vector) -> Vector:
        """(code_width,) the read-out at a key: near the code of what was taught there."""
        reading = self._read(state, _aligned(key))
        return np.asarray((reading.fast + reading.middle).numpy())

    # --- inside

    def _read(self, state: State, key: Tensor) -> _Reading:
        features = self._features(key)
        middle = state.levels[MIDDLE]
        fast = torch.mv(state.levels[FAST]["weights"][features.units].t(), features.strengths)
        wide = torch.mv(middle["weights"], features.waves)
        if len(middle["pending_keys"]):
            closeness = self._features.kernel(middle["pending_keys"], key) * self.config.step
            wide.add_(torch.mv(middle["pending_errors"].t(), closeness))
        return _Reading(features, fast, wide)

    def _write_middle(self, middle: dict[str, Tensor], newest: Tensor) -> None:
        keys, errors = middle["pending_keys"], middle["pending_errors"]
        for row in range(len(keys)):
            waves = newest if row == len(keys) - 1 else self._features(keys[row].clone()).waves
            middle["weights"].addr_(errors[row], waves, alpha=self.config.step)
        middle["pending_keys"], middle["pending_errors"] = keys[:0].clone(), errors[:0].clone()

    def _answer(self, state: State, key: Vector, book: CodeBook, top_k: int, mask: NDArray[np.bool_] | None) -> list[Candidate]:
        if not len(book):
            return []
        reading = self._read(state, _aligned(key))
        scores = book.scores((reading.fast + reading.middle).numpy())
        admitted = np.flatnonzero(mask) if mask is not None else np.arange(len(scores))
        order = admitted[np.argsort(-scores[admitted], kind="stable")[: top_k + 1]]  # one more: the margin of the last
        if not len(order):
            return []
        loud = self._loudest(reading, book, order[:top_k])
        runner_up = float(scores[order[1]]) if len(order) > 1 else 0.0
        candidates = []
        for rank, index in enumerate(order[:top_k]):
            score = float(scores[index])
            against = runner_up if rank == 0 else float(scores[order[0]])
            candidates.append(Candidate(int(index), score, self._confidence(score, score - against), loud[rank]))
        return candidates

    def _loudest(self, reading: _Reading, book: CodeBook, indices: NDArray[np.intp]) -> list[str]:
        fast, middle = book.scores_of(indices, reading.fast.numpy()), book.scores_of(indices, reading.middle.numpy())
        return [FAST if sharp > wide else MIDDLE for sharp, wide in zip(fast, middle, strict=True)]

    def _confidence(self, score: float, margin: float) -> float:
        config = self.config
        evidence = config.score_weight * score + config.margin_weight * margin + config.bias
        return float(1.0 / (1.0 + np.exp(-evidence)))

    def _checked(self, state: State, lesson: Lesson) -> Tensor:
        if state.config_hash != self.config.hash:
            raise ValueError(f"the state has configuration {state.config_hash[:12]}, this memory is {self.config.hash[:12]}")
        if lesson.seq <= state.watermark:
            raise ValueError(f"lesson {lesson.seq} is not after lesson {state.watermark}, the last one learned")
        if lesson.tokens < 1 or not lesson.right:
            raise ValueError(f"lesson {lesson.seq} has no answer or no tokens")
        if lesson.key.shape != (self.config.key_width,) or lesson.key.dtype != np.float32:
            raise ValueError(f"lesson {lesson.seq}: the key is {lesson.key.dtype}{lesson.key.shape}, not float32({self.config.key_width},)")
        if not abs(float(np.linalg.norm(lesson.key.astype(np.float64))) - 1.0) < UNIT:  # also refuses NaN and infinity
            raise ValueError(f"lesson {lesson.seq}: the key is not of unit length")
        return _aligned(lesson.key)


def _aligned(key: Vector) -> Tensor:
    """The key in memory of its own: where bytes lie must not choose between kernels that round differently."""
    return torch.tensor(np.ascontiguousarray(key, np.float32))
