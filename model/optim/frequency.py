"""Training-time continuum memory: groups of parameters that change at their own frequency on a clock of training tokens.

(hope.md §1.2, §3.1; Nested Learning def. 2–4, eq. 70–71.)

    freq = Frequencies([LevelGroup("fast", mixer, 4096, fast_optimizer), LevelGroup("slow", mlps, 1_000_000, slow_optimizer),
                        LevelGroup("static", embeddings, None)])
    for batch in batches:
        loss(batch).backward()              # a mean over the batch's tokens
        freq.step(tokens=batch.numel())     # takes the gradients: no zero_grad

1. Time is training tokens, never steps or calls: the same tokens in other pieces move the same levels at the same multiples.
2. A level's optimizer steps when the clock reaches or passes a multiple of the level's period: once in a call, as a call brings one
   gradient.
3. What it steps with is the mean of the gradients of *all* tokens since the level's last update, at the parameters that were live then.
4. Between its updates a level does not change by a bit: no weight decay, no momentum drift. `period_tokens=None` never changes.
5. A saved state holds the gradients that wait; continuing from it equals not stopping.

A call whose gradient for a level is not finite is refused for that level and counted; its tokens pass, its gradient does not.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.optim.rule import exact, parameters_of, require


@dataclass(frozen=True, slots=True)
class LevelGroup:
    """One level: its parameters, its period in training tokens (None: never), and the optimizer of exactly these parameters.

    `clip` bounds the global norm of the mean gradient of an update (hope.md §3.3 uses 1.0).
    """

    name: str
    params: Iterable[Tensor]
    period_tokens: int | None
    optimizer: Optimizer | None = None
    clip: float | None = None


@dataclass(frozen=True, slots=True)
class LevelReport:
    """Telemetry of a level: updates made, the last one's length ‖Δθ‖, calls refused, and tokens whose gradients wait."""

    updates: int
    last_norm: float | None
    refused: int
    waiting_tokens: int


@dataclass(slots=True)
class _Level:
    """A level at work. `sums` holds Σ tokens · gradient per parameter since the last update, None where there was none."""

    name: str
    params: list[Tensor]
    period: int | None
    optimizer: Optimizer | None
    clip: float | None
    sums: list[Tensor | None] = field(init=False)
    waiting: int = 0
    updates: int = 0
    refused: int = 0
    last_norm: float | None = None

    def __post_init__(self) -> None:
        self.sums = [None] * len(self.params)

    def due(self, before: int, after: int) -> bool:
        """Whether (before, after] holds a multiple of the period."""
        return self.period is not None and after // self.period > before // self.period

    def gradients(self) -> list[Tensor]:
        """Those that the parameters hold at present."""
        return [parameter.grad for parameter in self.params if parameter.grad is not None]

    def drop_gradients(self) -> None:
        """So that nothing is counted twice."""
        for parameter in self.params:
            parameter.grad = None

    def arrived(self, tokens: int) -> int:
        """The tokens whose gradient counts: none of a call with a gradient that is not finite, or its NaN would spoil a long wait."""
        if self.period is None:
            self.drop_gradients()
        elif not math.isfinite(length(self.gradients())):
            self.drop_gradients()
            self.refused += 1
            return 0
        return tokens

    def collect(self, tokens: int) -> None:
        """Move the parameters' gradients, as a mean over `tokens`, into the sums."""
        for index, parameter in enumerate(self.params):
            if parameter.grad is not None:
                weighted = exact(parameter.grad) * tokens
                held = self.sums[index]
                self.sums[index] = weighted if held is None else held.add_(weighted)
        self.drop_gradients()
        self.waiting += tokens

    def hand_over(self, tokens: int) -> bool:
        """Give the parameters the mean gradient of all waiting tokens; False if there are none.

        Where the last call brought all tokens, its gradients stay as they are, bit for bit.
        """
        if self.waiting > 0:
            self.collect(tokens)
            for parameter, held in zip(self.params, self.sums, strict=True):
                parameter.grad = None if held is None else (held / self.waiting).to(parameter.dtype)
        some = self.waiting + tokens > 0
        self.sums = [None] * len(self.params)
        self.waiting = 0
        return some

    def update(self) -> None:
        """Step the optimizer with the gradients in place, measure the change, and drop the gradients."""
        assert self.optimizer is not None
        if self.clip is not None and (norm := length(self.gradients())) > self.clip:
            for gradient in self.gradients():
                gradient.mul_(self.clip / norm)
        before = [parameter.detach().clone() for parameter in self.params]
        self.optimizer.step()
        self.last_norm = length([exact(p.detach()) - exact(old) for p, old in zip(self.params, before, strict=True)])
        self.updates += 1
        self.drop_gradients()


