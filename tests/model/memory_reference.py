"""The associative memory once more, written plainly: lists, dictionaries and dense float64 matrices. Slow and obvious.

The reference shares nothing with `model/` but the configuration; what it shares with the docstrings of `model.recall`, `model.window` and
`model.succession` is every formula. Also the lessons, states and books that the tests of the memory are about.
"""

import hashlib
import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from model import CodeBook, Lesson, Recall, RecallConfig, State

torch.set_num_threads(1)  # as the service does: on a loaded machine two threads wait for each other a hundred times longer than they work

ENCODER = "e" * 64
TINY = RecallConfig.tiny(encoder_digest=ENCODER)
MINUTE = RecallConfig(
    ENCODER, key_width=24, code_width=16, window=40, neighbours=4, frequencies=20, places=16, max_responses=64
)  # blobs of a few kilobytes; its window hands pairs on as soon as there are nine

Matrix = NDArray[np.float64]


def unit(keys: NDArray[np.floating]) -> NDArray[np.float32]:
    """Keys (…, width) of unit length."""
    return (keys / np.linalg.norm(keys, axis=-1, keepdims=True)).astype(np.float32)


def unit_keys(count: int, seed: int, width: int = 384, centres: int = 12) -> NDArray[np.float32]:
    """Unit keys around a few centres, as situations are: near ones and far ones."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, width))
    return unit(middle[rng.integers(centres, size=count)] + rng.uniform(0.2, 1.2, (count, 1)) * rng.standard_normal((count, width)))


def key_pair(cosine: float, seed: int, width: int = 384) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Two random unit keys with this inner product."""
    left, other = np.random.default_rng(seed).standard_normal((2, width))
    left /= np.linalg.norm(left)
    other -= (left @ other) * left
    other /= np.linalg.norm(other)
    return unit(left), unit(cosine * left + math.sqrt(1 - cosine**2) * other)


def stream(config: RecallConfig, count: int, seed: int, *, answers: int = 23, first: int = 1) -> list[Lesson]:
    """Lessons with answers that repeat and contradict each other, of 1 to 19 tokens, two thirds with own words, numbered with gaps."""
    rng = np.random.default_rng(seed + 1_000)
    keys, own = unit_keys(count, seed, config.key_width), unit_keys(answers, seed + 2_000, config.key_width)
    drawn = zip(keys, rng.integers(answers, size=count), rng.integers(1, 20, size=count), rng.integers(3, size=count), strict=True)
    return [
        Lesson(key, f"answer {right}", int(tokens), first + 3 * place, words=own[right] if told else None)
        for place, (key, right, tokens, told) in enumerate(drawn)
    ]


def policies(config: RecallConfig, count: int, seed: int, *, situations: int = 3, lasts: int = 15) -> list[Lesson]:
    """Lessons in a few situations, in ever new wordings, by two policies in turn, each for `lasts` lessons: answers are replaced."""
    rng = np.random.default_rng(seed + 3_000)
    centres = rng.standard_normal((situations, config.key_width))
    at = rng.integers(situations, size=count)
    keys = unit(unit(centres)[at] + 0.5 * rng.standard_normal((count, config.key_width)) / config.key_width**0.5)
    answers = [f"answer {situation + situations * (place // lasts % 2)}" for place, situation in enumerate(at.tolist())]
    drawn = zip(keys, answers, rng.integers(1, 20, size=count).tolist(), strict=True)
    return [Lesson(key, right, tokens, 1 + 2 * place) for place, (key, right, tokens) in enumerate(drawn)]


def taught(lessons: Iterable[Lesson], recall: Recall | None = None) -> State:
    """What a memory (the tiny one) is after these lessons."""
    recall = recall or Recall(TINY)
    return recall.fold(recall.initial(), lessons)


def book_of(answers: int, config: RecallConfig = TINY) -> CodeBook:
    """The responses of `stream`."""
    book = Recall(config).book()
    for number in range(answers):
        book.add(f"answer {number}")
    return book


def bits_of(state: State) -> dict[str, object]:
    """Everything that a state is, to be compared bit for bit."""
    tensors = {f"{level}.{name}": tensor.numpy().tobytes() for level, named in state.levels.items() for name, tensor in named.items()}
    return {**tensors, "config": state.config_hash, "clock": state.clock, "watermark": state.watermark}


