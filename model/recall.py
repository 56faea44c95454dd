"""The associative memory of situations and answers: three levels under one delta rule, and a sense for answers that were replaced.

Read:   o = fast(z) + M ψ(z) + slow(z)        exact for the newest pairs (`window`), wide weights M for older ones (`features`), and
                                              places for what was consolidated; z is the key as the slow level turns it (`slow`)
Answer: the answer whose code ⟨o, code⟩ is largest, where an answer that was replaced speaks for its successor (`succession`)
Learn:  the new pair and those that it touches most, written together; with its first lesson an answer's own words are taught as well
Clock:  when the token clock crosses a multiple of the middle period, pairs that have no room in the window are written to M:
        M += e_j ψ(z_j)ᵀ, and leave it. The slow level changes in a consolidation only (`consolidation`)

M is a level of a continuum memory over frozen features, whose update at a boundary is the sum of its tokens' gradients (Nested Learning
eq. 71); ψ·ψ approximates the kernel of fast, and ψ has unit length, so a pair reads at its own key the same before and after it moves.

R1  A lesson changes bits only by this rule: `update` is pure, `fold` is repeated `update`, both repeatable bit for bit on one kind
    of processor.
R2  The size never grows, but for 44 bytes with each distinct answer, up to `max_responses`.
R3  What one key reads does not depend on what else is read with it, and what one bank learns not on which others learn with it: of
    several banks in one call each has the bits that it has alone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from model import succession
from model.answering import Answering, Asked, Candidate
from model.codes import CodeBook, Vector, packed_code
from model.config import FAST, SLOW, RecallConfig
from model.features import kernel
from model.learning import Learning, Step
from model.levels import Clock
from model.products import Inquiry, OneByOne, Products, Question, Reading
from model.slow import Slow
from model.stacked import Stacked
from model.state import State, initial

ONE_PLACE = 0.999  # cosine of keys that lie in one place: 8 bits a number move one by less
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


class Recall:
    """The memory of one configuration; states are given and returned. Not for two threads at once on one state.

    Its states' heavy tensors lie on `device`. `stacked`: whether several banks are computed by one kernel (`model/stacked.py`) or one
    after the other (`model/products.py`); left out: on every device but the host.
    """

    def __init__(self, config: RecallConfig, device: torch.device | str = "cpu", *, stacked: bool | None = None) -> None:
        self.config, self.device = config, torch.device(device)
        self._hash = config.hash
        stacked = self.device.type != "cpu" if stacked is None else stacked
        if not stacked and self.device.type != "cpu":
            raise ValueError(f"one bank after the other is a way of the host, not of {self.device.type}")
        self._products: Products = Stacked(config, self.device) if stacked else OneByOne(config)
        self._learning, self._slow = Learning(config, self._products), Slow(config)

    def initial(self) -> State:
        """A state that has learned nothing."""
        return initial(self.config, self.device)

    def brought(self, state: State) -> State:
        """A state from the host with its heavy tensors on this memory's device: itself where that is the host."""
        return state if self.device.type == "cpu" else state.to(self.device)

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
        return self.apply_many_([state], [lesson])[0]

    def apply_many_(self, states: Sequence[State], lessons: Sequence[Lesson]) -> list[frozenset[str]]:
        """Learn one lesson in each of several banks, in place; for each the levels whose period ended with it. R3.

        Raises:
            ValueError: as `apply_`, or a bank twice, or more of one than of the other. Nothing has changed in any bank then.
        """
        if len({id(state) for state in states}) < len(states):
            raise ValueError("a bank learns one lesson at a time")
        return self._learning.apply_([self._checked(state, lesson) for state, lesson in zip(states, lessons, strict=True)])

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
        return self.answer_many([Asked(state, keys, book, top_k, mask)])[0]

    def answer_many(self, asked: Sequence[Asked]) -> list[list[list[Candidate]]]:
        """What `answer` gives, for each of several banks (one may be asked more than once). R3."""
        readings = iter(self._products.read([self._question(one.state, key) for one in asked if len(one.book) for key in one.keys]))
        answers: list[list[list[Candidate]]] = []
        for one in asked:
            if not len(one.book):
                answers.append([[] for _ in one.keys])
                continue
            answering = Answering(self.config, one)
            answers.append([answering.candidates(next(readings)) for _ in one.keys])
        return answers

    def survey(self, asked: Asked) -> list[list[Candidate]]:
        """What `answer` gives, for much less. Not R3: between answers that are as good as equal, how many are asked may decide."""
        if not len(asked.book) or not len(asked.keys):
            return [[] for _ in asked.keys]
        answering, readings = self.look_over(asked)
        return [answering.candidates(reading) for reading in readings]

    def look_over(self, asked: Asked) -> tuple[Answering, list[Reading]]:
        """As `look`, at many keys for much less, with last bits as `survey` has them."""
        keys = torch.stack([self._turned_key(asked.state, key) for key in asked.keys])
        return Answering(self.config, asked), self._products.survey(asked.state, keys)

    def look(self, asked: Asked) -> tuple[Answering, list[Reading]]:
        """How answers are made for one bank, and what its levels say at each key: for those who ask why. The book must not be empty."""
        questions = [self._question(asked.state, key) for key in asked.keys]
        return Answering(self.config, asked), self._products.read(questions)

    def near(self, state: State, key: Vector) -> NDArray[np.float32]:
        """(rows used,) the kernels of all pairs of the window with a key; 0 for a row whose pair was handed on."""
        fast = state.levels[FAST]
        rows = min(int(fast["marks"][0, 0]), self.config.window)
        ((_, near),) = self._products.ask([Inquiry(state, self._turned_key(state, key), rows)])
        return np.asarray(np.where(fast["rates"][:rows, 0].numpy() > 0.0, near.numpy(), np.float32(0.0)))

    def consolidated(self, state: State) -> bool:
        """Whether the state has a slow level. Then the pairs of its window are not in the order of the lessons any more."""
        return self._slow.used(state.levels[SLOW]) > 0

    def unsettled(self, state: State) -> Clock:
        """How much the state has learned since its slow level was made: what a consolidation owes."""
        made_at = self._slow.made_at(state.levels[SLOW])
        return Clock(state.clock.tokens - made_at.tokens, state.clock.events - made_at.events)

    def turned(self, state: State, keys: NDArray[np.float32]) -> NDArray[np.float32]:
        """(n, key_width) where keys lie, as the slow level turns them."""
        return np.stack([self._turned_key(state, key).numpy() for key in keys])

    def shares(self, state: State, key: Vector, others: NDArray[np.float32]) -> list[Reading]:
        """What the pairs and places that lie where each of `others` (n, key_width) does say at a key.

        Where several lie in one place, the last of them has it. The wide weights do not keep places apart.
        """
        fast, slow = state.levels[FAST], state.levels[SLOW]
        at, there = self._turned_key(state, key), torch.from_numpy(self.turned(state, others))
        taken = int(fast["marks"][0, 0])
        pairs = (fast["keys"][:taken].cpu(), fast["errors"][:taken].cpu())
        said = _portions(pairs, at, there, self.config.sharpness)
        placed = _portions(self._slow.places(slow), at, there, self.config.slow_sharpness)
        return [Reading(mine, np.zeros_like(mine), yours) for mine, yours in zip(said.numpy(), placed.numpy(), strict=True)]

    def read(self, state: State, key: Vector) -> Vector:
        """(code_width,) the read-out at a key: near the code of what was taught there."""
        return self._products.read([self._question(state, key)])[0].whole

    # --- inside

    def _question(self, state: State, key: Vector) -> Question:
        return Question(state, self._turned_key(state, key))

    def _turned_key(self, state: State, key: Vector) -> Tensor:
        return self._slow.turned(state.levels[SLOW], _aligned(key))

    def _checked(self, state: State, lesson: Lesson) -> Step:
        if state.config_hash != self._hash:
            raise ValueError(f"the state has configuration {state.config_hash[:12]}, this memory is {self._hash[:12]}")
        if (lies := state.levels[FAST]["keys"].device.type) != self.device.type:
            raise ValueError(f"the state lies on {lies}, this memory computes on {self.device.type}")
        if lesson.seq <= state.watermark:
            raise ValueError(f"lesson {lesson.seq} is not after lesson {state.watermark}, the last one learned")
        if lesson.tokens < 1 or not lesson.right:
            raise ValueError(f"lesson {lesson.seq} has no answer or no tokens")
        words = None if lesson.words is None else self._turned(state, lesson.words, f"lesson {lesson.seq}: the key of the answer's words")
        key = self._turned(state, lesson.key, f"lesson {lesson.seq}: the key")
        fast, packed = state.levels[FAST], packed_code(lesson.right, self.config.code_width)
        answer = succession.find(fast, packed)
        if answer is None:
            answer = len(fast["codes"])
            if answer == self.config.max_responses:
                raise ValueError(f"a memory tells at most {self.config.max_responses} distinct answers apart")
        return Step(state, key, words, answer, packed, lesson.tokens, lesson.seq)

    def _turned(self, state: State, key: Vector, what: str) -> Tensor:
        if key.shape != (self.config.key_width,) or key.dtype != np.float32:
            raise ValueError(f"{what} is {key.dtype}{key.shape}, not float32({self.config.key_width},)")
        if not abs(float(np.linalg.norm(key.astype(np.float64))) - 1.0) < UNIT:  # also refuses NaN and infinity
            raise ValueError(f"{what} is not of unit length")
        return self._turned_key(state, key)


def _aligned(key: Vector) -> Tensor:
    """The key in memory of its own: where bytes lie must not choose between kernels that round differently."""
    return torch.tensor(np.ascontiguousarray(key, np.float32))


def _portions(pairs: tuple[Tensor, Tensor], at: Tensor, there: Tensor, sharpness: float) -> Tensor:
    """(n, code_width) what of the pairs (keys, errors) says at a key, by the last of n places in which each lies."""
    keys, errors = pairs
    inside = keys @ there.T > ONE_PLACE
    whose = (inside * torch.arange(1, len(there) + 1)).amax(dim=1)  # 0: in none of them
    said = kernel(keys @ at, sharpness).unsqueeze(1) * errors
    return torch.zeros(len(there) + 1, errors.shape[1]).index_add_(0, whose, said)[1:]
