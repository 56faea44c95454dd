"""Heads that learn classes from frozen vectors, task after task: what the literature of class-incremental learning compares with.

Closed forms keep sums and nothing else, so the order of classes and tasks does not matter to what they know at the end:

- `NearestNeighbour`  stores every vector
- `ClassMean`         the mean of each class, nearest by cosine
- `Lda`               linear discriminant analysis: class means and one shared covariance Σ + ridge·I; score μᵀΣ⁻¹x − ½ μᵀΣ⁻¹μ
- `Lda` on `fourier`  the same on random Fourier features of a Gaussian kernel: KLDA (arXiv:2412.15571)

Gradient heads are in `bench.scoreboard.gradient_heads`. What may be chosen (ridge, width of the kernel) is chosen on validation rows with
everything learned at once, which tells the closed forms more than a stream could know.
"""

from collections.abc import Callable, Sequence
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int64]

FEATURES = 2_000
RIDGES = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)  # beside a covariance whose mean eigenvalue is scaled to 1
WIDTHS = (0.5, 1.0, 2.0, 4.0)  # β of the kernel exp(−β |x − y|²)


class Head(Protocol):
    """Learns one task after another; predicts among all classes that it has met."""

    def learn(self, x: Floats, y: Labels) -> None:
        """One task: (n, width) unit rows, (n,) classes."""

    def predict(self, x: Floats) -> Labels:
        """(m,) classes of (m, width) rows."""


class NearestNeighbour:
    """The class of the most similar stored row."""

    def __init__(self) -> None:
        self._x: list[Floats] = []
        self._y: list[Labels] = []

    def learn(self, x: Floats, y: Labels) -> None:
        """Store."""
        self._x.append(x)
        self._y.append(y)

    def predict(self, x: Floats) -> Labels:
        """Look up."""
        stored, classes = np.concatenate(self._x), np.concatenate(self._y)
        parts = [classes[(part @ stored.T).argmax(axis=1)] for part in np.array_split(x, max(1, len(x) // 500))]
        return np.concatenate(parts)


class ClassMean:
    """The class whose mean is nearest by cosine."""

    def __init__(self, classes: int) -> None:
        self._classes, self._sums = classes, np.zeros((classes, 0), np.float64)

    def learn(self, x: Floats, y: Labels) -> None:
        """Add to the sums."""
        if not self._sums.size:
            self._sums = np.zeros((self._classes, x.shape[1]))
        np.add.at(self._sums, y, x)

    def predict(self, x: Floats) -> Labels:
        """The largest cosine."""
        length = np.linalg.norm(self._sums, axis=1, keepdims=True)
        means = self._sums / np.where(length > 0, length, 1.0)
        scores = np.where(length[:, 0] > 0, x @ means.T, -np.inf)
        return np.asarray(scores.argmax(axis=1))


class Lda:
    """Linear discriminant analysis with a shared covariance, equal priors; `features` maps rows first."""

    def __init__(self, classes: int, ridge: float, features: Callable[[Floats], Floats] = lambda x: x) -> None:
        self._classes, self.ridge, self._features = classes, ridge, features
        self._counts = np.zeros(classes)
        self._sums = self._second = np.zeros((0, 0))

    def learn(self, x: Floats, y: Labels) -> None:
        """Add to the sums and to the second moment."""
        mapped = self._features(x)
        if not self._second.size:
            width = mapped.shape[1]
            self._sums, self._second = np.zeros((self._classes, width)), np.zeros((width, width))
        np.add.at(self._sums, y, mapped)
        self._counts += np.bincount(y, minlength=self._classes)
        self._second += mapped.T @ mapped

    def predict(self, x: Floats) -> Labels:
        """The largest discriminant."""
        met = np.flatnonzero(self._counts)
        means = self._sums[met] / self._counts[met, None]
        within = (self._second - (means * self._counts[met, None]).T @ means) / self._counts.sum()
        within += self.ridge * np.trace(within) / len(within) * np.eye(len(within))
        weights = np.linalg.solve(within, means.T)  # (width, met)
        scores = self._features(x) @ weights - 0.5 * np.einsum("cw,wc->c", means, weights)
        return np.asarray(met[scores.argmax(axis=1)])


def fourier(width: int, beta: float, *, features: int = FEATURES, seed: int = 0) -> Callable[[Floats], Floats]:
    """Random Fourier features whose products approximate exp(−β |x − y|²), x of `width` numbers (Rahimi & Recht 2007)."""
    directions = np.random.default_rng(seed).normal(0.0, np.sqrt(2 * beta), (width, features // 2)).astype(np.float32)

    def mapped(x: Floats) -> Floats:
        angles = x @ directions
        waves = np.concatenate([np.cos(angles), np.sin(angles)], axis=1) / np.float32(np.sqrt(features // 2))
        return np.asarray(waves, np.float32)

    return mapped


def accuracy(said: Labels, right: Labels) -> float:
    """The share of equal ones."""
    return float((said == right).mean())


def best_lda(x: Floats, y: Labels, valid_x: Floats, valid_y: Labels, classes: int) -> float:
    """The ridge with the most validation rows right."""
    return max(RIDGES, key=lambda ridge: _right(Lda(classes, ridge), [(x, y)], valid_x, valid_y))


def best_klda(x: Floats, y: Labels, valid_x: Floats, valid_y: Labels, classes: int, features: int = FEATURES) -> tuple[float, float]:
    """β and ridge with the most validation rows right."""

    def right(chosen: tuple[float, float]) -> float:
        beta, ridge = chosen
        head = learned[beta]
        head.ridge = ridge
        return accuracy(head.predict(valid_x), valid_y)

    learned = {beta: Lda(classes, RIDGES[0], fourier(x.shape[1], beta, features=features)) for beta in WIDTHS}
    for head in learned.values():
        head.learn(x, y)  # the sums serve every ridge
    return max(product(WIDTHS, RIDGES), key=right)


def _right(head: Head, tasks: Sequence[tuple[Floats, Labels]], valid_x: Floats, valid_y: Labels) -> float:
    for x, y in tasks:
        head.learn(x, y)
    return accuracy(head.predict(valid_x), valid_y)