def signs(seed: bytes, count: int) -> list[int]:
    """±1 for each bit of SHAKE-256, the highest bit of a byte first."""
    drawn = hashlib.shake_256(seed).digest(count // 8)
    return [1 if drawn[place // 8] >> (7 - place % 8) & 1 else -1 for place in range(count)]


def reference_code(text: str, width: int) -> Matrix:
    """(width,) the code of a response."""
    return np.array(signs(text.encode(), width)) / math.sqrt(width)


def reference_directions(seed: int, name: str, directions: int) -> Matrix:
    """(directions, 512) each row a direction: √512 · (shuffle · Hadamard · signs)³, block by block."""
    places = np.arange(512)
    ones = np.array([[bin(row & column).count("1") for column in places] for row in places])
    hadamard = (-1.0) ** ones / math.sqrt(512)  # entry (i, j) of Sylvester's matrix: −1 to the number of ones that i and j share
    shuffle = (places % 16) * 32 + places // 16  # number 16 j + i of a block is number 32 i + j of the transform
    blocks = -(-directions // 512)
    drawn = np.array(signs(f"{seed}:{name}".encode(), 3 * blocks * 512)).reshape(3, blocks, 512)
    rows = []
    for block in range(blocks):
        turned = np.eye(512)
        for round_ in range(3):
            turned = (hadamard @ np.diag(drawn[round_, block]) @ turned)[shuffle]
        rows.append(turned * math.sqrt(512))
    return np.concatenate(rows)[:directions]


@dataclass
class Kin:
    """What is known of an answer's relatives."""

    parent: str | None
    evidence: float = 0.0
    successor: str | None = None


class ReferenceKinship:
    """Which answers have been replaced by which, by name."""

    def __init__(self, step: float, threshold: float) -> None:
        self.step, self.threshold = step, threshold
        self.kin: dict[str, Kin] = {}

    def learn(self, right: str, said: str | None, margin: float, home: bool = True, lead: float = 0.0, most: float = math.inf) -> None:
        """The answer `right` was taught where the memory said `said`; it leads its parent by so much. At most `most` of either counts."""
        if right not in self.kin:
            self.kin[right] = Kin(said if margin >= 0.05 else None)
            return
        own = self.kin[right]
        if own.successor is not None:
            self.kin[own.successor].parent = None
            own.successor = None
        for child in self.kin.values():
            if child.parent == right:
                child.evidence = 0.0
        if said is None or own.parent is None:
            return
        replaced = self.kin[own.parent].successor == right
        if said == right and lead > 0 and margin < 0.05:
            return
        if said == right and lead > 0:
            own.evidence -= min(margin, most) + self.step
            if own.evidence < 0 and replaced:
                self.kin[own.parent].successor = None
        elif said == right and home and replaced:
            own.evidence += min(-lead, most) + self.step
        elif said != right and said != own.parent:
            own.evidence -= self.step
        elif said != right and home:
            own.evidence += min(margin, most) + self.step
            if own.evidence > self.threshold and self.kin[said].successor is None:
                self.kin[said].successor = right

    def become(self, answer: str) -> str:
        """The last of those that replaced an answer."""
        further = self.kin[answer].successor
        return answer if further is None else self.become(further)


@dataclass
class Pair:
    """A pair of the window."""

    key: Matrix
    rate: float
    answer: str
    error: Matrix


class ReferenceMemory:
    """The window as a list, M, and the answers."""

    def __init__(self, config: RecallConfig) -> None:
        self.wide = reference_directions(config.seed, "wide", config.frequencies)[:, : config.key_width]
        self.forget(config)

    def forget(self, config: RecallConfig) -> None:
        """Begin again with another configuration of the same seed and frequencies: the directions are the costly part."""
        self.config = config
        self.window: list[Pair] = []
        self.M = np.zeros((config.code_width, 2 * config.frequencies))
        self.kinship = ReferenceKinship(config.replaced_step, config.replaced_at)
        self.taken = self.tokens = 0
        self.last: str | None = None

    def code(self, answer: str) -> Matrix:
        """(code_width,) the code of an answer."""
        return reference_code(answer, self.config.code_width)

    def psi(self, x: Matrix) -> Matrix:
        """(2 · frequencies,) random Fourier features; |ψ|² = 1."""
        angles = math.sqrt(self.config.sharpness) * self.wide @ x
        return np.concatenate([np.cos(angles), np.sin(angles)]) / math.sqrt(self.config.frequencies)

    def kernel(self, x: Matrix, y: Matrix) -> float:
        """What ψ(x)·ψ(y) approximates."""
        return math.exp(self.config.sharpness * (float(x @ y) - 1.0))

    def read(self, x: Matrix) -> Matrix:
        """(code_width,) the read-out."""
        out = self.M @ self.psi(x)
        for pair in self.window:
            out = out + self.kernel(pair.key, x) * pair.error
        return out

    def loud(self, x: Matrix) -> dict[str, float]:
        """How loudly each answer is said by its own code."""
        out = self.read(x)
        return {answer: float(self.code(answer) @ out) for answer in self.kinship.kin}

    def scores(self, x: Matrix) -> dict[str, float]:
        """How loudly each answer is said, with what was replaced speaking for what it has become."""
        out, found = self.read(x), self.loud(x)
        noise = float(np.linalg.norm(out)) / math.sqrt(len(out))
        spoken = dict(found)
        for answer, score in found.items():
            if self.kinship.become(answer) != answer and 2.0 * noise < score < 0.8:
                spoken[self.kinship.become(answer)] += score
                spoken[answer] -= score
        return spoken

    def said(self, x: Matrix) -> tuple[str | None, float]:
        """The loudest answer, and by how much over the next."""
        ranked = sorted(self.scores(x).items(), key=lambda item: -item[1])
        if not ranked:
            return None, 0.0
        if len(ranked) == 1:
            return ranked[0][0], max(ranked[0][1], 0.0)
        return ranked[0][0], ranked[0][1] - ranked[1][1]

    def learn(self, lesson: Lesson) -> None:
        """One lesson."""
        config, x, nothing = self.config, lesson.key.astype(np.float64), np.zeros(self.config.code_width)
        said, margin = self.said(x)
        own = []
        if lesson.right not in self.kinship.kin and lesson.words is not None and config.own_words > 0:
            own = [Pair(lesson.words.astype(np.float64), config.rate * config.own_words, lesson.right, nothing)]
        in_a_row, self.last = self.last == lesson.right, lesson.right
        parent = self.kinship.kin[lesson.right].parent if lesson.right in self.kinship.kin else None
        home = parent is not None and self.is_home(x, parent, 0.75 if in_a_row else 0.25)
        lead = self.loud(x)[lesson.right] - self.loud(x)[parent] if parent is not None else 0.0
        self.kinship.learn(lesson.right, said, margin, home, lead, 0.1 if in_a_row else math.inf)
        new = Pair(x, config.rate, lesson.right, nothing)
        for pair in [*self.window, *own]:
            if pair.key @ x >= config.same:
                pair.answer = lesson.right
        self.window += [*own, new]
        self.taken += len(own) + 1
        nearest = sorted(self.window, key=lambda pair: -self.kernel(pair.key, x))[: 1 + config.neighbours]
        self.write(new, [pair for pair in self.window if any(pair is chosen for chosen in [new, *nearest, *own])])
        before, self.tokens = self.tokens, self.tokens + lesson.tokens
        if any(moment % config.middle_period == 0 for moment in range(before + 1, self.tokens + 1)):
            while len(self.window) > config.window - 2 * config.middle_period:
                oldest = self.window.pop(0)
                self.M = self.M + np.outer(oldest.error, self.psi(oldest.key))

    def is_home(self, x: Matrix, answer: str, share: float) -> bool:
        """As near to a pair of the answer as this share of its pairs (the newest 32) has another one."""
        keys = np.array([pair.key for pair in self.window if pair.answer == answer][-32:])
        if len(keys) < 3:
            return False
        among = keys @ keys.T - 2 * np.eye(len(keys))
        return bool((keys @ x).max() >= np.quantile(among.max(axis=1), share))

    def write(self, new: Pair, block: list[Pair]) -> None:
        """ΔE = (K + diag(1/η))⁻¹ (V − O); the rate of the new pair is infinite."""
        K = np.array([[self.kernel(left.key, right.key) for right in block] for left in block])
        V = np.array([self.code(pair.answer) for pair in block])
        O = np.array([self.read(pair.key) for pair in block])  # noqa: E741
        change = np.linalg.solve(K + np.diag([0.0 if pair is new else 1 / pair.rate for pair in block]), V - O)
        for pair, moved in zip(block, change, strict=True):
            pair.error = pair.error + moved

    def fold(self, lessons: Iterable[Lesson]) -> "ReferenceMemory":
        """All of them, in order; gives itself."""
        for lesson in lessons:
            self.learn(lesson)
        return self
