"""The parts of a chunk that `model/hope/fused.py` is built of: each computes on creation and gives its inputs' gradients in `backward`.

Tokens are the last dimension: vectors (…, d, C), P = rows · heads. Matrices between tokens are (…, t, j), a later token t that meets an
earlier j. The gradient of the pairs γ_{t−1}/γ_j is handed on times the pairs, as the gradient of their logarithm.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

_TINY = 1e-12
_DENSITY = (2.0 * torch.pi) ** -0.5
_gelu_backward = torch.ops.aten.gelu_backward


class Unit:
    """y / ‖y‖ of vectors (…, d, C)."""

    def __init__(self, y: Tensor) -> None:
        self.inverse = torch.rsqrt(y.square().sum(-2, keepdim=True) + _TINY)
        self.value = y * self.inverse

    def backward(self, grad: Tensor) -> Tensor:
        """Gradient of y."""
        along = (grad * self.value).sum(-2, keepdim=True)
        return torch.addcmul(grad, self.value, along, value=-1.0).mul_(self.inverse)


class Gates:
    """Rates and retentions (P, C) from their logits, and what follows from them, as `chunk.schedule` has it."""

    def __init__(self, eta: Tensor, alpha: Tensor, rate_max: float, retention: bool, least: float) -> None:
        self.share, self.alpha, self.retention, self.least = torch.sigmoid(eta), alpha, retention, least
        self.rate = rate_max * self.share
        ones = eta.new_ones(eta.shape[-1], eta.shape[-1])
        self.until, self.before_it = ones.triu(), ones.triu(1)  # (s, t): s ≤ t, s < t
        self.raw = -torch.nn.functional.softplus(alpha) if retention else torch.zeros_like(alpha)
        logs = self.raw.clamp_min(least)
        to, since = logs @ self.before_it, logs @ self.until
        self.pairs = (to[..., :, None] - since[..., None, :]).masked_fill(self.until.bool(), -torch.inf).exp()
        self.before, self.last, self.kept = to.exp(), (since[..., -1:] - since).exp(), since[..., -1].exp()

    def backward(self, rate: Tensor, log_pairs: Tensor, before: Tensor, last: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        """Gradients of the logits of η and α."""
        eta = rate * self.rate * (1.0 - self.share)
        if not self.retention:
            return eta, torch.zeros_like(eta)
        ending = last * self.last
        to = log_pairs.sum(-1).addcmul_(before, self.before)
        since = -log_pairs.sum(-2) - ending
        since[..., -1] += ending.sum(-1) + kept * self.kept
        logs = to @ self.before_it.mT + since @ self.until.mT
        return eta, -torch.sigmoid(self.alpha) * logs * (self.raw >= self.least)


@dataclass(frozen=True, slots=True)
class MixingGradients:
    """Of x, and of the rate (…, C), the logarithm of the pairs (…, C, C) and `last` (…, C), still per memory."""

    x: Tensor
    rate: Tensor
    logs: Tensor
    last: Tensor


class Mixing:
    """`to` (…, t, j) = −(I + L)⁻¹ diag(η): writes are N = X toᵀ. `until`: the same, as much as is left of it at the chunk's end.

    x (…, d, C) are the layer's inputs; with `proximal` the rates are corrected for their lengths. gates of (P, …) serve inputs (P, R, …).
    """

    def __init__(self, x: Tensor, gates: Gates, *, proximal: bool) -> None:
        self.x, self.proximal = x, proximal
        self.gram = x.mT @ x
        spread = (slice(None), None) if proximal else (slice(None),)
        rate, self.pairs, self.last = gates.rate[spread], gates.pairs[spread], gates.last[spread]
        self.shrunk = 1.0 / (1.0 + rate * self.gram.diagonal(dim1=-2, dim2=-1)) if proximal else None
        self.rate = rate if self.shrunk is None else rate * self.shrunk
        self.scale = self.rate[..., :, None] * self.pairs
        eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand_as(self.gram)
        self.inverse = torch.linalg.solve_triangular(self.scale * self.gram, eye, upper=False, unitriangular=True)
        self.to = self.inverse * -self.rate[..., None, :]
        self.until = self.last[..., :, None] * self.to

    def backward(self, to: Tensor | None, until: Tensor) -> MixingGradients:
        """From the gradients of `to` (None: it was not used) and `until`."""
        last = (until * self.to).sum(-1)
        total = until * self.last[..., :, None]
        if to is not None:
            total += to
        rate = -(total * self.inverse).sum(-2)
        total *= self.rate[..., None, :]
        lower = self.inverse.mT @ total @ self.inverse.mT
        gram = lower * self.scale
        logs = gram * self.gram
        rate += (lower.mul_(self.pairs).mul_(self.gram)).sum(-1)
        if self.shrunk is not None:
            gram.diagonal(dim1=-2, dim2=-1).addcmul_(rate, self.rate.square(), value=-1.0)
            rate *= self.shrunk.square()
        return MixingGradients(self.x @ (gram + gram.mT), rate, logs, last)


@dataclass(frozen=True, slots=True)
class RunningGradients:
    """Of what `Running` was given; `logs` of the logarithm of the pairs, `before` of γ_{t−1} (P, C)."""

    probe: Tensor
    fast: Tensor
    writes: Tensor
    to: Tensor
    keys: Tensor
    logs: Tensor
    before: Tensor


class Running:
    """What a layer adds to W probe (P, out, C) if each token reads it as it was before the token: (γ − 1) D probe + Σ_j writes."""

    def __init__(self, probe: Tensor, fast: Tensor, writes: Tensor, to: Tensor, keys: Tensor, gates: Gates) -> None:
        self.probe, self.fast, self.writes, self.to, self.keys, self.pairs = probe, fast, writes, to, keys, gates.pairs
        self.less = gates.before[:, None] - 1.0
        self.slow = fast @ probe
        self.near = (probe.mT @ keys).mul_(gates.pairs)
        self.mixed = self.near @ to
        self.value = (self.less * self.slow).baddbmm_(writes, self.mixed.mT)

    def backward(self, grad: Tensor) -> RunningGradients:
        """From the gradient of `value`."""
        slow = grad * self.less
        mixed = grad.mT @ self.writes
        near = mixed @ self.to.mT
        logs = near * self.near
        near *= self.pairs
        probe = (self.keys @ near.mT).baddbmm_(self.fast.mT, slow)
        fast, writes, to, keys = slow @ self.probe.mT, grad @ self.mixed, self.near.mT @ mixed, self.probe @ near
        return RunningGradients(probe, fast, writes, to, keys, logs, (grad * self.slow).sum(-2))


def curved(grad_slope: Sequence[Tensor], z: Tensor) -> Tensor:
    """∏ grad_slope · φ(z) (2 − z²): what the derivative of gelu gives back for z (…)."""
    square = z.square()
    density = torch.exp(square * -0.5)
    curve = density.mul_(square.sub_(2.0))
    for factor in grad_slope:
        curve.mul_(factor)
    return curve.mul_(-_DENSITY)
