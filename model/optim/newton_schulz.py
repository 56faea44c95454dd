"""Newton–Schulz: the nearest orthogonal matrix by matrix products only (hope.md §4.4; Nested Learning eq. 43–44; Muon).

    cubic      X ← 1.5 X − 0.5 X Xᵀ X                         from X = G / ‖G‖_F
    quintic    X ← a X + (b X Xᵀ + c (X Xᵀ)²) X               (a, b, c) = (3.4445, −4.7750, 2.0315)

Both keep the singular vectors and push every singular value towards 1. The cubic form is gradient descent on ‖XᵀX − I‖_F² with step 1/8
and converges to 1, slowly (10 steps); the quintic is steep at 0 and stays within about [0.7, 1.2] after 5 steps. It is the default. Where a
matrix has more rows than columns the work is done on its transpose, so the square products are of the smaller side.
"""

from typing import Literal

import torch
from torch import Tensor

from model.optim.rule import require, require_matrix

Form = Literal["quintic", "cubic"]
Compute = Literal["float32", "bfloat16"]

QUINTIC = (3.4445, -4.7750, 2.0315)


def newton_schulz(matrix: Tensor, steps: int = 5, form: Form = "quintic", compute: Compute = "float32") -> Tensor:
    """Orthogonalise each matrix of (…, out, in); the result has the input's shape and dtype.

    Computes in float32 (float64 for a float64 input), or with `compute="bfloat16"` in bfloat16 after an exact normalisation. The scale of a
    matrix does not matter, however small or large; a matrix of zeros stays zero.

    Raises:
        ValueError: not a matrix, no steps, an unknown form or precision.
    """
    require_matrix("Newton–Schulz", matrix)
    require(steps >= 1, f"steps must be at least 1, not {steps}")
    require(form in ("quintic", "cubic"), f"form must be quintic or cubic, not {form!r}")
    require(compute in ("float32", "bfloat16"), f"compute must be float32 or bfloat16, not {compute!r}")
    x = normalized(matrix.to(torch.promote_types(matrix.dtype, torch.float32)))
    if compute == "bfloat16":
        x = x.bfloat16()
    tall = matrix.shape[-2] > matrix.shape[-1]
    x = x.mT if tall else x  # (…, small, large)
    for _ in range(steps):
        x = quintic_step(x) if form == "quintic" else 1.5 * x - 0.5 * (x @ x.mT) @ x
    return (x.mT if tall else x).to(matrix.dtype)


def normalized(matrix: Tensor) -> Tensor:
    """Each matrix of (…, out, in) at Frobenius norm 1. Divides by the largest entry first, so that no square under- or overflows."""
    tiny = torch.finfo(matrix.dtype).tiny
    even = matrix / matrix.abs().amax((-2, -1), keepdim=True).clamp_min(tiny)
    norm: Tensor = torch.linalg.matrix_norm(even, keepdim=True)
    return even / norm.clamp_min(tiny)


def quintic_step(x: Tensor) -> Tensor:
    """One step for x (…, small, large)."""
    a, b, c = QUINTIC
    square = x @ x.mT
    return a * x + (b * square + c * square @ square) @ x
