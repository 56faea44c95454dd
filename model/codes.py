"""Response codes: the vector that the memory stores for a right answer, derived from its text alone.

Code of r = the first `width` bits of SHAKE-256(UTF-8 of r) as signs, divided by √width: unit length, nearly orthogonal between
different texts (standard deviation of an inner product 1/√width). Nothing is learned, stored or agreed upon, so two banks, two
machines and two years give the same code.
"""

import hashlib

import numpy as np
from numpy.typing import NDArray

Vector = NDArray[np.float32]
Packed = NDArray[np.uint8]  # codes as bits, (…, width / 8)
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32).T * 2 - 1  # (8, 256): ±1 for each bit of a byte


def packed_code(text: str, width: int) -> Packed:
    """(width / 8,) the bits of a text's code."""
    return np.frombuffer(hashlib.shake_256(text.encode()).digest(width // 8), np.uint8)


def code(text: str, width: int) -> Vector:
    """(width,) the unit vector of a text."""
    return unpacked(packed_code(text, width))


def unpacked(codes: Packed) -> Vector:
    """(…, width) the unit vectors of packed codes (…, width / 8)."""
    signs = np.unpackbits(codes, axis=-1).astype(np.float32) * 2 - 1
    return signs / np.float32(np.sqrt(signs.shape[-1]))


def scores(codes: Packed, out: Vector) -> Vector:
    """(n,) inner products of packed codes (n, width / 8) with a read-out (width,)."""
    # Eight signs at a time are looked up in a table of their 256 possible partial sums: a score costs width / 8 additions.
    table = (out.reshape(-1, 8) @ _SIGNS).ravel()  # (width / 8 · 256,)
    offsets = np.arange(codes.shape[1], dtype=np.int32) * 256
    return np.asarray(table[codes + offsets].sum(axis=1) / np.float32(np.sqrt(len(out))), np.float32)


class CodeBook:
    """The codes of the responses that a bank tells apart, one packed row each. Keeps no texts; grows to `limit` rows and no further."""

    def __init__(self, width: int, limit: int) -> None:
        self._width, self._limit = width, limit
        self._rows: Packed = np.zeros((64, width // 8), np.uint8)
        self._places: dict[bytes, int] = {}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def nbytes(self) -> int:
        """Bytes of the rows."""
        return self._rows.nbytes

    def add(self, text: str) -> int:
        """Take the response in and give its index, the next free one.

        Raises:
            ValueError: the book is full.
        """
        size = self._size
        if size == self._limit:
            raise ValueError(f"a bank tells at most {self._limit} distinct responses apart")
        row = packed_code(text, self._width)
        if size == len(self._rows):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])[: self._limit]
        self._rows[size] = row
        self._places[row.tobytes()] = size  # the newest of equal ones, should there be several
        self._size += 1
        return size

    def place(self, text: str) -> int | None:
        """The index of a response, None if the book lacks it."""
        return self._places.get(packed_code(text, self._width).tobytes())

    def places(self, codes: Packed) -> NDArray[np.intp]:
        """(n,) the indices of packed codes (n, width / 8); −1 for one that the book lacks."""
        return np.array([self._places.get(row.tobytes(), -1) for row in codes], np.intp)

    def scores(self, out: Vector) -> Vector:
        """(responses,) inner product of a read-out (width,) with every code."""
        return scores(self._rows[: self._size], out)

    def scores_of(self, indices: NDArray[np.intp], out: Vector) -> Vector:
        """(n,) inner product of a read-out (width,) with the codes at `indices`."""
        return scores(self._rows[indices], out)
