"""Response codes: the vector that the memory stores for a right answer, derived from its text alone.

Code of r = the first `width` bits of SHAKE-256(UTF-8 of r) as signs, divided by √width: unit length, nearly orthogonal between
different texts (standard deviation of an inner product 1/√width). Nothing is learned, stored or agreed upon, so two banks, two
machines and two years give the same code.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32).T * 2 - 1  # (8, 256): ±1 for each bit of a byte


def packed_code(text: str, width: int) -> NDArray[np.uint8]:
    """(width / 8,) the bits of a text's code."""
    return np.frombuffer(hashlib.shake_256(text.encode()).digest(width // 8), np.uint8)


def code(text: str, width: int) -> Vector:
    """(width,) the unit vector of a text."""
    signs = np.unpackbits(packed_code(text, width)).astype(np.float32) * 2 - 1
    return signs / np.float32(np.sqrt(width))


class CodeBook:
    """The codes of the responses that a bank tells apart, one packed row each. Keeps no texts; grows to `limit` rows and no further."""

    def __init__(self, width: int, limit: int) -> None:
        self._width, self._limit = width, limit
        self._rows = np.zeros((64, width // 8), np.uint8)
        self._size = 0
        self._offsets = np.arange(width // 8, dtype=np.int32) * 256

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self._rows.nbytes

    def add(self, text: str) -> int:
        """Take the response in and give its index, the next free one.

        Raises:
            ValueError: the book is full.
        """
        if self._size == self._limit:
            raise ValueError(f"a bank tells at most {self._limit} distinct responses apart")
        if self._size == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])[: self._limit]
        self._rows[self._size] = packed_code(text, self._width)
        self._size += 1
        return self._size - 1

    def scores(self, out: Vector) -> Vector:
        """(responses,) inner product of a read-out (width,) with every code."""
        return self._scores(self._rows[: self._size], out)

    def scores_of(self, indices: NDArray[np.intp], out: Vector) -> Vector:
        """(n,) inner product of a read-out (width,) with the codes at `indices`."""
        return self._scores(self._rows[indices], out)

    def _scores(self, rows: NDArray[np.uint8], out: Vector) -> Vector:
        # Eight signs at a time are looked up in a table of their 256 possible partial sums: a score costs width / 8 additions.
        table = (out.reshape(-1, 8) @ _SIGNS).ravel()  # (width / 8 · 256,)
        return np.asarray(table[rows + self._offsets].sum(axis=1) / np.float32(np.sqrt(self._width)), np.float32)
