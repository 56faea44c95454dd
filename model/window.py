"""The fast level: the newest pairs of key and error, a linear memory in dual form, written by delta gradient descent.

    o(x) = Σ_j k(x_j, x) e_j        k(x, y) = exp(β(x·y − 1))

This is what W = Σ_j e_j φ(x_j)ᵀ reads at φ(x), φ the features of the kernel, without forming them: linear attention before its chunk is
written into a matrix (hope.md §2.5). A write takes the new pair and the pairs that it touches most as one chunk and finds the nearest
memory that has less error on all of them,

    argmin ½‖ΔW‖² + ½ Σ_j η_j ‖v_j − (W + ΔW) φ_j‖²   ⇒   ΔE = (K + diag(1/η))⁻¹ (V − O)

which for one pair is the exact step of delta gradient descent, η / (1 + η) of the error (Nested Learning eq. 57 with eq. 93;
`model.hope.rules.proximal_rate`). So what a lesson would do to its neighbours by accident is repaired in the same step. The new pair has an
infinite rate: the newest lesson is exact at its key. v_j is the code of the answer of pair j, until a newer lesson in the same situation
changes it.

The window is a ring: pair number n lies in row n mod window. The oldest pairs leave it for the middle level, whose rows are then zero.

`Ring` keeps the books, on the host (`rates`, `answers`, `marks`). `Window` is a ring with the products of one bank, as the formulas say:
one matrix times one vector at a time, whose bits depend on nothing else. Those of many banks at once are in `model/stacked.py`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from model.features import kernel
from model.state import Named

HOME, SETTLED = 32, 3  # newest pairs of an answer that are looked at, and how many make a home
ROUNDING = 1e-5  # of a kernel: an equal key is the same situation, also where `same` is 1


class Ring:
    """Which pairs lie where, and what is known of them beside key and error."""

    def __init__(self, size: int, sharpness: float) -> None:
        self._size, self._sharpness = size, sharpness

    def used(self, fast: Named) -> int:
        """Rows that something was ever written to: the first so many."""
        return min(self._marks(fast)[0], self._size)

    def take(self, fast: Named, answer: int, rate: float) -> int:
        """Enter a pair in the books; its row. There must be room (`oldest`). Its key and an error of zero are for the caller to write."""
        taken, handed = self._marks(fast)
        assert taken - handed < self._size
        row = taken % self._size
        fast["rates"][row], fast["answers"][row] = rate, answer
        fast["marks"][0, 0] = taken + 1
        return row

    def relabel(self, fast: Named, near: Tensor, answer: int, same: float) -> None:
        """Pairs whose cosine with the key of `near` (`closeness`) is `same` or more are of its situation: `answer` is their answer, too."""
        fast["answers"][: len(near)][near >= math.exp(self._sharpness * (same - 1.0)) - ROUNDING] = answer

    def touched(self, fast: Named, near: Tensor, count: int) -> list[int]:
        """The rows of the `count` pairs nearest to the key of `near` (`closeness`), or of as many as there are, nearest first."""
        held = near.masked_fill(fast["rates"][: len(near), 0] == 0.0, -1.0)  # not what was handed on
        best, rows = torch.topk(held, min(count, len(held)))
        found: list[int] = rows[best >= 0.0].tolist()
        return found

    def newest_of(self, fast: Named, answer: int) -> Tensor:
        """(at most HOME,) the rows of the newest pairs of an answer, oldest first; none where they are too few to make a home."""
        used, (taken, _) = self.used(fast), self._marks(fast)
        rows = ((fast["answers"][:used, 0] == answer) & (fast["rates"][:used, 0] > 0.0)).nonzero()[:, 0]
        rows = rows[((rows - taken) % self._size).argsort()][-HOME:]  # by age: the ring may have come round
        return rows if len(rows) >= SETTLED else rows[:0]

    def oldest(self, fast: Named, reserve: int) -> list[int]:
        """The rows that have to be handed on so that `reserve` more pairs find room, oldest first."""
        taken, handed = self._marks(fast)
        return [pair % self._size for pair in range(handed, taken - self._size + reserve)]

    def leave(self, fast: Named, rows: Sequence[int]) -> None:
        """Strike the pairs in `rows`, the oldest, from the books. Their keys and errors are for the caller to make zero."""
        for name in ("rates", "answers"):
            fast[name][torch.tensor(rows)] = 0
        fast["marks"][0, 1] += len(rows)

    def _marks(self, fast: Named) -> tuple[int, int]:
        """Pairs taken and pairs handed on since the beginning."""
        taken, handed = fast["marks"][0].tolist()
        return taken, handed


class Window(Ring):
    """The operations on one bank's tensors `keys`, `errors`, `rates`, `answers`, `marks` (`model/state.py`), in place."""

    def closeness(self, fast: Named, keys: Tensor, rows: int | None = None) -> Tensor:
        """(rows, n) kernels of what was taken with keys (n, key_width) or (rows,) with one (key_width,); of all or the first `rows`."""
        held = fast["keys"][: self.used(fast) if rows is None else rows]
        near = torch.mv(held, keys) if keys.dim() == 1 else torch.stack([torch.mv(held, key) for key in keys], dim=1)
        return kernel(near, self._sharpness)

    def read(self, fast: Named, key: Tensor) -> Tensor:
        """(code_width,) the read-out at a key."""
        return self.said(fast, self.closeness(fast, key))

    def said(self, fast: Named, near: Tensor) -> Tensor:
        """(code_width,) the read-out at the key of `near` (`closeness`)."""
        return torch.mv(fast["errors"][: len(near)].T, near)

    def place(self, fast: Named, key: Tensor, answer: int, rate: float) -> int:
        """Take a pair in, with no error yet; its row. There must be room (`oldest`)."""
        row = self.take(fast, answer, rate)
        self.put(fast, row, key)
        return row

    def put(self, fast: Named, row: int, key: Tensor) -> None:
        """Write the key of a pair that was taken in, with no error yet."""
        fast["keys"][row], fast["errors"][row] = key, 0.0

    def among(self, fast: Named, rows: Tensor, key: Tensor) -> tuple[Tensor, Tensor]:
        """(n, n) the inner products of the keys in `rows` with each other, and (n,) with another key."""
        keys = fast["keys"][rows]
        return torch.stack([torch.mv(keys, each) for each in keys]), torch.mv(keys, key)

    def write(self, fast: Named, rows: Sequence[int], values: Tensor, beside: Tensor | None) -> None:
        """Learn `values` (n, code_width) at the pairs in `rows`, together, and the first of them exactly.

        `beside` (n, code_width) is what other levels say there.
        """
        chosen = torch.tensor(rows)
        near = self.closeness(fast, fast["keys"][chosen])  # (used, n)
        held = fast["errors"][: len(near)].T
        said = torch.stack([torch.mv(held, one) for one in near.T.contiguous()])  # the bits of mm depend on the number of threads
        error = (said if beside is None else said + beside) - values  # as `model.hope.rules.DELTA`, whose package loads a language model
        gram = near[chosen]
        gram.diagonal()[1:].add_(1.0 / fast["rates"][chosen[1:], 0])
        fast["errors"][chosen] -= torch.linalg.solve(gram, error)

    def empty(self, fast: Named, rows: Sequence[int]) -> None:
        """The pairs in `rows`, the oldest, are now in another level."""
        self.leave(fast, rows)
        for name in ("keys", "errors"):
            fast[name][torch.tensor(rows)] = 0


def at_home(among: Tensor, near: Tensor, share: float) -> bool:
    """Whether a key is as near to one of some pairs as this share of them has another one.

    `among` (n, n): the inner products of their keys with each other, changed in place; `near` (n,): with the key.
    """
    return bool(near.max() >= torch.quantile(among.fill_diagonal_(-1.0).amax(1), share))
