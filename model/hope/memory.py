"""Associative memories: maps from keys to values whose weights are given, not owned (Nested Learning def. 1, eq. 89).

    linear         M(z) = W z
    residual MLP   M(z) = z + B act(A z)         two layers, no bias, no projection on the skip

Weights are dicts of tensors (…, out, in); the leading dimensions (sequence, role, head) are the caller's. A memory can be read, and it
can say what a write would need: for every layer its input and the error at its output, both at the weights given. There is no autograd
inside: the gradient of a layer is error ⊗ input, so a write needs no tensor of the size of the weights per token, and the outer
gradient flows through everything, the self-generated target included (hope.md §2.3).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from model.hope.rules import HeadRules, Rule

Weights = dict[str, Tensor]
Layer = Callable[[str, Tensor], Tensor]  # the name of a layer and its input (…, n, in) → its output (…, n, out)


def layers_of(weights: Weights) -> Layer:
    """The layers with these weights (…, out, in)."""
    return lambda name, x: x @ weights[name].mT


@dataclass(frozen=True, slots=True)
class LayerWrite:
    """What one layer learns from n keys: x (…, n, in) and error (…, n, out). `unit`: x has length 1, so a rate needs no correction."""

    x: Tensor
    error: Tensor
    unit: bool


class Memory(Protocol):
    """What the self-modifying mixer needs of a memory network. `output` names the layer whose error is the memory's own."""

    output: ClassVar[str]

    def start(self, *leading: int) -> Weights:
        """Fresh weights, with leading dimensions."""
        ...

    def read(self, layer: Layer, z: Tensor) -> Tensor:
        """M(z) for z (…, n, width), with the layers given."""
        ...

    def writes(self, weights: Weights, keys: Tensor, targets: Tensor, rule: Rule | HeadRules, clip: float | None) -> dict[str, LayerWrite]:
        """Layer inputs and errors for keys and targets (…, n, width); `clip` bounds the length of each output error."""
        ...


@dataclass(frozen=True, slots=True)
class LinearMemory:
    """M(z) = W z on vectors of `width` numbers: the memory of linear attention and of the delta rule."""

    output: ClassVar[str] = "map"
    width: int

    def start(self, *leading: int) -> Weights:
        """W ~ N(0, 1/width)."""
        return {"map": torch.randn(*leading, self.width, self.width) * self.width**-0.5}

    def read(self, layer: Layer, z: Tensor) -> Tensor:
        """(…, n, width) → (…, n, width)."""
        return layer("map", z)

    def writes(self, weights: Weights, keys: Tensor, targets: Tensor, rule: Rule | HeadRules, clip: float | None) -> dict[str, LayerWrite]:
        """One layer: its input is the key."""
        error = clipped(rule.error(keys @ weights["map"].mT, targets), clip)
        return {"map": LayerWrite(keys, error, unit=True)}


@dataclass(frozen=True, slots=True)
class ResidualMLP:
    """M(z) = z + B gelu(A z), A (hidden, width), B (width, hidden) (eq. 89). B starts small: the identity is where recall starts from."""

    output: ClassVar[str] = "down"
    width: int
    hidden: int
    output_scale: float = 0.2

    def start(self, *leading: int) -> Weights:
        """A ~ N(0, 1/width), B ~ output_scale · N(0, 1/hidden)."""
        return {
            "up": torch.randn(*leading, self.hidden, self.width) * self.width**-0.5,
            "down": torch.randn(*leading, self.width, self.hidden) * (self.output_scale * self.hidden**-0.5),
        }

    def read(self, layer: Layer, z: Tensor) -> Tensor:
        """(…, n, width) → (…, n, width)."""
        return z + layer("down", torch.nn.functional.gelu(layer("up", z)))

    def writes(self, weights: Weights, keys: Tensor, targets: Tensor, rule: Rule | HeadRules, clip: float | None) -> dict[str, LayerWrite]:
        """A learns key → error carried back through B, B learns hidden → output error (hope.md §2.3)."""
        hidden, slope = gelu_and_slope(keys @ weights["up"].mT)
        error = clipped(rule.error(keys + hidden @ weights["down"].mT, targets), clip)
        return {
            "up": LayerWrite(keys, (error @ weights["down"]) * slope, unit=True),
            "down": LayerWrite(hidden, error, unit=False),
        }


def unit(x: Tensor) -> Tensor:
    """x / ‖x‖ along the last dimension, in the type of x; a zero vector stays zero (the length is √(‖x‖² + 1e-12))."""
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-12)


def clipped(error: Tensor, longest: float | None) -> Tensor:
    """Errors (…, n, width) no longer than `longest`."""
    if longest is None:
        return error
    length = torch.linalg.vector_norm(error, dim=-1, keepdim=True)
    shorter: Tensor = error * (longest / length.clamp_min(longest))
    return shorter


def lengths(weight: Tensor) -> Tensor:
    """(…, 1, 1) Frobenius norms of weights (…, out, in)."""
    length: Tensor = torch.linalg.vector_norm(weight, dim=(-2, -1), keepdim=True)
    return length


def held(fast: Tensor, start: Tensor, cap: float, *, anchored: bool = True) -> tuple[Tensor, Tensor]:
    """Weights (…, out, in) no longer than `cap` lengths of their start, and where that changed them (…, 1, 1).

    `fast` is what was learned since the start if `anchored`, else the weight itself. Where nothing is too long a CPU returns at once; a GPU
    is not made to wait for that answer.
    """
    whole = start + fast if anchored else fast
    longest, length = cap * lengths(start), lengths(whole)
    over = length > longest
    if fast.is_cpu and not over.any():
        return fast, over
    shorter = whole * (longest / length.clamp_min(1e-30))
    return torch.where(over, shorter - start if anchored else shorter, fast), over


def gelu_and_slope(z: Tensor) -> tuple[Tensor, Tensor]:
    """gelu(z) = zΦ(z) and its derivative Φ(z) + zφ(z), exact (erf); one pass, since the slope is needed for every write."""
    hidden, slope = _Gelu.apply(z)  # type: ignore[no-untyped-call]
    return hidden, slope


class _Gelu(torch.autograd.Function):
    """Saves z, Φ and φ instead of the dozen intermediates that autograd would keep. φ' = −zφ, so slope' = φ(2 − z²)."""

    @staticmethod
    def forward(ctx: Any, z: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        cumulative = 0.5 * (1.0 + torch.erf(z * 0.5**0.5))
        density = torch.exp(-0.5 * z * z) * (2.0 * torch.pi) ** -0.5
        slope = cumulative + z * density
        ctx.save_for_backward(z, density, slope)
        return z * cumulative, slope

    @staticmethod
    def backward(ctx: Any, grad_hidden: Tensor, grad_slope: Tensor) -> Tensor:  # noqa: ANN401
        z, density, slope = ctx.saved_tensors
        grad: Tensor = grad_hidden * slope + grad_slope * density * (2.0 - z * z)
        return grad
