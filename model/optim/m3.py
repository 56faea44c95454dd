"""M3, multi-scale momentum Muon: a continuum memory inside an optimizer (hope.md §4.5; Nested Learning alg. 1, eq. 75).

A fast momentum changes at every step, a slow one every `period` steps from the gradients in between; both are orthogonalised and added.
As the algorithm is printed (`literal=True`):

    every step      M1 ← M1 + b1 g        V ← V + b2 g²        θ ← θ − η (NS(M1) + mix · O2) / (√V + ε)
    every period    M2 ← M2 + b3 Σ g      O2 = NS(M2)

Nothing decays there: M1 is the sum of all gradients ever and V makes the steps shrink as AdaGrad's do. The default form keeps the idea:

    every step      M1 ← b1 M1 + (1 − b1) g                θ ← θ − η · 0.2 √max(out, in) · (NS(M1) + mix · O2)
    every period    M2 ← b3 M2 + (1 − b3) mean g           O2 = NS(M2)

`v_mode="post"` also divides the default update by √V, V a bias-corrected average of g²; that undoes the orthogonality and ties the step
to the gradient's scale, so it is off. What is computed at the end of a period is first used one step later, in both forms. The paper
calls M3 a proof of concept, slower than Muon; its language models were trained with AdamW.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from model.optim.muon import update_scale
from model.optim.newton_schulz import Compute, newton_schulz
from model.optim.rule import Slots, counter, exact, filled, fresh, require, require_decay, require_matrix, require_rate, spread


@dataclass(frozen=True, slots=True)
class M3:
    """Two momenta of two time scales for matrices (…, out, in).

    Slots: fast, slow, window (gradients of the running period), direction (NS of slow), square (literal or post), as the weight; count (…).
    As an optimizer for matrices of a model only (`split_matrices`). `literal` ignores `v_mode` and `weight_decay`: the algorithm has V
    always and no decay.
    """

    whole_matrices: ClassVar[bool] = True
    rate: float = 1e-3
    fast_decay: float = 0.95
    slow_decay: float = 0.9
    square_decay: float = 0.95
    period: int = 100
    mix: float = 0.5
    v_mode: Literal["none", "post"] = "none"
    literal: bool = False
    weight_decay: float = 0.0
    steps: int = 5
    epsilon: float = 1e-8
    compute: Compute = "float32"

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_rate("mix", self.mix)
        require_rate("weight_decay", self.weight_decay)
        for name in ("fast_decay", "slow_decay", "square_decay"):
            require_decay(name, getattr(self, name))
        require(self.period >= 1, f"period is counted in steps and is at least 1, not {self.period}")
        require(self.steps >= 1, f"steps must be at least 1, not {self.steps}")
        require(self.v_mode in ("none", "post"), f"v_mode must be none or post, not {self.v_mode!r}")
        require(self.epsilon > 0, f"epsilon must be above 0, not {self.epsilon}")

    def slots(self, weight: Tensor) -> Slots:
        """Empty memories."""
        require_matrix("M3", weight)
        names = ["fast", "slow", "window", "direction"] + ["square"] * self._divides
        return {name: fresh(weight) for name in names} | {"count": counter(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """The change with the slow direction as it was before this step; then the slow memory of the rows whose period ends here."""
        gradient = exact(gradient)
        fast = self._mixed(self.fast_decay, slots["fast"], gradient)
        after = {"fast": fast, "count": slots["count"] + 1}
        update = self._orthogonal(fast) + self.mix * slots["direction"]
        if self._divides:
            after["square"] = self._mixed(self.square_decay, slots["square"], gradient.square())
            square = after["square"] if self.literal else after["square"] / filled(self.square_decay, after["count"], weight)
            update = update / (square.sqrt() + self.epsilon)
        after |= self._slow(slots, slots["window"] + gradient, spread(after["count"] % self.period == 0, weight))
        if self.literal:
            return -self.rate * update, after
        return -self.rate * (update_scale("rms", weight) * update + self.weight_decay * weight), after

    @property
    def _divides(self) -> bool:
        return self.literal or self.v_mode == "post"

    def _mixed(self, decay: float, memory: Tensor, new: Tensor) -> Tensor:
        """Printed: a sum weighted by `decay`, which then is no decay at all. Default: a moving average."""
        return memory + decay * new if self.literal else decay * memory + (1.0 - decay) * new

    def _orthogonal(self, matrix: Tensor) -> Tensor:
        return newton_schulz(matrix, self.steps, compute=self.compute)

    def _slow(self, slots: Slots, window: Tensor, due: Tensor) -> Slots:
        """The slow memory, its direction and the window (…, out, in) after a step; `due` (…, 1, 1) rows are at the end of a period."""
        if not bool(due.any()):
            return {"slow": slots["slow"], "direction": slots["direction"], "window": window}
        moved = self._mixed(self.slow_decay, slots["slow"], window if self.literal else window / self.period)
        return {
            "slow": torch.where(due, moved, slots["slow"]),
            "direction": torch.where(due, self._orthogonal(moved), slots["direction"]),
            "window": torch.where(due, torch.zeros_like(window), window),
        }
