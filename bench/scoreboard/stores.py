"""A vector store as the boards ask it: every correction an entry (vector, answer), the nearest one answers, its cosine is the confidence.

Where several entries are as near as the nearest one, the newest of them answers; with `newest` off the one that was written first, which
is how a store without any thought of corrections behaves. Entries can be deleted.
"""

from collections.abc import Sequence

import numpy as np

from bench.asking import Progress, Said
from bench.data import Row
from bench.vectors import Keys, Vectors

STORE = "vector store, newest of ties"
OLDEST = "vector store, first of ties"
TIE = 1e-6  # cosines so close are of the same text
ASKED = 256  # questions in one product


class Store:
    """The vector store."""

    def __init__(self, vectors: Vectors, *, newest: bool = True) -> None:
        self._vectors, self._newest = vectors, newest
        self._keys: Keys = np.empty((64, vectors.keys.shape[1]), np.float32)
        self._answers: list[str] = []
        self._gone: list[int] = []

    async def ask_many(self, texts: Sequence[str], progress: Progress) -> list[Said]:
        """The nearest entry's answer to each text."""
        size = len(self._answers)
        if size == len(self._gone):
            progress(len(texts))
            return [Said(None, 0.0, silent=True)] * len(texts)
        found: list[Said] = []
        for begin in range(0, len(texts), ASKED):
            some = texts[begin : begin + ASKED]
            near = np.stack([self._vectors[text] for text in some]) @ self._keys[:size].T
            near[:, self._gone] = -np.inf
            tied = near >= near.max(axis=1, keepdims=True) - TIE
            best = size - 1 - tied[:, ::-1].argmax(axis=1) if self._newest else tied.argmax(axis=1)
            for row, entry in enumerate(best.tolist()):
                found.append(Said(self._answers[entry], float(near[row, entry]), silent=False))
            progress(len(some))
        return found

    async def tell_many(self, rows: Sequence[Row], progress: Progress) -> list[str]:
        """One more entry for each; its name is its number."""
        size = len(self._answers)
        while size + len(rows) > len(self._keys):
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
        for place, (text, right) in enumerate(rows, size):
            self._keys[place] = self._vectors[text]
            self._answers.append(right)
        progress(len(rows))
        return [str(place) for place in range(size, len(self._answers))]

    async def forget(self, names: Sequence[str]) -> None:
        """Delete entries."""
        self._gone += [int(name) for name in names]

    async def size_bytes(self) -> int:
        """The vectors."""
        return self._keys[: len(self._answers)].nbytes

    async def disk_bytes(self) -> int | None:
        """It writes nothing."""
        return None
