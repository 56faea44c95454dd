"""A whole chunk of writes at once: the chunk-parallel form of `model/hope/rules.py`, equal to it (hope.md §2.5, Nested Learning §8.2).

Inside a chunk inputs x_t and errors d_t are known, so W_t is linear in them. With γ the cumulative retention, G_tj = γ_t/γ_j, and
n_t = −η_t W_{t−1} x_t the vector that the erase of token t writes,

    W_t = γ_t W + c_t S + Σ_{j≤t} (G_tj n_j − m_tj η_j d_j) x_jᵀ

    m_tj = Σ_{j≤s≤t} G_ts b_s/b_j,   c_t = Σ_{s≤t} G_ts b_s        b the cumulative momentum decay; without momentum m = G, c = 0

and putting W_{t−1} x_t back into n_t gives one unit lower triangular system per chunk, C × C. Ratios are differences of logarithms: nothing
is divided by a product that may underflow. Cost per chunk and layer: C²(in + out) and 2C·in·out; no tensor of the weights' size per token.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Schedule:
    """What the tokens of a chunk do to old writes, shared by all layers: rate (…, C), and what `schedule` derives from α and β."""

    rate: Tensor  # (…, C) η_t
    kept: Tensor  # (…, C) γ_t
    kept_before: Tensor  # (…, C) γ_{t−1}
    pairs: Tensor  # (…, C, C) γ_{t−1}/γ_j for j < t, else 0
    last: Tensor  # (…, C) γ_C/γ_j
    momentum: "Momentum | None" = None


@dataclass(frozen=True, slots=True)
class Momentum:
    """The same for writes that pass through the momentum (shapes as in `Schedule`)."""

    start_before: Tensor  # (…, C) c_{t−1}
    pairs: Tensor  # (…, C, C) m_{t−1,j} for j < t, else 0
    last: Tensor  # (…, C) m_{C,j}
    start_last: Tensor  # (…) c_C
    decay_last: Tensor  # (…, C) b_C/b_j
    decay_all: Tensor  # (…) b_C


@dataclass(frozen=True, slots=True)
class Written:
    """One layer after a chunk: final weight and momentum (…, out, in), and what token reads need."""

    weight: Tensor
    momentum: Tensor | None
    reads: "Reads"


@dataclass(frozen=True, slots=True)
class Reads:
    """The running weight before each token, in factors."""

    weight: Tensor  # (…, out, in) at the chunk's start
    momentum: Tensor | None
    x: Tensor  # (…, C, in)
    erased: Tensor  # (…, C, out) what goes with G; without momentum the whole write
    gained: Tensor | None  # (…, C, out) what goes with m: −η d

    def of_last_role(self) -> "Reads":
        """The same for the last memory alone, where the dimensions are (B, roles, H, …)."""
        momentum, gained = self.momentum, self.gained
        return Reads(
            self.weight[:, -1:],
            None if momentum is None else momentum[:, -1:],
            self.x[:, -1:],
            self.erased[:, -1:],
            None if gained is None else gained[:, -1:],
        )

    def at(self, schedule: Schedule, probes: Tensor) -> Tensor:
        """(…, C, out) W_{t−1} p_t for probes (…, C, in): each token reads what the tokens before it wrote."""
        near = probes @ self.x.mT
        read = schedule.kept_before[..., None] * (probes @ self.weight.mT) + (schedule.pairs * near) @ self.erased
        if schedule.momentum is None or self.momentum is None or self.gained is None:
            return read
        inertia = schedule.momentum
        return read + inertia.start_before[..., None] * (probes @ self.momentum.mT) + (inertia.pairs * near) @ self.gained


def schedule(rate: Tensor, log_retention: Tensor, log_decay: Tensor | None = None) -> Schedule:
    """The schedule of a chunk from η, log α and log β, each (…, C)."""
    la = log_retention.cumsum(-1)
    before = la - log_retention
    size = rate.shape[-1]
    ones = torch.ones(size, size, dtype=torch.bool, device=rate.device)
    earlier = ones.tril(-1)
    pairs = _ratios(before, la, earlier)
    momentum = None if log_decay is None else _momentum(la, log_decay, ones.tril())
    return Schedule(rate, la.exp(), before.exp(), pairs, (la[..., -1:] - la).exp(), momentum)


def with_rate(schedule: Schedule, rate: Tensor) -> Schedule:
    """The same chunk with another rate (…, C)."""
    return Schedule(rate, schedule.kept, schedule.kept_before, schedule.pairs, schedule.last, schedule.momentum)


def write_chunk(schedule: Schedule, weight: Tensor, momentum: Tensor | None, x: Tensor, error: Tensor, *, erase: bool | Tensor) -> Written:
    """All writes of a chunk to one layer: weight and momentum (…, out, in), x (…, C, in), error (…, C, out).

    `erase` as a tensor (…, 1) says it for each memory: 1 or 0.
    """
    gained = -schedule.rate[..., None] * error
    if isinstance(erase, Tensor):
        schedule, erase = with_rate(schedule, schedule.rate * erase), True
    inertia = schedule.momentum
    if inertia is None or momentum is None:
        erased = _written(schedule, weight, x, gained) if erase else gained
        final = schedule.kept[..., -1, None, None] * weight + erased.mT @ (schedule.last[..., None] * x)
        return Written(final, None, Reads(weight, None, x, erased, None))
    erased = _erased(schedule, weight, momentum, x, gained) if erase else torch.zeros_like(gained)
    total = schedule.last[..., None] * erased + inertia.last[..., None] * gained
    final = schedule.kept[..., -1, None, None] * weight + inertia.start_last[..., None, None] * momentum + total.mT @ x
    after = inertia.decay_all[..., None, None] * momentum + (inertia.decay_last[..., None] * gained).mT @ x
    return Written(final, after, Reads(weight, momentum, x, erased, gained))


def _written(schedule: Schedule, weight: Tensor, x: Tensor, gained: Tensor) -> Tensor:
    """(…, C, out) n_t − η_t d_t without momentum: (I + L) N = −η γ_{t−1} W x + gained."""
    seen = schedule.kept_before[..., None] * (x @ weight.mT)
    return _solve(schedule, x, gained - schedule.rate[..., None] * seen)


def _erased(schedule: Schedule, weight: Tensor, momentum: Tensor, x: Tensor, gained: Tensor) -> Tensor:
    """(…, C, out) n_t with momentum: (I + L) n = −η (γ_{t−1} W x + c_{t−1} S x + Σ_{j<t} m_{t−1,j} ⟨x_j, x_t⟩ gained_j)."""
    inertia = schedule.momentum
    assert inertia is not None
    seen = schedule.kept_before[..., None] * (x @ weight.mT) + inertia.start_before[..., None] * (x @ momentum.mT)
    seen = seen + (inertia.pairs * (x @ x.mT)) @ gained
    return _solve(schedule, x, -schedule.rate[..., None] * seen)


def _solve(schedule: Schedule, x: Tensor, right: Tensor) -> Tensor:
    return solve_unit_lower(schedule.rate[..., None] * schedule.pairs * (x @ x.mT), right)


def solve_unit_lower(lower: Tensor, right: Tensor) -> Tensor:
    """(I + lower)⁻¹ right for a strictly lower triangular `lower` (…, C, C) and right (…, C, n), leading dimensions broadcast."""
    solved: Tensor = torch.linalg.solve_triangular(lower, right, upper=False, unitriangular=True)  # the diagonal is taken as 1, unread
    return solved


def _ratios(to: Tensor, since: Tensor, mask: Tensor) -> Tensor:
    """(…, C, C) exp(to_t − since_j) where `mask`, else 0; masked before the exponential, which could overflow there."""
    return (to[..., :, None] - since[..., None, :]).masked_fill(~mask, -torch.inf).exp()


def _momentum(la: Tensor, log_decay: Tensor, until: Tensor) -> Momentum:
    lb = log_decay.cumsum(-1)
    kept = _ratios(la, la, until)
    through = kept @ _ratios(lb, lb, until)  # m_tj
    start = (kept @ lb.exp()[..., None])[..., 0]  # c_t
    shifted = torch.nn.functional.pad(through, (0, 0, 1, 0))[..., :-1, :]
    start_before = torch.nn.functional.pad(start, (1, 0))[..., :-1]
    return Momentum(start_before, shifted, through[..., -1, :], start[..., -1], (lb[..., -1:] - lb).exp(), lb[..., -1].exp())
