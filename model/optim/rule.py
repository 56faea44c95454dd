"""An optimizer as a pure rule, and the rule as a `torch.optim.Optimizer` (Nested Learning §4: every optimizer is a memory of gradients).

A rule owns nothing: it makes the fresh slots of one weight, and maps (gradient, weight, slots) to (change, new slots). So the same rule
steps the fast weights of many sequences at once inside a continuum memory level, and the parameters of any torch model through
`RuleOptimizer`.

- A weight is (…, out, in); leading dimensions are independent rows (sequences, heads), and no row influences another. Element-wise
  rules take any shape; a vector counts as a matrix of one column.
- The change is *added* to the weight; descent is the rule's business.
- Slots are at least float32, whatever the weight is: a slow average in bfloat16 stands still (hope.md §8.1).
- Counters are int64 tensors of the weight's leading dimensions, so that rows may be at different steps.

    optimizer = RuleOptimizer([{"params": split.matrices, "rule": M3()}, {"params": split.others, "rule": AdamW(), "lr": 3e-4}], Sgd(0.1))
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, Protocol, overload

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT

Slots = dict[str, Tensor]
Options = dict[str, Any]  # a torch parameter group, or part of one: serialised as it is

FREE_KEYS = {"params", "param_names", "rule", "lr", "initial_lr", "name"}


class Rule(Protocol):
    """A pure optimizer step. Implementations are frozen dataclasses of plain numbers and strings with a field `rate`."""

    def slots(self, weight: Tensor) -> Slots:
        """Fresh state for a weight (…, out, in).

        Raises:
            ValueError: the rule cannot step a weight of this shape.
        """
        ...

    def step(self, gradient: Tensor, weight: Tensor, slots: Slots) -> tuple[Tensor, Slots]:
        """The change to add to the weight, in the weight's shape, and the slots after it. Changes none of its arguments."""
        ...


def require(holds: bool, message: str) -> None:
    """Raise ValueError with a message that names the field and says what it must be."""
    if not holds:
        raise ValueError(message)


def require_rate(name: str, value: float) -> None:
    """A step size is finite and not negative."""
    require(0.0 <= value < float("inf"), f"{name} is a step size: it must be a finite number of at least 0, not {value}")


def require_decay(name: str, value: float) -> None:
    """A decay keeps that share of a memory at every step."""
    require(0.0 <= value < 1.0, f"{name} is the share that is kept at every step: it must be at least 0 and below 1, not {value}")


def require_matrix(rule: str, weight: Tensor) -> None:
    """Rules that orthogonalise need rows and columns."""
    shape = tuple(weight.shape)
    require(weight.ndim >= 2 and 0 not in shape[-2:], f"{rule} steps matrices (…, out, in) only, not a tensor of shape {shape}; use AdamW")


def slot_type(weight: Tensor) -> torch.dtype:
    """The precision of slots: float32, or float64 where the weight is."""
    return torch.promote_types(weight.dtype, torch.float32)


def exact(tensor: Tensor) -> Tensor:
    """The tensor in the precision of slots."""
    return tensor.to(slot_type(tensor))


def fresh(weight: Tensor) -> Tensor:
    """Zeros in the weight's shape and the precision of slots."""
    return torch.zeros_like(weight, dtype=slot_type(weight), memory_format=torch.contiguous_format)


def counter(weight: Tensor) -> Tensor:
    """A step counter per row, (…) int64."""
    return torch.zeros(weight.shape[:-2], dtype=torch.int64, device=weight.device)


def spread(per_row: Tensor, weight: Tensor) -> Tensor:
    """One number per row (…), shaped to meet the weight's matrices (…, 1, 1)."""
    return per_row.reshape((*per_row.shape, *(1,) * min(weight.ndim, 2)))


def filled(decay: float, count: Tensor, weight: Tensor) -> Tensor:
    """1 − decay^count per row, shaped as `spread`: the share of a moving average that started at zero which is filled.

    By expm1, as 1 − 0.999 in float32 has lost four digits.
    """
    if decay == 0.0:
        return torch.ones_like(spread(count, weight), dtype=slot_type(weight))
    return -torch.expm1(math.log(decay) * spread(count, weight).to(slot_type(weight)))


def as_matrix(tensor: Tensor) -> Tensor:
    """(…, out, in) as it is; a vector (out) as (out, 1); a number as (1, 1)."""
    return tensor if tensor.ndim >= 2 else tensor.reshape(-1, 1)


