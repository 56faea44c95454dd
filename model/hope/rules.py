"""How an associative memory learns one pair: objective, retention and the write, token by token (Nested Learning §4, eq. 56–57, 86–93).

A memory is a stack of linear layers. For each layer a write needs only the layer's input x and the error d at its output:

    S_t = β_t S_{t−1} − η_t d_t x_tᵀ                              momentum; β = 0: plain gradient descent
    W_t = W_{t−1} (α_t I − η_t x_t x_tᵀ) + S_t                    with erase (delta gradient descent, DGD)
    W_t = α_t W_{t−1} + S_t                                      without

| rule    | objective    | error at the output | erase |
| hebbian | dot product  | −v̂                  | no    |
| delta   | ½‖M(k) − v̂‖² | M(k) − v̂            | no    |
| dgd     | ½‖M(k) − v̂‖² | M(k) − v̂            | yes   |

The dot product with erase is the gated delta rule (hope.md T8). The paper prints the dot-product write with a minus (eq. 92); the gradient
of −⟨Mk, v̂⟩ is −v̂kᵀ, so it is a plus, as here. `model/hope/chunk.py` computes the same for a chunk of tokens at once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

Objective = Literal["l2", "dot"]


@dataclass(frozen=True, slots=True)
class Rule:
    """What is minimised, whether a write erases along its key first, and whether writes have momentum (Titans' S)."""

    objective: Objective = "l2"
    erase: bool = True
    momentum: bool = False

    @property
    def regresses(self) -> bool:
        """Whether the error is what the memory said less the target; else it is the target alone."""
        return self.objective == "l2"

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        """Gradient of the objective at the memory's output, for a constant target; any equal shapes."""
        return prediction - target if self.regresses else -target


HEBBIAN = Rule("dot", erase=False)
DELTA = Rule("l2", erase=False)
DGD = Rule("l2", erase=True)
NAMED: Mapping[str, Rule] = {"hebbian": HEBBIAN, "delta": DELTA, "dgd": DGD}


@dataclass(frozen=True, slots=True)
class HeadRules:
    """A rule for each head, without momentum: heads that count (hebbian) beside heads that replace what they held (dgd)."""

    heads: tuple[Rule, ...]

    def error(self, prediction: Tensor, target: Tensor) -> Tensor:
        """As `Rule.error`, (…, H, C, out)."""
        regress = prediction.new_tensor([rule.regresses for rule in self.heads])
        return regress[:, None, None] * prediction - target

    def erase(self, like: Tensor) -> Tensor:
        """(H, 1): 1 for a head whose writes erase first, else 0."""
        return like.new_tensor([rule.erase for rule in self.heads])[:, None]


def proximal_rate(rate: Tensor, squared_norm: Tensor) -> Tensor:
    """η' = η / (1 + η‖x‖²): the exact step of DGD for an input of any length (Sherman–Morrison; eq. 57 has it for ‖x‖ = 1 only).

    With it η'‖x‖² < 1, so an erase never overshoots.
    """
    return rate / (1.0 + rate * squared_norm)


def write(
    weight: Tensor,
    momentum: Tensor | None,
    x: Tensor,
    error: Tensor,
    *,
    rate: Tensor,
    retention: Tensor,
    decay: Tensor | None,
    erase: bool,
) -> tuple[Tensor, Tensor | None]:
    """One token, as printed above: weight and momentum (…, out, in), x (…, in), error (…, out), rate, retention, decay (…)."""
    scaled = rate[..., None, None]
    change = -scaled * error[..., :, None] * x[..., None, :]
    if momentum is not None and decay is not None:
        change = momentum = decay[..., None, None] * momentum + change
    kept = retention[..., None, None] * weight
    if erase:
        kept = kept - scaled * (weight @ x[..., :, None]) * x[..., None, :]
    return kept + change, momentum
