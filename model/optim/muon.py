"""Muon: momentum whose update is orthogonalised (hope.md §4.4; Nested Learning eq. 43–44, 52 with a linear memory and s = Newton–Schulz).

m ← a m + (1 − a) g            u = (1 − a) g + a m  (Nesterov) or m            W ← W − η (scale · NS(u) + weight_decay · W)
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from torch import Tensor

from model.optim.newton_schulz import Compute, newton_schulz
from model.optim.rule import Slots, exact, fresh, require, require_decay, require_matrix, require_rate

Scale = Literal["shape", "rms", "none"]


def update_scale(kind: Scale, weight: Tensor) -> float:
    """What an orthogonal update of (…, out, in) is multiplied with.

    shape: √max(1, out / in), Muon's own. rms: 0.2 √max(out, in), the size of an AdamW update, so AdamW's rates carry over. none: 1.
    """
    rows, columns = weight.shape[-2:]
    scales: dict[str, float] = {"shape": max(1.0, rows / columns) ** 0.5, "rms": 0.2 * max(rows, columns) ** 0.5, "none": 1.0}
    require(kind in scales, f"scale must be one of {', '.join(scales)}, not {kind!r}")
    return scales[kind]


@dataclass(frozen=True, slots=True)
class Muon:
    """Orthogonalised momentum for matrices (…, out, in). Slot: momentum, as the weight.

    As an optimizer for matrices of a model only; embeddings, heads, norms and biases go to AdamW (`split_matrices`).
    """

    whole_matrices: ClassVar[bool] = True
    rate: float = 0.02
    decay: float = 0.95
    nesterov: bool = True
    weight_decay: float = 0.0
    scale: Scale = "shape"
    steps: int = 5
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_rate("weight_decay", self.weight_decay)
        require_decay("decay", self.decay)
        require(self.steps >= 1, f"steps must be at least 1, not {self.steps}")

    def slots(self, weight: Tensor) -> Slots:
        """An empty memory."""
        require_matrix("Muon", weight)
        return {"momentum": fresh(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """−η (scale · NS(u) + weight_decay · W)."""
        gradient = exact(gradient)
        momentum = self.decay * slots["momentum"] + (1.0 - self.decay) * gradient
        update = self.decay * momentum + (1.0 - self.decay) * gradient if self.nesterov else momentum
        direction = update_scale(self.scale, weight) * newton_schulz(update, self.steps, compute=self.compute)
        return -self.rate * (direction + self.weight_decay * weight), {"momentum": momentum}
