"""What people have today, on the plain encoder's vectors: nothing, a dictionary, a vector store read in three ways.

A vector store keeps every correction as an entry (vector, answer) and never changes one; the three differ in how they read it. The
vote of the nearest entries is weighted by similarity, which made fewer mistakes here than counting heads. All are deterministic.
"""

from collections.abc import Callable, Sequence

import numpy as np

from bench.streams import Memory
from bench.vectors import Keys, Vectors

VOTERS = 10
NEWER = 0.1  # added to the similarity of the newest entry, nothing to the oldest, evenly between


class NoMemory:
    """Says nothing, learns nothing."""

    async def ask(self, text: str) -> str | None:
        """Silence."""
        return None

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """Nothing happens."""

    async def size_bytes(self) -> int:
        """Nothing."""
        return 0


class ExactMatch:
    """A dictionary from the very words to the newest answer."""

    def __init__(self) -> None:
        self._answers: dict[str, str] = {}

    async def ask(self, text: str) -> str | None:
        """The answer to the same words."""
        return self._answers.get(text)

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """Replace the answer to these words."""
        self._answers[text] = right

    async def size_bytes(self) -> int:
        """The words."""
        return sum(len(text.encode()) for text in self._answers)


class VectorStore:
    """Every correction an entry; answers by a vote of the `voters` nearest, newer ones preferred by `newer`."""

    def __init__(self, vectors: Vectors, *, voters: int = 1, newer: float = 0.0) -> None:
        self._vectors, self._voters, self._newer = vectors, voters, newer
        self._keys: Keys = np.empty((64, vectors.keys.shape[1]), np.float32)
        self._answers: list[str] = []

    async def ask(self, text: str) -> str | None:
        """The answer with the most similarity among the nearest entries; of equal ones that of the nearest."""
        size = len(self._answers)
        if not size:
            return None
        near = self._keys[:size] @ self._vectors[text]
        if self._newer:
            near = near + np.float32(self._newer) * np.linspace(0.0, 1.0, size, dtype=np.float32)
        best = np.argsort(-near, kind="stable")[: self._voters]
        votes: dict[str, float] = {}
        for entry in best:
            answer = self._answers[entry]
            votes[answer] = votes.get(answer, 0.0) + float(near[entry])
        return max(votes, key=lambda answer: votes[answer])

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """One more entry."""
        size = len(self._answers)
        if size == len(self._keys):
            self._keys = np.concatenate([self._keys, np.empty_like(self._keys)])
        self._keys[size] = self._vectors[text]
        self._answers.append(right)

    async def size_bytes(self) -> int:
        """The vectors."""
        return self._keys[: len(self._answers)].nbytes


Rival = Callable[[Vectors], Memory]

RIVALS: Sequence[tuple[str, Rival]] = (
    ("no memory", lambda vectors: NoMemory()),
    ("exact-match dictionary", lambda vectors: ExactMatch()),
    ("vector store, best match", VectorStore),
    ("vector store, ten vote", lambda vectors: VectorStore(vectors, voters=VOTERS)),
    ("vector store, ten vote, newer +0.1", lambda vectors: VectorStore(vectors, voters=VOTERS, newer=NEWER)),
)
