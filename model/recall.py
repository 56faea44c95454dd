"""The associative memory of situations and answers: two levels under one delta rule, and a sense for answers that were replaced.

Read:   o = fast(x) + M ψ(x)                  exact for the newest pairs (`window`), wide weights M for older ones (`features`)
Answer: the answer whose code ⟨o, code⟩ is largest, where an answer that was replaced speaks for its successor (`succession`)
Learn:  the new pair and those that it touches most, written together; with its first lesson an answer's own words are taught as well
Clock:  when the token clock crosses a multiple of the middle period, pairs that have no room in the window are written to M:
        M += e_j ψ(x_j)ᵀ, and leave it

M is a level of a continuum memory over frozen features, whose update at a boundary is the sum of its tokens' gradients (Nested Learning
eq. 71); ψ·ψ approximates the kernel of fast, and ψ has unit length, so a pair reads at its own key the same before and after it moves.

R1  A lesson changes bits only by this rule: `update` is pure, `fold` is repeated `update`, both repeatable bit for bit on one kind
    of processor.
R2  The size never grows, but for 44 bytes with each distinct answer, up to `max_responses`.
R3  What one key reads does not depend on what else is read with it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import succession
from model.codes import CodeBook, Vector, packed_code, scores, unpacked
from model.config import FAST, LEVELS, MIDDLE, RecallConfig
from model.features import FeatureMap
from model.levels import crossings
from model.state import Named, State, initial
from model.window import Window

LEAST = 0.01  # a score below is as unfamiliar as one can be: the noise of the codes is larger
HOME, HOME_IN_A_ROW = 0.25, 0.75  # shares for `Window.is_home`
UNIT = 1e-3  # how far a key's length may be from 1


@dataclass(frozen=True, slots=True)
class Lesson:
    """What an event teaches: at the key of a situation (key_width,), `right` is the answer. `tokens` drives the level clock.

    `words` is the key of the answer's own words, if they are to be taught with its first lesson.
    """

    key: Vector
    right: str
    tokens: int
    seq: int
    words: Vector | None = None


@dataclass(frozen=True, slots=True)
class Candidate:
    """A possible answer: index in the code book, score (1 = taught just so), confidence 0 to 1, the level that says it loudest."""

    index: int
    score: float
    confidence: float
    level: str


@dataclass(frozen=True, slots=True)
class _Reading:
    fast: Tensor  # (code_width,)
    middle: Tensor

    @property
    def whole(self) -> Vector:
        return np.asarray((self.fast + self.middle).numpy())


class Recall:
    """The memory of one configuration; states are given and returned. Not for two threads at once on one state."""

    def __init__(self, config: RecallConfig) -> None:
        self.config = config
        self._features = FeatureMap(config)
        self._window = Window(config.window, config.sharpness)

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
                state's watermark; one distinct answer too many; a state of another configuration. Nothing has changed then.
        """
        key, words = self._checked(state, lesson)
        fast, packed = state.levels[FAST], packed_code(lesson.right, self.config.code_width)
        right = succession.find(fast, packed)
        if right is None and len(fast["codes"]) == self.config.max_responses:
            raise ValueError(f"a memory tells at most {self.config.max_responses} distinct answers apart")
        said, margin = self._said(state, key)
        own: list[int] = []
        if right is None:
            right = succession.add(fast, packed, said, margin)
            if words is not None and self.config.own_words:
                own = [self._window.place(fast, words, right, self.config.rate * self.config.own_words)]
        else:
            self._compare(fast, key, right, said, margin)
        fast["last"][0, 0] = right
        row = self._window.place(fast, key, right, self.config.rate)
        near = self._window.closeness(fast, key)
        self._window.relabel(fast, near, right, self.config.same)
        self._write(state, list(dict.fromkeys([row, *self._window.touched(fast, near, 1 + self.config.neighbours), *own])))
        clock = state.clock.after(lesson.tokens)
        due = frozenset(level for level in LEVELS if crossings(state.clock, clock, self.config.period_of(level)))
        if MIDDLE in due:
            self._hand_on(state)
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
        if not len(book):
            return [[] for _ in keys]
        old, new = (book.places(state.levels[FAST]["codes"].numpy()[rows]) for rows in succession.replaced(state.levels[FAST]))
        known = (old >= 0) & (new >= 0)
        if mask is not None:
            known &= mask[new] & mask[old]  # who may not be given is not spoken for, and does not speak
        return [self._answer(state, key, book, (old[known], new[known]), top_k, mask) for key in keys]

    def read(self, state: State, key: Vector) -> Vector:
        """(code_width,) the read-out at a key: near the code of what was taught there."""
        return self._read(state, _aligned(key)).whole

    # --- inside

    def _read(self, state: State, key: Tensor) -> _Reading:
        return _Reading(self._window.read(state.levels[FAST], key), self._wide(state, key))

    def _wide(self, state: State, key: Tensor) -> Tensor:
        """(code_width,) what the middle level says at a key; nothing has been written to it before a pair was handed on."""
        if not self._window.has_handed_on(state.levels[FAST]):
            return torch.zeros(self.config.code_width)
        return torch.mv(state.levels[MIDDLE]["weights"], self._features(key))

    def _said(self, state: State, key: Tensor) -> tuple[int, float]:
        """The row of the answer that the memory would give of all that it was taught (−1: none), and by how much over the next."""
        fast = state.levels[FAST]
        whole = self._read(state, key).whole
        found = scores(fast["codes"].numpy(), whole)
        if not len(found):
            return -1, 0.0
        found = succession.speak_for(found, *succession.replaced(fast), _noise(whole))
        best = int(found.argmax())
        others = np.delete(found, best)
        return best, float(found[best] - others.max()) if len(others) else max(float(found[best]), 0.0)

    def _compare(self, fast: Named, key: Tensor, right: int, said: int, margin: float) -> None:
        """What the lesson says about successions; `fast["last"]` is the answer of the lesson before."""
        in_a_row = int(fast["last"][0, 0]) == right
        home = said >= 0 and self._window.is_home(fast, key, said, HOME_IN_A_ROW if in_a_row else HOME)
        margin = min(margin, succession.IN_A_ROW) if in_a_row else margin
        step, threshold = self.config.replaced_step, self.config.replaced_at
        succession.taught(fast, right, said, margin, home=home, step=step, threshold=threshold)

    def _write(self, state: State, rows: Sequence[int]) -> None:
        fast = state.levels[FAST]
        values = torch.from_numpy(unpacked(fast["codes"].numpy()[fast["answers"][list(rows), 0].numpy()]))
        beside = None
        if self._window.has_handed_on(fast):
            beside = torch.stack([self._wide(state, fast["keys"][row].clone()) for row in rows])
        self._window.write(fast, rows, values, beside)

    def _hand_on(self, state: State) -> None:
        fast, weights = state.levels[FAST], state.levels[MIDDLE]["weights"]
        rows = self._window.oldest(fast, self.config.reserve)
        for row in rows:
            weights.addr_(fast["errors"][row], self._features(fast["keys"][row].clone()))
        if rows:
            self._window.empty(fast, rows)

    def _answer(
        self,
        state: State,
        key: Vector,
        book: CodeBook,
        replaced: tuple[succession.Rows, succession.Rows],
        top_k: int,
        mask: NDArray[np.bool_] | None,
    ) -> list[Candidate]:
        reading = self._read(state, _aligned(key))
        found = succession.speak_for(book.scores(reading.whole), *replaced, _noise(reading.whole))
        admitted = np.flatnonzero(mask) if mask is not None else np.arange(len(found))
        order = admitted[np.argsort(-found[admitted], kind="stable")[: top_k + 1]]  # one more: the margin of the last
        if not len(order):
            return []
        loud = self._loudest(reading, book, order[:top_k])
        runner_up = float(found[order[1]]) if len(order) > 1 else 0.0
        candidates = []
        for rank, index in enumerate(order[:top_k]):
            score = float(found[index])
            against = runner_up if rank == 0 else float(found[order[0]])
            candidates.append(Candidate(int(index), score, self._confidence(score, score - against), loud[rank]))
        return candidates

    def _loudest(self, reading: _Reading, book: CodeBook, indices: NDArray[np.intp]) -> list[str]:
        fast, middle = book.scores_of(indices, reading.fast.numpy()), book.scores_of(indices, reading.middle.numpy())
        return [FAST if newer >= older else MIDDLE for newer, older in zip(fast, middle, strict=True)]

    def _confidence(self, score: float, margin: float) -> float:
        config = self.config
        familiar = float(np.log(max(score, LEAST)))
        evidence = config.score_weight * score + config.log_score_weight * familiar + config.margin_weight * margin + config.bias
        return float(1.0 / (1.0 + np.exp(-evidence)))

    def _checked(self, state: State, lesson: Lesson) -> tuple[Tensor, Tensor | None]:
        if state.config_hash != self.config.hash:
            raise ValueError(f"the state has configuration {state.config_hash[:12]}, this memory is {self.config.hash[:12]}")
        if lesson.seq <= state.watermark:
            raise ValueError(f"lesson {lesson.seq} is not after lesson {state.watermark}, the last one learned")
        if lesson.tokens < 1 or not lesson.right:
            raise ValueError(f"lesson {lesson.seq} has no answer or no tokens")
        words = None if lesson.words is None else self._checked_key(lesson.words, f"lesson {lesson.seq}: the key of the answer's words")
        return self._checked_key(lesson.key, f"lesson {lesson.seq}: the key"), words

    def _checked_key(self, key: Vector, what: str) -> Tensor:
        if key.shape != (self.config.key_width,) or key.dtype != np.float32:
            raise ValueError(f"{what} is {key.dtype}{key.shape}, not float32({self.config.key_width},)")
        if not abs(float(np.linalg.norm(key.astype(np.float64))) - 1.0) < UNIT:  # also refuses NaN and infinity
            raise ValueError(f"{what} is not of unit length")
        return _aligned(key)


def _aligned(key: Vector) -> Tensor:
    """The key in memory of its own: where bytes lie must not choose between kernels that round differently."""
    return torch.tensor(np.ascontiguousarray(key, np.float32))


def _noise(read_out: Vector) -> float:
    """Standard deviation of the inner product of a read-out with the code of an answer that it knows nothing of."""
    return float(np.linalg.norm(read_out)) / math.sqrt(len(read_out))
