"""Delta gradient descent as an optimizer of any torch model (hope.md §4.2; Nested Learning eq. 56–57, app. C, corrected).

Gradient descent takes a step on ⟨W x, −u⟩, u = −∂loss/∂y the desired change of a layer's output y = W x. DGD regresses on it instead,

    W ← argmin_V  Σ ½ ‖V x − u‖² + ‖V − W‖² / (2η)  =  (W + η U Xᵀ) (I + η X Xᵀ)⁻¹

exactly, for inputs X of any length: it writes U Xᵀ, as gradient descent does, and erases what W answers along the inputs just seen. For one
unit input this is the paper's η' = η / (1 + η). Only `nn.Linear` weights have such inputs; every other parameter takes a plain gradient
step.

- U Xᵀ is −weight.grad, so gradient clipping, accumulation and unscaling work as with any optimizer. Hooks add X Xᵀ per layer, when the
  gradient of a layer's output arrives: a forward pass without a backward pass counts for nothing.
- Most losses are means over n inputs, so U holds 1/n. `reduction="mean"` therefore divides X Xᵀ by n; "sum" is for losses that are sums.
- The erase also pulls a converged layer towards small outputs, as its fixed point is W x = u, not u = 0. `erase` below 1 weakens it; 0
  is SGD.

Cost per layer and step, in floating-point operations: 2 n · in² for X Xᵀ (a third of the layer's own 6 n · out · in at out = in),
in³/3 + 2 · out · in² for the solve (at out = in as much as 0.4 · in tokens), and in² numbers of memory. No slots: a saved state is the
options only.

    with DGD(model, lr=0.1) as optimizer:                  # or optimizer.remove() at the end: takes the hooks off
        loss(model(x), y).backward(); optimizer.step(); optimizer.zero_grad()
"""

from collections.abc import Callable
from typing import Any, Literal, Self, overload

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.hooks import RemovableHandle

from model.optim.rule import exact, require, require_rate, slot_type

Reduction = Literal["mean", "sum"]


class DGD(Optimizer):
    """Proximal delta steps for the linear layers of a model, gradient descent for the rest.

    Two parameter groups: 0 the weights of `nn.Linear`, 1 everything else (rate `other_lr`, by default `lr`). A linear weight that got a
    gradient while its module was never called (attention layers of torch use some weights directly) takes a plain step too;
    `without_inputs` names those of the last step.
    """

    def __init__(
        self, model: nn.Module, lr: float = 0.1, *, other_lr: float | None = None, erase: float = 1.0, reduction: Reduction = "mean"
    ) -> None:
        """Put the hooks on.

        Raises:
            ValueError: a rate or `erase` below 0, an unknown reduction, or a model without linear layers to train.
        """
        require_rate("lr", lr)
        require_rate("erase", erase)
        require_rate("other_lr", lr if other_lr is None else other_lr)
        require(reduction in ("mean", "sum"), f"reduction must be mean or sum, as the loss is, not {reduction!r}")
        layers = [module for module in model.modules() if isinstance(module, nn.Linear) and module.weight.requires_grad]
        require(bool(layers), "the model has no nn.Linear whose weight needs a gradient; DGD has nothing to do")
        linear = {layer.weight for layer in layers}
        self._names: dict[Tensor, str] = {parameter: name for name, parameter in model.named_parameters()}
        self._seen: dict[Tensor, tuple[Tensor, int]] = {}
        self.without_inputs: tuple[str, ...] = ()
        trained = [parameter for parameter in self._names if parameter.requires_grad]
        groups: list[dict[str, Any]] = [{"params": [parameter for parameter in trained if parameter in linear]}]
        if others := [parameter for parameter in trained if parameter not in linear]:
            groups.append({"params": others, "lr": lr if other_lr is None else other_lr})
        super().__init__(groups, {"lr": lr, "erase": erase, "reduction": reduction})
        self._linear = linear
        self._handles: list[RemovableHandle] = [layer.register_forward_hook(self._watcher(), with_kwargs=True) for layer in layers]

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """Step every parameter that has a gradient, and forget the inputs seen. `closure` recomputes and returns the loss.

        Raises:
            ValueError: inputs of a layer are not finite, or a gradient is sparse; nothing was changed.
            RuntimeError: the hooks were removed.
        """
        if not self._handles:
            raise RuntimeError("the hooks of this optimizer were removed, so it sees no inputs; make a new DGD for the model")
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        with torch.no_grad():
            work = [(group, parameter) for group in self.param_groups for parameter in group["params"] if parameter.grad is not None]
            moved = [(parameter, self._moved(parameter, group)) for group, parameter in work]
            for parameter, value in moved:
                parameter.copy_(value)
        plain = [parameter for _, parameter in work if parameter in self._linear and parameter not in self._seen]
        self.without_inputs = tuple(self._names[parameter] for parameter in plain)
        self._seen.clear()
        return loss

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop the gradients and the inputs that belong to them; always call this one, not the model's."""
        self._seen.clear()
        super().zero_grad(set_to_none)

    def remove(self) -> None:
        """Take the hooks off the model. May be called twice."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self._seen.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self.remove()

    def _watcher(self) -> Callable[[nn.Module, tuple[Tensor, ...], dict[str, Tensor], Tensor], None]:
        """A hook as a plain function: a deep copy of the model still reports here, where a foreign weight counts for nothing."""

        def watch(layer: nn.Module, inputs: tuple[Tensor, ...], named: dict[str, Tensor], output: Tensor) -> None:
            weight = layer.weight
            if isinstance(weight, Tensor) and weight in self._linear and output.requires_grad:
                x = (inputs[0] if inputs else named["input"]).detach()
                output.register_hook(lambda gradient: self._count(weight, x))  # type: ignore[no-untyped-call]

        return watch

    def _count(self, weight: Tensor, x: Tensor) -> None:
        """Add X Xᵀ (in, in) and n of the inputs x (…, in)."""
        with torch.no_grad():
            rows = x.reshape(-1, x.shape[-1]).to(slot_type(weight))
            product, number = self._seen.get(weight, (None, 0))
            added = rows.mT @ rows
            self._seen[weight] = (added if product is None else product + added, number + len(rows))

    def _moved(self, parameter: Tensor, group: dict[str, Any]) -> Tensor:
        """The parameter after its step, in its own dtype."""
        assert parameter.grad is not None
        require(not parameter.grad.is_sparse, f"the gradient of {self._names[parameter]} is sparse; build the embedding with sparse=False")
        rate = float(group["lr"])
        target = exact(parameter) - rate * exact(parameter.grad)
        product, number = self._seen.get(parameter, (None, 0))
        if product is not None:
            share = number if group["reduction"] == "mean" else 1
            target = proximal(target, product, rate * group["erase"] / share, self._names[parameter])
        return target.to(parameter.dtype)


def proximal(target: Tensor, product: Tensor, rate: float, name: str) -> Tensor:
    """target (out, in) · (I + rate · X Xᵀ)⁻¹ for X Xᵀ (in, in), by Cholesky: the matrix is symmetric and at least I.

    Raises:
        ValueError: the product is not finite, or so large that rounding loses the I beside it (rate · ‖x‖² near 10⁷ in float32).
    """
    require(bool(product.isfinite().all()), f"the inputs of the layer of {name} are not finite; nothing was changed")
    matrix = rate * product
    matrix.diagonal().add_(1.0)
    factor, failed = torch.linalg.cholesky_ex(matrix)
    too_large = f"lr times the squared inputs of the layer of {name} is too large to solve for; nothing was changed, lower lr or normalise"
    require(not bool(failed), too_large)
    return torch.cholesky_solve(target.mT, factor).mT
