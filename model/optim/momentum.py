"""Gradient descent and momentum as memories of gradients (hope.md §4.1; Nested Learning eq. 10–13, 33–37, 47, 51).

Momentum is itself trained by gradient descent, on a memory without values: the dot-product objective min_m ⟨m, g⟩ with an L2 penalty,

    m ← m − η ∇⟨m, g⟩ − (1 − a) m = a m − η g            W ← W + m

so SGD with momentum is a nested system of two levels. With a = 0.9 the last 6 gradients are half of that memory, the last 43 are 99 % of
it: it cannot remember an old task. The variants here change what is stored: P g for a preconditioner P, or P ψ(g) for a feature map ψ.
The rate is inside the memory, as in the paper; at a constant rate that is torch.optim.SGD.
"""

from dataclasses import dataclass

from torch import Tensor

from model.optim.rule import Slots, exact, fresh, require, require_decay, require_rate


def memory_objective(memory: Tensor, gradient: Tensor) -> Tensor:
    """⟨m, g⟩ per row: what momentum minimises; memory and gradient (…, out, in)."""
    return (memory * gradient).sum((-2, -1))


@dataclass(frozen=True, slots=True)
class Sgd:
    """W ← W − η g: one level, no memory [eq. 1]. Any shape."""

    rate: float = 0.1

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)

    def slots(self, weight: Tensor) -> Slots:
        """None."""
        return {}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """−η g."""
        return -self.rate * exact(gradient), {}


@dataclass(frozen=True, slots=True)
class Momentum:
    """m ← a m − η g, W ← W + m [eq. 10–13, 33]. Any shape. Slot: momentum, as the weight."""

    rate: float = 0.1
    decay: float = 0.9

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_decay("decay", self.decay)

    def slots(self, weight: Tensor) -> Slots:
        """An empty memory."""
        return {"momentum": fresh(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """The memory after the write is the change."""
        momentum = self.decay * slots["momentum"] - self.rate * exact(gradient)
        return momentum, {"momentum": momentum}


@dataclass(frozen=True, slots=True)
class PreconditionedMomentum:
    """m ← a m − η P g, W ← W + m [eq. 47], with the diagonal P = 1 / (√v + ε), v an average of g² over about 1 / (1 − square_decay) steps.

    With v started at zero and not corrected for it, as here, this is RMSprop with momentum. Any shape. Slots: momentum, square.
    """

    rate: float = 0.01
    decay: float = 0.9
    square_decay: float = 0.99
    epsilon: float = 1e-8

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_decay("decay", self.decay)
        require_decay("square_decay", self.square_decay)
        require(self.epsilon > 0, f"epsilon must be above 0, not {self.epsilon}")

    def slots(self, weight: Tensor) -> Slots:
        """An empty memory and an empty curvature."""
        return {"momentum": fresh(weight), "square": fresh(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """Stores the gradient in units of its own size."""
        gradient = exact(gradient)
        square = self.square_decay * slots["square"] + (1.0 - self.square_decay) * gradient.square()
        momentum = self.decay * slots["momentum"] - self.rate * gradient / (square.sqrt() + self.epsilon)
        return momentum, {"momentum": momentum, "square": square}


@dataclass(frozen=True, slots=True)
class HigherOrderMomentum:
    """m ← a m − η ψ(g), W ← W + m [eq. 51] with the element-wise odd key ψ(g) = sign(g) |g|^power.

    power 1 is plain momentum, 0 stores signs, 3 lets rare large gradients outlast many small ones. The paper leaves ψ open. Any shape.
    """

    rate: float = 0.1
    decay: float = 0.9
    power: float = 1.0

    def __post_init__(self) -> None:
        require_rate("rate", self.rate)
        require_decay("decay", self.decay)
        require(self.power >= 0, f"power must be at least 0, not {self.power}")

    def slots(self, weight: Tensor) -> Slots:
        """An empty memory."""
        return {"momentum": fresh(weight)}

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """The memory after the write is the change."""
        gradient = exact(gradient)
        momentum = self.decay * slots["momentum"] - self.rate * gradient.sign() * gradient.abs().pow(self.power)
        return momentum, {"momentum": momentum}
