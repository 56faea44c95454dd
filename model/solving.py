"""Large systems with a positive definite matrix, in place and in steps between which a thread may serve others (Cholesky, by blocks)."""

from collections.abc import Generator

import torch
from torch import Tensor

BLOCK = 1_024  # rows of a step's products


def solve(matrix: Tensor, values: Tensor) -> Generator[float, None, None]:
    """Make `values` (n, m) the solution X of `matrix` (n, n) X = `values`, and overwrite the matrix; yields the share that is done.

    Raises:
        torch.linalg.LinAlgError: the matrix is not positive definite.
    """
    size = len(matrix)
    starts = list(range(0, size, BLOCK))
    for done, begin in enumerate(starts):
        here, rest = slice(begin, begin + BLOCK), slice(begin + BLOCK, size)
        matrix[here, here] = torch.linalg.cholesky(matrix[here, here])
        matrix[rest, here] = torch.linalg.solve_triangular(matrix[here, here].mT, matrix[rest, here], upper=True, left=False)
        share, more = _share(done, len(starts)), _share(done + 1, len(starts)) - _share(done, len(starts))
        for place, low in enumerate(starts[done + 1 :]):
            rows = slice(low, low + BLOCK)
            matrix[rows, begin + BLOCK : low + BLOCK] -= matrix[rows, here] @ matrix[begin + BLOCK : low + BLOCK, here].mT
            yield share + more * (place + 1) / len(starts)
        values[here] = torch.linalg.solve_triangular(matrix[here, here], values[here], upper=False)
        values[rest] -= matrix[rest, here] @ values[here]
        yield share + more
    for begin in reversed(starts):
        here, rest = slice(begin, begin + BLOCK), slice(begin + BLOCK, size)
        values[here] -= matrix[rest, here].mT @ values[rest]
        values[here] = torch.linalg.solve_triangular(matrix[here, here].mT, values[here], upper=True)


def _share(done: int, of: int) -> float:
    """How much of the work is done with so many blocks: the later ones have less to change."""
    return 1.0 - (1.0 - done / of) ** 3