class Frequencies:
    """A clock of training tokens and the levels that hang on it."""

    def __init__(self, levels: Sequence[LevelGroup]) -> None:
        """Check and take the levels.

        Raises:
            ValueError: no level, a name or a parameter used twice, a period below 1, or an optimizer that is missing or holds other
            parameters.
        """
        require(len(levels) > 0, "give at least one LevelGroup")
        self._levels = {level.name: opened(level) for level in levels}
        require(len(self._levels) == len(levels), f"level names must differ: {', '.join(level.name for level in levels)}")
        owners: dict[Tensor, str] = {}
        for level in self._levels.values():
            for parameter in level.params:
                twice = f"a parameter of shape {tuple(parameter.shape)} is in level {owners.get(parameter)!r} and again in {level.name!r}"
                require(parameter not in owners, twice)
                owners[parameter] = level.name
        self.tokens = 0

    def step(self, tokens: int) -> tuple[str, ...]:
        """Advance the clock by the tokens whose mean gradient the parameters hold; returns the names of the levels that were updated.

        Takes the gradients away: after it every parameter's `grad` is None.

        Raises:
            ValueError: tokens below 1; nothing was changed.
        """
        require(tokens >= 1, f"tokens is the number of tokens behind the present gradients, at least 1, not {tokens}")
        before, self.tokens = self.tokens, self.tokens + tokens
        updated = []
        for level in self._levels.values():
            arrived = level.arrived(tokens)
            if not level.due(before, self.tokens):
                level.collect(arrived)
            elif level.hand_over(arrived):
                level.update()
                updated.append(level.name)
        return tuple(updated)

    def zero_grad(self) -> None:
        """Drop the present gradients; those that wait from earlier steps stay."""
        for parameter in chain.from_iterable(level.params for level in self._levels.values()):
            parameter.grad = None

    def report(self) -> dict[str, LevelReport]:
        """Telemetry per level."""
        return {
            name: LevelReport(level.updates, level.last_norm, level.refused, level.waiting if level.period is not None else 0)
            for name, level in self._levels.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Clock, waiting gradients and optimizers of all levels: numbers, strings and tensors only."""
        return {"tokens": self.tokens, "levels": {name: saved(level) for name, level in self._levels.items()}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            ValueError: other levels, another period, or sums of other shapes; nothing was changed then.
        """
        names, there = list(self._levels), list(state["levels"])
        require(names == there, f"the saved state has the levels {', '.join(there)}, not {', '.join(names)}")
        for name, level in self._levels.items():
            fits(level, state["levels"][name])
        for name, level in self._levels.items():
            restore(level, state["levels"][name])
        self.tokens = int(state["tokens"])


def length(tensors: Sequence[Tensor]) -> float:
    """Norm of all tensors together, computed in at least float32; read once, as a GPU waits for every number that is read."""
    if not tensors:
        return 0.0
    squares = [torch.linalg.vector_norm(exact(tensor)).double().square().to(tensors[0].device) for tensor in tensors]
    return math.sqrt(float(torch.stack(squares).sum()))


def opened(group: LevelGroup) -> _Level:
    """A checked level at its start."""
    name, period, optimizer = group.name, group.period_tokens, group.optimizer
    params = list(group.params)
    require(len(params) > 0, f"level {name!r} has no parameters")
    require(period is None or period >= 1, f"period_tokens of level {name!r} is at least 1, or None for never, not {period}")
    require(group.clip is None or group.clip > 0, f"clip of level {name!r} must be above 0, or None, not {group.clip}")
    require((period is None) or (optimizer is not None), f"level {name!r} has a period, so it needs an optimizer")
    if optimizer is not None:
        same = {id(parameter) for parameter in parameters_of(optimizer)} == {id(parameter) for parameter in params}
        require(same, f"the optimizer of level {name!r} must hold exactly the level's parameters")
    return _Level(name, params, period, optimizer, group.clip)


def saved(level: _Level) -> dict[str, Any]:
    """What a level needs to continue."""
    return {
        "period_tokens": level.period,
        "sums": [None if held is None else held.clone() for held in level.sums],
        "waiting_tokens": level.waiting,
        "updates": level.updates,
        "refused": level.refused,
        "last_norm": level.last_norm,
        "optimizer": None if level.optimizer is None else level.optimizer.state_dict(),
    }


def fits(level: _Level, state: Mapping[str, Any]) -> None:
    """Refuse a saved level that is not this one.

    Raises:
        ValueError: naming the level and what differs.
    """
    there = state["period_tokens"]
    require(there == level.period, f"level {level.name!r} was saved with the period {there}, not {level.period}")
    require(len(state["sums"]) == len(level.params), f"level {level.name!r} was saved with {len(state['sums'])} parameters")
    for held, parameter in zip(state["sums"], level.params, strict=True):
        message = f"level {level.name!r}: a waiting gradient does not have its parameter's shape {tuple(parameter.shape)}"
        require(held is None or held.shape == parameter.shape, message)
    require((state["optimizer"] is None) == (level.optimizer is None), f"level {level.name!r}: only one side has an optimizer")
    if level.optimizer is not None:
        sizes = [len(group["params"]) for group in level.optimizer.param_groups]
        same = sizes == [len(group["params"]) for group in state["optimizer"]["param_groups"]]
        require(same, f"level {level.name!r}: the saved optimizer has other parameter groups")


def restore(level: _Level, state: Mapping[str, Any]) -> None:
    """Put a saved level in place."""
    if level.optimizer is not None:
        level.optimizer.load_state_dict(state["optimizer"])
    pairs = zip(state["sums"], level.params, strict=True)
    level.sums = [None if held is None else held.detach().to(parameter.device, copy=True) for held, parameter in pairs]
    level.waiting, level.updates, level.refused = state["waiting_tokens"], state["updates"], state["refused"]
    level.last_norm = state["last_norm"]
