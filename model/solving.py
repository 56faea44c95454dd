"""Large systems with a positive definite matrix, in half of its memory and in steps between which a thread may serve others.

Cholesky, by blocks. Of the matrix only the lower half is held, in panels: nothing else is read, and the factor takes its place. What a step
needs beside that is a column of blocks at most.
"""

import math
from collections.abc import Generator, Iterator
from itertools import accumulate

import torch
from torch import Tensor

from model.features import kernel
from model.steps import give_back

BLOCK = 1_024  # rows of a panel, and of a step's products


class Half:
    """The lower half of a symmetric matrix (n, n) of zeros: of each `BLOCK` rows the numbers up to their last one's diagonal."""

    def __init__(self, size: int, dtype: torch.dtype = torch.float32) -> None:
        give_back()  # before the most that is taken at once
        self.rows = [slice(begin, min(begin + BLOCK, size)) for begin in range(0, size, BLOCK)]
        forms = [(rows.stop - rows.start, rows.stop) for rows in self.rows]
        ends = list(accumulate(math.prod(form) for form in forms))
        whole = torch.zeros(ends[-1] if ends else 0, dtype=dtype)  # in one piece: given back as a whole afterwards
        self.panels = [whole[end - math.prod(form) : end].view(form) for form, end in zip(forms, ends, strict=True)]

    def __iter__(self) -> Iterator[tuple[slice, Tensor]]:
        """The rows of each panel, and the panel (rows, columns up to the last of these rows)."""
        return zip(self.rows, self.panels, strict=True)

    def add_to_diagonal(self, values: Tensor | float) -> None:
        """Add to each number of the diagonal its own of `values` (n,), or one to all."""
        for rows, panel in self:
            panel[:, rows].diagonal().add_(values[rows] if isinstance(values, Tensor) else values)


def kernels(keys: Tensor, sharpness: float) -> Generator[float, None, Half]:
    """The kernels of keys (n, key_width) with each other; yields the share that is done."""
    among = Half(len(keys))
    for rows, panel in among:
        kernel(torch.mm(keys[rows], keys[: rows.stop].T, out=panel), sharpness)
        yield rows.stop / len(keys)
    return among


def solve(matrix: Half, values: Tensor) -> Generator[float, None, None]:
    """Make `values` (n, m) the solution X of `matrix` (n, n) X = `values`, and overwrite the matrix; yields the share that is done.

    Raises:
        torch.linalg.LinAlgError: the matrix is not positive definite.
    """
    for done, (here, panel) in enumerate(matrix):
        own, below = panel[:, here], list(matrix)[done + 1 :]
        share, more = _share(done, len(matrix.rows)), _share(done + 1, len(matrix.rows)) - _share(done, len(matrix.rows))
        own.copy_(torch.linalg.cholesky(own))
        for _, lower in below:
            lower[:, here] = torch.linalg.solve_triangular(own.mT, lower[:, here], upper=True, left=False)
        for place, (_, lower) in enumerate(below, 1):
            for rows, other in below[:place]:
                lower[:, rows] -= lower[:, here] @ other[:, here].mT
            yield share + more * place / len(matrix.rows)
        values[here] = torch.linalg.solve_triangular(own, values[here], upper=False)
        for rows, lower in below:
            values[rows] -= lower[:, here] @ values[here]
        yield share + more
    for done, (here, panel) in reversed(list(enumerate(matrix))):
        if rest := matrix.panels[done + 1 :]:
            values[here] -= torch.cat([lower[:, here] for lower in rest]).mT @ values[here.stop :]
        values[here] = torch.linalg.solve_triangular(panel[:, here].mT, values[here], upper=True)


def _share(done: int, of: int) -> float:
    """How much of the work is done with so many blocks: the later ones have less to change."""
    return 1.0 - (1.0 - done / of) ** 3
