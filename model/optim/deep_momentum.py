"""Deep momentum gradient descent, DMGD: the momentum is a network that maps gradients (hope.md §4.1; Nested Learning eq. 50–52).

    φ ← a φ − η ∇_φ L(φ; g)            W ← W + rate · s( m_φ(g) )

The objective is momentum's own, min ⟨m(g), 1⟩, written for a map: row r of the gradient g (out, in) is a key in R^in, its value is the r-th
unit vector of R^out, L(φ; g) = Σ_r m_φ(g_r)_r. What the weight receives is ∇_g L, row by row, at the memory after its write. So

- the linear memory m(k) = M k has ∇_M L = g and ∇_g L = M: it *is* plain momentum, and with s = Newton–Schulz it is Muon;
- the memory m(k) = B relu(A k) recalls by the present gradient. It is homogeneous: ⟨∇_g L, g⟩ = L, what the inner steps make small is the
  slope of the weight's step along its own gradient, and a c times larger gradient gives c times the step, as with momentum.

A starts at [I; −I] and B at 0: the first step equals plain momentum's, and the memory begins as two momenta, of the positive and of the
negative parts of each entry. The paper leaves open how a map of gradients is read out as a step, its start, and the size of the inner
step; literal decay towards zero would erase A within a few steps, so A decays towards its start.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from model.optim.newton_schulz import newton_schulz
from model.optim.rule import Slots, as_matrix, exact, fresh, require, require_decay, require_matrix, require_rate, slot_type


@dataclass(frozen=True, slots=True)
class DeepMomentum:
    """DMGD for matrices (…, out, in); a vector is one column. Costs of `mlp`: four products of 2 · out · in², slots of 2 · in · (out + in).

    rate: step of the weight. decay, inner: a and η of the memory (of M, of B). turn: relative step of A, whose gradient is scaled to length
    `turn` · ‖A₀‖ so that A stays within turn / (1 − decay) of its start. output: s, identity or newton_schulz.

    Slots: momentum (…, out, in), or values B (…, out, 2 in) and turned A − A₀ (…, 2 in, in).
    """

    rate: float = 0.1
    decay: float = 0.9
    memory: Literal["linear", "mlp"] = "mlp"
    inner: float = 1.0
    turn: float = 0.02
    output: Literal["identity", "newton_schulz"] = "identity"

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_rate("inner", self.inner)
        require_rate("turn", self.turn)
        require_decay("decay", self.decay)
        require(self.memory in ("linear", "mlp"), f"memory must be linear or mlp, not {self.memory!r}")
        require(self.output in ("identity", "newton_schulz"), f"output must be identity or newton_schulz, not {self.output!r}")

    def slots(self, weight: Tensor) -> Slots:
        """A memory that has seen no gradient."""
        if self.output == "newton_schulz":
            require_matrix("DeepMomentum with output newton_schulz", weight)
        if self.memory == "linear":
            return {"momentum": fresh(weight)}
        *rows, outputs, inputs = as_matrix(weight).shape
        shapes = {"values": (*rows, outputs, 2 * inputs), "turned": (*rows, 2 * inputs, inputs)}
        return {name: torch.zeros(shape, dtype=slot_type(weight), device=weight.device) for name, shape in shapes.items()}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """One inner step of the memory on this gradient, then what it recalls for it."""
        gradient = exact(gradient)
        if self.memory == "linear":
            recalled = self.decay * slots["momentum"] - self.inner * gradient
            after = {"momentum": recalled}
        else:
            after = self._learned(as_matrix(gradient), slots)
            recalled = recall(as_matrix(gradient), after["values"], after["turned"]).reshape(gradient.shape)
        if self.output == "newton_schulz":
            recalled = newton_schulz(recalled)
        return self.rate * recalled, after

    def _learned(self, gradient: Tensor, slots: Slots) -> Slots:
        """φ ← a φ − η ∇L for B, and for A at a bounded length; both gradients are taken at the memory before the step."""
        values, turned = slots["values"], slots["turned"]
        hidden = gradient @ (start(turned) + turned).mT  # (…, out, 2 in)
        slope = (values * (hidden > 0)).mT @ gradient  # ∇_A L (…, 2 in, in)
        length = torch.linalg.matrix_norm(slope, keepdim=True).clamp_min(torch.finfo(slope.dtype).tiny)
        bound = self.turn * (2.0 * gradient.shape[-1]) ** 0.5
        return {
            "values": self.decay * values - self.inner * hidden.clamp_min(0.0),
            "turned": self.decay * turned - bound * slope / length,
        }


def start(turned: Tensor) -> Tensor:
    """A₀ = [I; −I] (2 in, in): relu(A₀ k) holds the positive and the negative part of each entry of a key."""
    eye = torch.eye(turned.shape[-1], dtype=turned.dtype, device=turned.device)
    return torch.cat([eye, -eye])


def recall(gradient: Tensor, values: Tensor, turned: Tensor) -> Tensor:
    """∇_g Σ_r m(g_r)_r for g (…, out, in): row r is Aᵀ (B_r ⊙ relu'(A g_r))."""
    keys = start(turned) + turned
    return (values * (gradient @ keys.mT > 0)) @ keys
