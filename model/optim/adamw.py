"""AdamW as a pure rule: the optimizer that all HOPE language models of the paper were trained with (hope.md §4.1, §4.5), for any level.

    m ← b1 m + (1 − b1) g        v ← b2 v + (1 − b2) g²        W ← W − η (m̂ / (√v̂ + ε) + weight_decay · W)

Adam is the element-wise memory of first and second moments: min_m Σ ‖m ⊙ g − √Σg²‖² + λ‖m‖² (Nested Learning app. B).
"""

from dataclasses import dataclass

from torch import Tensor

from model.optim.rule import Slots, counter, exact, filled, fresh, require, require_decay, require_rate


@dataclass(frozen=True, slots=True)
class AdamW:
    """Adam with decoupled weight decay. Any shape.

    Equal to torch.optim.AdamW; every row counts its own steps. Slots: first, second (as the weight), count (…).
    """

    rate: float = 1e-3
    first_decay: float = 0.9
    second_decay: float = 0.999
    epsilon: float = 1e-8
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_rate("weight_decay", self.weight_decay)
        require_decay("first_decay", self.first_decay)
        require_decay("second_decay", self.second_decay)
        require(self.epsilon > 0, f"epsilon must be above 0, not {self.epsilon}")

    def slots(self, weight: Tensor) -> Slots:
        """Moments of nothing."""
        return {"first": fresh(weight), "second": fresh(weight), "count": counter(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """−η (m̂ / (√v̂ + ε) + weight_decay · W), m̂ and v̂ corrected for their start at zero."""
        gradient = exact(gradient)
        first = self.first_decay * slots["first"] + (1.0 - self.first_decay) * gradient
        second = self.second_decay * slots["second"] + (1.0 - self.second_decay) * gradient.square()
        count = slots["count"] + 1
        root = (second / filled(self.second_decay, count, weight)).sqrt() + self.epsilon
        change = -self.rate * (first / filled(self.first_decay, count, weight) / root + self.weight_decay * weight)
        return change, {"first": first, "second": second, "count": count}