class RuleOptimizer(Optimizer):
    """Applies a rule to every parameter of a torch model.

    Every field of the rule is an option of the parameter group, its `rate` under torch's name `lr`; so groups may differ in anything, and
    torch's schedulers work. A group may also bring a `rule` of its own. Saved state holds numbers, strings and tensors only, and comes back
    in the dtype that it had (torch's own loading would cast counters and float32 slots to the parameter's dtype).
    """

    def __init__(self, params: ParamsT, rule: Rule) -> None:
        super().__init__(params, {"rule": rule})

    def add_param_group(self, param_group: Options) -> None:
        """Add parameters with options of their own.

        Raises:
            ValueError: an option that the rule does not have or does not allow, or a parameter that the rule cannot step.
        """
        rule = param_group.setdefault("rule", self.defaults["rule"])
        known = options(rule)
        if unknown := set(param_group) - set(known) - FREE_KEYS:
            raise ValueError(f"{type(rule).__name__} has no option {sorted(unknown)[0]!r}; it has {', '.join(sorted(known))}")
        for name, value in known.items():
            param_group.setdefault(name, value)
        configured(param_group)
        super().add_param_group(param_group)
        try:
            for parameter in param_group["params"]:
                acceptable(rule, parameter)
        except ValueError:
            del self.param_groups[-1]
            raise

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step of every parameter that has a gradient. `closure` recomputes and returns the loss.

        Raises:
            ValueError: a sparse gradient; nothing was changed.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        work = [
            (configured(group), parameter) for group in self.param_groups for parameter in group["params"] if parameter.grad is not None
        ]
        require(not any(parameter.grad.is_sparse for _, parameter in work), "a gradient is sparse; build the embedding with sparse=False")
        with torch.no_grad():
            for rule, parameter in work:
                self._move(rule, parameter)
        return loss

    def _move(self, rule: Rule, parameter: Tensor) -> None:
        assert parameter.grad is not None
        slots = self.state[parameter] or rule.slots(parameter)
        change, self.state[parameter] = rule.step(parameter.grad, parameter, slots)
        parameter.add_(change.to(parameter.dtype))

    def state_dict(self) -> Options:
        """As torch's; each group's rule is there by its name."""
        saved = super().state_dict()
        for group in saved["param_groups"]:
            group["rule"] = type(group["rule"]).__name__
        return saved

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue from a saved state as if there had been no stop.

        Raises:
            ValueError: other groups, another rule, or a slot that is missing or has another shape; nothing was changed.
        """
        slots = self._matched(state_dict["param_groups"], state_dict["state"])
        groups = [{**saved, "rule": own["rule"]} for saved, own in zip(state_dict["param_groups"], self.param_groups, strict=True)]
        super().load_state_dict({**state_dict, "param_groups": groups})
        for parameter, saved in slots:
            self.state[parameter] = {name: slot.detach().to(parameter.device, copy=True) for name, slot in saved.items()}

    def _matched(self, groups: list[Options], state: dict[int, Slots]) -> list[tuple[Tensor, Slots]]:
        require(len(groups) == len(self.param_groups), f"the saved state has {len(groups)} parameter groups, not {len(self.param_groups)}")
        matched = []
        for number, (saved, own) in enumerate(zip(groups, self.param_groups, strict=True)):
            rule = type(own["rule"]).__name__
            given = saved.get("rule", "of another optimizer")
            require(given == rule, f"group {number} was saved by the rule {given}, not {rule}")
            require(len(saved["params"]) == len(own["params"]), f"group {number} was saved with {len(saved['params'])} parameters")
            pairs = [(p, state[key]) for key, p in zip(saved["params"], own["params"], strict=True) if key in state]
            for parameter, slots in pairs:
                same_shapes(f"group {number}", slots, acceptable(own["rule"], parameter))
            matched += pairs
        return matched


def options(rule: object) -> Options:
    """The rule's fields as options of a parameter group: `rate` is called `lr` there.

    Raises:
        ValueError: not a dataclass with a field `rate`.
    """
    if is_dataclass(rule) and not isinstance(rule, type):
        names = [field.name for field in fields(rule)]
        if "rate" in names:
            return {"lr" if name == "rate" else name: getattr(rule, name) for name in names}
    raise ValueError(f"a rule is an instance of a dataclass with a field `rate`, not {rule!r}")


def configured(group: Options) -> Rule:
    """The group's rule with the group's present options."""
    rule = group["rule"]
    changed = {name: group[name] for name in options(rule) if name != "lr"}
    built: Rule = replace(rule, rate=float(group["lr"]), **changed)
    return built


def acceptable(rule: Rule, parameter: Tensor) -> Slots:
    """The shapes of the slots that the rule would keep, without storage.

    Raises:
        ValueError: the rule cannot step this parameter.
    """
    shape = tuple(parameter.shape)
    require(parameter.is_floating_point(), f"a parameter of shape {shape} and type {parameter.dtype} is not of floating point")
    if getattr(rule, "whole_matrices", False):
        message = f"{type(rule).__name__} steps matrices (out, in) only, not a parameter of shape {shape}; see model.optim.split_matrices"
        require(len(shape) == 2, message)
    return rule.slots(parameter.detach().to("meta"))


def same_shapes(where: str, saved: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Refuse saved slots that are not the expected ones.

    Raises:
        ValueError: naming the slot.
    """
    for name in sorted({*saved, *expected}):
        require(name in saved, f"{where}: the saved state lacks the slot {name!r}")
        require(name in expected, f"{where}: the saved state has a slot {name!r} that this rule does not have")
        here, there = tuple(expected[name].shape), tuple(saved[name].shape)
        require(here == there, f"{where}: the slot {name!r} was saved with the shape {there}, not {here}")


def parameters_of(optimizer: Optimizer) -> Iterable[Tensor]:
    """All parameters that an optimizer steps."""
    return (parameter for group in optimizer.param_groups for parameter in group["params"])
