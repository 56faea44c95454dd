"""The continuum memory system: feed-forward levels, each with its own period in tokens (Nested Learning §7, eq. 70–74).

    sequential    y_0 = x,  y_l = y_{l-1} + F_l(y_{l-1})        eq. 73; nothing is ever re-initialised. The default.
    nested        the same forward pass; at a level's boundary all faster levels return to starts that it has learned    eq. 72
    independent   y = x + Σ_l w_l F_l(x),  w = softmax of a learned vector                                               eq. 74

F_l(x) = V_l act(U_l norm_l(x)), so one static level is the feed-forward half of a pre-norm transformer block, residual included.

- Every level runs at every token; a period says when its weights change, never when it is used.
- Time is tokens that a row has consumed. Between boundaries all weights are constant, so cutting a call changes nothing.
- The independent sum is written around its first level, F_1 + Σ w_l (F_l − F_1): the weights add up to 1, and copies of one block
  give that block bit for bit (hope.md §5).
- What a row learned is a `LevelState` per level, in and out; the module keeps nothing. How it learns: `cms_learning`, from which
  gradients: `cms_objectives`.

    states = memory.initial(rows=2)
    live, flat = leaves(states)
    loss = cross_entropy(head(memory(x, live)), labels, reduction="sum")               # x (2, T, width), T up to the next boundary
    states = memory.accumulate(states, regrouped(states, torch.autograd.grad(loss, flat)), tokens=torch.tensor([T, T]))
    states = memory.advance(states, before=clock, after=clock + T)
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor, nn

from model.hope import cms_learning, cms_objectives
from model.hope.cms_learning import Gradients, States
from model.hope.cms_objectives import Trace
from model.hope.level import Change, Level, LevelConfig, LevelState

Variant = Literal["sequential", "nested", "independent"]
Objective = Literal["ntp", "local_delta", "assoc"]
Order = Literal["fast_first", "slow_first"]

PERIODS: dict[str, tuple[int | None, ...]] = {  # in tokens, fast to slow; None: static (hope.md §3.1)
    "seed": (16, 1_000_000, None),
    "session": (512, 8192, 131_072, None),
    "paper_figure": (1_000_000, 16_000_000),
    "icl": (512,),
    "icl_2048": (2048,),
}


def ladder(preset: str, hidden: int, rate: float, **fields: object) -> tuple[LevelConfig, ...]:
    """The levels of a preset of `PERIODS`, all of one size and rate. `fields`: further fields of `LevelConfig` for all of them.

    Raises:
        ValueError: an unknown preset.
    """
    if preset not in PERIODS:
        raise ValueError(f"there is no preset {preset!r} of periods; there are {', '.join(PERIODS)}")
    named = [("static" if period is None else f"every_{period}", period) for period in PERIODS[preset]]
    return tuple(LevelConfig(name, period, hidden, rate, **fields) for name, period in named)  # type: ignore[arg-type]


class ContinuumMemory(nn.Module):
    """Levels from fast to slow (static ones anywhere), residual and norms included: x (B, T, width) → (B, T, width).

    Objective "assoc" gives every online level a projection P of its own for targets; it starts as the identity: expect the next input.

    Raises:
        ValueError: no level, periods that do not fit (`check_periods`), an unknown variant, objective, order or rule; "assoc" with a
            level that adapts more than its output matrix.
    """

    def __init__(
        self,
        width: int,
        levels: Sequence[LevelConfig],
        variant: Variant = "sequential",
        objective: Objective = "ntp",
        order: Order = "fast_first",
        norm_eps: float = 1e-6,
    ) -> None:
        super().__init__()
        self.width, self.configs = width, tuple(levels)
        self.variant, self.objective, self.order = variant, objective, order
        self._check()
        self.levels = nn.ModuleList(Level(width, config, norm_eps) for config in self.configs)
        if variant == "independent":
            self.mix = nn.Parameter(torch.zeros(len(self.configs)))  # before the softmax
        if objective == "assoc":
            self.targets = nn.ModuleDict({config.name: _expecting_the_next(width) for config in self.configs if config.online})

    def _check(self) -> None:
        if not self.configs:
            raise ValueError("levels is empty; a continuum memory needs at least one (a static one makes it a feed-forward block)")
        choices = {
            "variant": ("sequential", "nested", "independent"),
            "objective": ("ntp", "local_delta", "assoc"),
            "order": ("fast_first", "slow_first"),
        }
        for field, allowed in choices.items():
            if getattr(self, field) not in allowed:
                raise ValueError(f"{field} is {getattr(self, field)!r}, it must be one of {', '.join(allowed)}")
        cms_learning.check_periods(self.configs, nested=self.variant == "nested")
        for config in self.configs:
            cms_learning.rule_of(config)
            if self.objective == "assoc" and config.online and config.adapt != "down":
                raise ValueError(f"objective 'assoc' moves output matrices only: level {config.name!r} must have adapt='down'")

    @property
    def periods(self) -> tuple[int, ...]:
        """Periods in tokens of the online levels, fast to slow; the caller cuts its calls at multiples of the first."""
        return tuple(config.period_tokens for config in self.configs if config.online and config.period_tokens is not None)

    @property
    def all_levels(self) -> list[Level]:
        """The levels, in the order of their configuration."""
        return [self._level(place) for place in range(len(self.configs))]

    def initial(self, rows: int, dtype: torch.dtype = torch.float32) -> States:
        """States of `rows` sequences that have learned nothing; None for static levels.

        Raises:
            ValueError: a type narrower than float32: small updates would vanish (hope.md §8.1).
        """
        if dtype not in (torch.float32, torch.float64):
            raise ValueError(f"fast weights are float32 or float64, not {dtype}: a sum of small updates stands still in narrower types")
        known = self._adapted()
        return tuple(self._initial_level(place, known, rows, dtype) if config.online else None for place, config in enumerate(self.configs))

    def _initial_level(self, place: int, known: list[Change], rows: int, dtype: torch.dtype) -> LevelState:
        faster = range(place) if self.variant == "nested" else range(0)
        owned = [(self.configs[other].name, known[other]) for other in faster if self.configs[other].online]
        state = cms_learning.initial_state(self.configs[place], known[place], owned, rows, dtype)
        if self.objective != "assoc":
            return state
        return replace(state, pending=cms_objectives.first_pending(self._level(place), rows, next(iter(state.delta.values()))))

    def forward(self, x: Tensor, states: States | None = None, trace: Trace | None = None) -> Tensor:
        """x (B, T, width) → (B, T, width), with what each row has learned (None: nothing).

        `trace` is filled with (input, output F) of every level, fast to slow.

        Raises:
            ValueError: x is not (B, T, width), or states of other rows or another number of levels.
        """
        deltas = self._deltas(x, states)
        if self.variant == "independent":
            seen = [(x, level(x, delta)) for level, delta in zip(self.levels, deltas, strict=True)]
            y = x + self._mixed([output for _, output in seen])
        else:
            places = range(len(deltas)) if self.order == "fast_first" else reversed(range(len(deltas)))
            by_place, y = {}, x
            for place in places:
                by_place[place] = (y, self._level(place)(y, deltas[place]))
                y = y + by_place[place][1]
            seen = [by_place[place] for place in sorted(by_place)]
        if trace is not None:
            trace.extend(seen)
        return y

    def _mixed(self, outputs: list[Tensor]) -> Tensor:
        """Σ w_l F_l, around the first."""
        weights = self.mix.softmax(0).to(outputs[0].dtype)
        mixed = outputs[0]
        for weight, output in zip(weights[1:], outputs[1:], strict=True):
            mixed = mixed + weight * (output - outputs[0])
        return mixed

    def accumulate(self, states: States, gradients: Gradients, tokens: Tensor) -> States:
        """Add per-row gradient sums of `tokens` (B,) int64 tokens; see `cms_learning.accumulate`."""
        return cms_learning.accumulate(self.configs, states, gradients, tokens)

    def advance(self, states: States, before: Tensor, after: Tensor, ramp: float = 1.0) -> States:
        """Update levels whose period ended while the clocks (B,) went from `before` to `after`; see `cms_learning.advance`."""
        return cms_learning.advance(self.configs, self._adapted(), states, before, after, ramp)

    def local_gradients(self, states: States, trace: Trace, errors: Sequence[Tensor]) -> Gradients:
        """Objective "local_delta": from loss gradients at the levels' outputs; see `cms_objectives.local_gradients`."""
        return cms_objectives.local_gradients(self.all_levels, states, trace, errors)

    def associate(self, states: States, trace: Trace, differentiable: bool = False) -> tuple[States, Gradients, Tensor]:
        """Objective "assoc": (states with the last position pending, gradients, pairs (B,)); see `cms_objectives.associate`.

        Raises:
            ValueError: the memory was made for another objective.
        """
        if self.objective != "assoc":
            raise ValueError(f"objective is {self.objective!r}; a memory that learns from its own inputs is made with objective='assoc'")
        return cms_objectives.associate(self.all_levels, self.targets, states, trace, differentiable)

    def _level(self, place: int) -> Level:
        level = self.levels[place]
        assert isinstance(level, Level)
        return level

    def _adapted(self) -> list[Change]:
        return [self._level(place).adapted() for place in range(len(self.configs))]

    def _deltas(self, x: Tensor, states: States | None) -> list[Change | None]:
        if x.dim() != 3 or x.shape[-1] != self.width:
            raise ValueError(f"x is {tuple(x.shape)}, it must be (rows, tokens, {self.width})")
        if states is None:
            return [None] * len(self.configs)
        if len(states) != len(self.configs):
            raise ValueError(f"states has {len(states)} entries, this memory has {len(self.configs)} levels")
        for config, state in zip(self.configs, states, strict=True):
            if (state is not None) != config.online:
                raise ValueError(f"level {config.name!r} is {'online' if config.online else 'static'}; its state does not fit")
            if state is not None and len(state.tokens) != len(x):
                raise ValueError(f"the state of level {config.name!r} has {len(state.tokens)} rows, x has {len(x)}")
        return [None if state is None else state.delta for state in states]


def _expecting_the_next(width: int) -> nn.Linear:
    """A target projection that starts as the identity."""
    target = nn.Linear(width, width, bias=False)
    nn.init.eye_(target.weight)
    return target
