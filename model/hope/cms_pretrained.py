"""Levels from the MLP of a pretrained transformer, without changing its function (Nested Learning §7.3; hope.md §5).

The paper does not say how several levels come from one MLP, and a chain of copies is another function. These keep it:
- copies: every level is the MLP; with the independent variant, whose weights add up to 1, the sum is the MLP bit for bit.
- append: the first level is the MLP; the others start with a zero output matrix, so the chain is the MLP bit for bit.
A third way, other periods for other layers ("assign"), needs one level per block; both of these do it.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from model.hope.cms import ContinuumMemory
from model.hope.level import Level

Fill = Literal["copies", "append"]
MATRICES = ("gate_proj", "up_proj", "down_proj")


def levels_from_mlp(mlp: nn.Module, count: int, fill: Fill = "copies") -> list[dict[str, Tensor]]:
    """Weights (out, in) of `count` levels by matrix name, from Hugging Face's gated MLP of Llama, Mistral or Qwen.

    In "append", levels after the first have the MLP's own input matrices, so that they have something to read from the first step on.

    Raises:
        ValueError: not such an MLP (no gate, biases, another activation than SiLU), or no level.
    """
    if count < 1:
        raise ValueError(f"count is {count}, an MLP fills at least one level")
    if fill not in ("copies", "append"):
        raise ValueError(f"fill is {fill!r}, it must be 'copies' or 'append'")
    for name in MATRICES:
        matrix = getattr(mlp, name, None)
        if not isinstance(matrix, nn.Linear):
            raise ValueError(f"{type(mlp).__name__} has no linear map {name}; only gated MLPs as in Llama and Qwen can be loaded")
        if matrix.bias is not None:
            raise ValueError(f"{name} of {type(mlp).__name__} has a bias; levels have none")
    activation = type(getattr(mlp, "act_fn", nn.SiLU())).__name__
    if activation not in ("SiLU", "SiLUActivation"):
        raise ValueError(f"{type(mlp).__name__} uses {activation}, levels of kind 'swiglu' use SiLU")
    own = {name: getattr(mlp, name).weight.detach() for name in MATRICES}
    silent = {**own, "down_proj": torch.zeros_like(own["down_proj"])}
    return [own if fill == "copies" or place == 0 else silent for place in range(count)]


@torch.no_grad()
def load_mlp(memory: ContinuumMemory, mlp: nn.Module, norm: nn.Module) -> None:
    """Fill a memory in place from a transformer block's MLP and the norm before it: copies if the memory is independent, else append.

    Raises:
        ValueError: kinds, widths or the norm's epsilon do not match; nothing was changed.
    """
    weights = levels_from_mlp(mlp, len(memory.configs), "copies" if memory.variant == "independent" else "append")
    levels = [level for level in memory.levels if isinstance(level, Level)]
    for level, given in zip(levels, weights, strict=True):
        _check(level, given, norm)
    for level, given in zip(levels, weights, strict=True):
        level.norm.weight.copy_(_gain(norm))
        for name, matrix in level.matrices():
            matrix.weight.copy_(given[name])


def _check(level: Level, given: dict[str, Tensor], norm: nn.Module) -> None:
    name = level.config.name
    if level.config.kind != "swiglu":
        raise ValueError(f"level {name!r} is of kind {level.config.kind!r}, a pretrained gated MLP needs kind='swiglu'")
    for matrix, own in level.matrices():
        if own.weight.shape != given[matrix].shape:
            raise ValueError(f"{matrix} of level {name!r} is {tuple(own.weight.shape)}, the MLP's is {tuple(given[matrix].shape)}")
    eps = getattr(norm, "variance_epsilon", getattr(norm, "eps", None))
    if _gain(norm).shape != level.norm.weight.shape or eps != level.norm.eps:
        raise ValueError(f"the norm before the MLP has eps {eps}; level {name!r} has width {level.width} and norm_eps {level.norm.eps}")


def _gain(norm: nn.Module) -> Tensor:
    if not isinstance(norm.weight, Tensor):
        raise ValueError(f"{type(norm).__name__} has no weight; levels need an RMS norm with one")
    return norm.weight
