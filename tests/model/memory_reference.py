"""The associative memory once more, written plainly: dense float64 matrices, bit loops, a list of what waits. Slow and obvious.

The reference shares nothing with `model/` but the configuration; what it shares with `model.recall`'s docstring is every formula. Also
the lessons, states and books that the tests of the memory are about.
"""

import hashlib
import math
from collections.abc import Iterable

import numpy as np
import torch
from numpy.typing import NDArray

from model import CodeBook, Lesson, Recall, RecallConfig, State

torch.set_num_threads(1)  # as the service does: on a loaded machine two threads wait for each other a hundred times longer than they work

ENCODER = "e" * 64
TINY = RecallConfig.tiny(encoder_digest=ENCODER)
MINUTE = RecallConfig(
    ENCODER, key_width=24, code_width=16, units=48, active=6, frequencies=20, max_responses=64
)  # blobs of a few kilobytes

Matrix = NDArray[np.float64]


def unit_keys(count: int, seed: int, width: int = 384, centres: int = 12) -> NDArray[np.float32]:
    """Unit keys around a few centres, as situations are: near ones and far ones."""
    rng = np.random.default_rng(seed)
    middle = rng.standard_normal((centres, width))
    keys = middle[rng.integers(centres, size=count)] + rng.uniform(0.2, 1.2, (count, 1)) * rng.standard_normal((count, width))
    return (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)


def stream(config: RecallConfig, count: int, seed: int, *, answers: int = 23, first: int = 1) -> list[Lesson]:
    """Lessons with answers that repeat and contradict each other, of 1 to 19 tokens, numbered with gaps."""
    rng = np.random.default_rng(seed + 1_000)
    drawn = zip(unit_keys(count, seed, config.key_width), rng.integers(answers, size=count), rng.integers(1, 20, size=count), strict=True)
    return [Lesson(key, f"answer {right}", int(tokens), first + 3 * place) for place, (key, right, tokens) in enumerate(drawn)]


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


class ReferenceMemory:
    """S, M and the lessons that M has not written yet."""

    def __init__(self, config: RecallConfig) -> None:
        self.config = config
        self.sharp = reference_directions(config.seed, "sharp", config.units)[:, : config.key_width]
        self.wide = reference_directions(config.seed, "wide", config.frequencies)[:, : config.key_width]
        self.S = np.zeros((config.units, config.code_width))
        self.M = np.zeros((config.code_width, 2 * config.frequencies))
        self.waiting: list[tuple[Matrix, Matrix]] = []
        self.tokens = 0

    def phi(self, x: Matrix) -> Matrix:
        """(units,) zero but for the most aligned directions, each by how far it exceeds the first one left out; |φ|² = 1 − share."""
        aligned = self.sharp @ x
        threshold = np.sort(aligned)[-self.config.active - 1]
        exceeding = np.maximum(aligned - threshold, 0.0)
        return exceeding / np.linalg.norm(exceeding) * math.sqrt(1.0 - self.config.share)

    def psi(self, x: Matrix) -> Matrix:
        """(2 · frequencies,) random Fourier features; |ψ|² = share."""
        angles = math.sqrt(self.config.sharpness) * self.wide @ x
        return np.concatenate([np.cos(angles), np.sin(angles)]) * math.sqrt(self.config.share / self.config.frequencies)

    def kernel(self, x: Matrix, y: Matrix) -> float:
        """What ψ(x)·ψ(y) approximates."""
        return self.config.share * math.exp(self.config.sharpness * (float(x @ y) - 1.0))

    def read(self, x: Matrix) -> Matrix:
        """(code_width,) the read-out."""
        out = self.S.T @ self.phi(x) + self.M @ self.psi(x)
        for y, error in self.waiting:
            out = out + self.config.step * self.kernel(y, x) * error
        return out

    def learn(self, lesson: Lesson) -> None:
        """One lesson."""
        x = lesson.key.astype(np.float64)
        error = reference_code(lesson.right, self.config.code_width) - self.read(x)
        self.S = self.S + self.config.step * np.outer(self.phi(x), error)
        self.waiting.append((x, error))
        before, self.tokens = self.tokens, self.tokens + lesson.tokens
        if any(moment % self.config.middle_period == 0 for moment in range(before + 1, self.tokens + 1)):
            for y, waited in self.waiting:
                self.M = self.M + self.config.step * np.outer(waited, self.psi(y))
            self.waiting = []

    def fold(self, lessons: Iterable[Lesson]) -> "ReferenceMemory":
        """All of them, in order; gives itself."""
        for lesson in lessons:
            self.learn(lesson)
        return self
