"""Delta momentum: a momentum that makes room before it writes (hope.md §4.1; Nested Learning eq. 48–49, corrected).

    m ← a m − ε m ĝᵀĝ − η g            ĝ = g / ‖g‖_F            W ← W + m

Plain momentum adds a gradient to whatever the memory holds; the L2 objective ½‖m gᵀ + P‖² (here P = 1) first erases what the memory
holds along the gradient's own directions, so what it holds elsewhere lasts. Eq. 49 prints the g ᵀg term without a step size and with g
as it is, which is stable for ε ‖g‖₂² < 2 only; with ĝ every ε below 2 is. `erase` is that ε: by default the rate, 0 gives plain
momentum.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from model.optim.rule import Slots, as_matrix, exact, fresh, require, require_decay, require_rate


@dataclass(frozen=True, slots=True)
class DeltaMomentum:
    """m ← a m − ε m ĝᵀĝ − η g, W ← W + m. Matrices (…, out, in); a vector is one column. Slot: momentum, as the weight."""

    rate: float = 0.1
    decay: float = 0.9
    erase: float | None = None

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_decay("decay", self.decay)
        require(
            self.erase is None or 0.0 <= self.erase < 2.0, f"erase must be at least 0 and below 2, or None for the rate, not {self.erase}"
        )

    def slots(self, weight: Tensor) -> Slots:
        """An empty memory."""
        return {"momentum": fresh(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """The memory after erase and write is the change."""
        gradient, momentum = exact(gradient), slots["momentum"]
        kept = self.decay * momentum
        if self.erase != 0.0:
            erase = self.rate if self.erase is None else self.erase
            kept = kept - erase * along(as_matrix(momentum), as_matrix(gradient)).reshape(momentum.shape)
        momentum = kept - self.rate * gradient
        return momentum, {"momentum": momentum}


def along(memory: Tensor, gradient: Tensor) -> Tensor:
    """m ĝᵀĝ for (…, out, in): the part of the memory along the gradient's rows; zero for a gradient of zero."""
    norm: Tensor = torch.linalg.matrix_norm(gradient, keepdim=True)
    unit = gradient / norm.clamp_min(torch.finfo(gradient.dtype).tiny)
    wide = memory.shape[-2] <= memory.shape[-1]
    return (memory @ unit.mT) @ unit if wide else memory @ (unit.mT @ unit)
