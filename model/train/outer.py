"""The outer optimizer of a model: which parameter decays how much, which optimizer steps it, and at what frequency.

- Decay: matrices `weight_decay`; embeddings only on demand; meta-learned starts of fast memories `decay_starts` (hope.md §6.5: below 1e-2);
  norms, biases, filters and everything else never.
- Optimizer: AdamW for all; or Muon / M3 for hidden matrices (updates of the size of AdamW's, so one rate fits) and AdamW for the rest.
- Frequency: a model that offers `level_groups()`, a list of (name, parameters, period in training tokens or None for never), has these
  levels stepped by `model.optim.Frequencies`; its other parameters step every time.

Starts of fast memories are those a model names with `fast_starts()`, else parameters below a part called `start`.
"""

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from model.optim import M3, AdamW, Frequencies, LevelGroup, Muon, RuleOptimizer, split_matrices
from model.train.settings import Settings

Level = tuple[str, Sequence[nn.Parameter], int | None]
Group = dict[str, Any]  # a parameter group of torch


class Outer:
    """Steps all parameters of a model that need a gradient."""

    def __init__(self, model: nn.Module, settings: Settings) -> None:
        self._name = settings.optimizer
        self.parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
        if not self.parameters:
            raise ValueError("no parameter of the model needs a gradient; set requires_grad on those to train")
        decays = decay_of(model, settings)
        matrices = {id(parameter) for _, parameter in split_matrices(model).matrices} if settings.optimizer != "adamw" else set()
        levels = _levels(model, self.parameters)
        self._optimizers = [_optimizer(params, decays, matrices, settings) if period else None for _, params, period in levels]
        self._frequencies = None
        if hasattr(model, "level_groups"):
            named = zip(levels, self._optimizers, strict=True)
            self._frequencies = Frequencies([LevelGroup(name, params, period, made) for (name, params, period), made in named])

    def step(self, rate: float, tokens: int) -> None:
        """Step with the present gradients, a mean over `tokens` training tokens, and drop them."""
        for optimizer in self._active():
            for group in optimizer.param_groups:
                group["lr"] = rate
        if self._frequencies is not None:
            self._frequencies.step(tokens)
        else:
            for optimizer in self._active():
                optimizer.step()
        self.drop_gradients()

    def drop_gradients(self) -> None:
        """No parameter has a gradient afterwards."""
        for parameter in self.parameters:
            parameter.grad = None

    def state_dict(self) -> dict[str, Any]:
        """Everything that a resumed run needs: numbers, text and tensors."""
        if self._frequencies is not None:
            return {"name": self._name, "levels": self._frequencies.state_dict()}
        return {"name": self._name, "optimizers": [optimizer.state_dict() for optimizer in self._active()]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: of another optimizer or other levels.
        """
        if (name := state_dict.get("name", "another program")) != self._name:
            raise ValueError(f"the state of the optimizer was saved by {name}, not by {self._name}")
        if (self._frequencies is not None) != ("levels" in state_dict):
            raise ValueError("the saved optimizer has levels where this model has none, or the other way round")
        if self._frequencies is not None:
            self._frequencies.load_state_dict(state_dict["levels"])
            return
        for optimizer, saved in zip(self._active(), state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(saved)

    def report(self) -> dict[str, float]:
        """Length of every level's last update; empty without levels."""
        if self._frequencies is None:
            return {}
        return {name: report.last_norm for name, report in self._frequencies.report().items() if report.last_norm is not None}

    def _active(self) -> Iterable[Optimizer]:
        return [optimizer for optimizer in self._optimizers if optimizer is not None]


def decay_of(model: nn.Module, settings: Settings) -> dict[int, float]:
    """The weight decay of every parameter, by its `id`."""
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters(recurse=False)}
    starts = {id(parameter) for parameter in _starts(model)}
    matrices = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)} | embeddings
    decays = {}
    for parameter in model.parameters():
        if id(parameter) in starts:
            decays[id(parameter)] = settings.decay_starts
        elif id(parameter) not in matrices or (id(parameter) in embeddings and not settings.decay_embeddings):
            decays[id(parameter)] = 0.0
        else:
            decays[id(parameter)] = settings.weight_decay
    return decays


def _starts(model: nn.Module) -> Iterable[nn.Parameter]:
    if hasattr(model, "fast_starts"):
        named: Iterable[nn.Parameter] = model.fast_starts()  # type: ignore[operator]
        return named
    return [parameter for name, parameter in model.named_parameters() if "start" in name.split(".")]


def _levels(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[Level]:
    if not hasattr(model, "level_groups"):
        return [("all", parameters, 1)]
    trained = {id(parameter) for parameter in parameters}
    told: Iterable[Level] = model.level_groups()  # type: ignore[operator]
    chosen = [(name, [p for p in params if id(p) in trained], period) for name, params, period in told]
    levels: list[Level] = [(name, params, period) for name, params, period in chosen if params]
    taken = {id(parameter) for _, params, _ in levels for parameter in params}
    rest = [parameter for parameter in parameters if id(parameter) not in taken]
    return [*levels, ("every step", rest, 1)] if rest else levels


def _optimizer(parameters: Iterable[nn.Parameter], decays: dict[int, float], matrices: set[int], settings: Settings) -> Optimizer:
    groups: dict[tuple[bool, float], Group] = {}
    for parameter in parameters:
        kind = (id(parameter) in matrices, decays[id(parameter)])
        groups.setdefault(kind, {"params": [], "weight_decay": kind[1]})["params"].append(parameter)
    betas = (settings.beta1, settings.beta2)
    if settings.optimizer == "adamw":
        # fused is one pass over memory; it exists for both kinds of device that we train on
        return torch.optim.AdamW(list(groups.values()), lr=settings.rate, betas=betas, fused=True)
    orthogonal = Muon(rate=settings.rate, scale="rms") if settings.optimizer == "muon" else M3(rate=settings.rate)
    plain = AdamW(rate=settings.rate, first_decay=betas[0], second_decay=betas[1])
    return RuleOptimizer([group | {"rule": orthogonal if matrix else plain} for (matrix, _), group in groups.items()], plain)
