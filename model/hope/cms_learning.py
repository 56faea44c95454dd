"""How a continuum memory learns while it is used: pure functions from state to state (Nested Learning eq. 71, 72; hope.md §3.3, §8.3).

    θ ← θ + clip( rule( Σ g / n ) )        when the row's token clock reaches a multiple of the level's period; unchanged otherwise

C1  A level changes at multiples of its period and nowhere else, by the gradients of exactly the tokens since the multiple before.
C2  No row influences another; the base weights never change here.
C3  What is not finite is refused and counted: a gradient is not added, an update is not applied, and other levels do not notice.

Nested (eq. 72): level l owns its weights and the *starts* of all faster levels. The gradient of a start is the sum, over l's whole period,
of the gradients at the weights that were live (first order: dθ/dθ_0 = I, as in first-order MAML). At l's boundary all faster levels return
to the starts that l has learned, with fresh slots of their rules: their context has ended.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor

from model.hope.level import Change, LevelConfig, LevelState
from model.hope.state import scattered
from model.optim.adamw import AdamW
from model.optim.deep_momentum import DeepMomentum
from model.optim.delta_momentum import DeltaMomentum
from model.optim.m3 import M3
from model.optim.momentum import HigherOrderMomentum, Momentum, PreconditionedMomentum, Sgd
from model.optim.muon import Muon
from model.optim.rule import Rule

States = tuple[LevelState | None, ...]  # None: a static level
Gradients = tuple[Change | None, ...]  # per level, per-row sums (B, out, in) by weight

RULES: dict[str, Callable[..., Rule]] = {  # by name; called with the level's rate
    "sgd": Sgd,
    "momentum": Momentum,
    "preconditioned": PreconditionedMomentum,
    "higher_order": HigherOrderMomentum,
    "delta_momentum": DeltaMomentum,
    "deep_momentum": DeepMomentum,
    "muon": Muon,
    "m3": M3,
    "adamw": partial(AdamW, weight_decay=0.0),  # decay would pull the meta-learned base to zero, too
}


def rule_of(config: LevelConfig) -> Rule:
    """The level's rule at the level's rate.

    Raises:
        ValueError: an unknown name.
    """
    if config.rule not in RULES:
        raise ValueError(f"level {config.name!r}: rule is {config.rule!r}, it must be one of {', '.join(RULES)}")
    return RULES[config.rule](rate=config.rate)


def check_periods(levels: Sequence[LevelConfig], nested: bool = False) -> None:
    """Online levels stand fast to slow, and their boundaries fall together.

    Raises:
        ValueError: periods that do not increase or are no multiples of the fastest (nested: of the next faster), or a name twice.
    """
    names = [level.name for level in levels]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"two levels are called {twice[0]!r}; every level needs a name of its own")
    online = [(level.name, level.period_tokens) for level in levels if level.online and level.period_tokens is not None]
    for (faster, short), (slower, long) in pairwise(online):
        if long <= short:
            raise ValueError(
                f"period_tokens of level {slower!r} is {long}, it must be above {short}, the period of {faster!r}: list fast levels first"
            )
        unit, owner = (short, faster) if nested else (online[0][1], online[0][0])
        if long % unit:
            raise ValueError(f"period_tokens of level {slower!r} is {long}, it must be a multiple of {unit}, the period of {owner!r}")


def initial_state(config: LevelConfig, weights: Change, faster: Sequence[tuple[str, Change]], rows: int, dtype: torch.dtype) -> LevelState:
    """Nothing learned. `weights` (out, in) of the level by name; `faster` the names and weights of levels whose starts it learns."""
    delta = {name: weight.new_zeros(rows, *weight.shape, dtype=dtype) for name, weight in weights.items()}
    anchor = {
        f"{level}.{name}": weight.new_zeros(rows, *weight.shape, dtype=dtype) for level, others in faster for name, weight in others.items()
    }
    count = torch.zeros(rows, dtype=torch.int64, device=next(iter(delta.values())).device)
    moved, rule = {**delta, **anchor}, rule_of(config)
    return LevelState(
        delta=delta,
        gradient={name: torch.zeros_like(tensor) for name, tensor in moved.items()},
        tokens=count,
        slots={name: rule.slots(tensor) for name, tensor in moved.items()},
        clipped=count.clone(),
        refused=count.clone(),
        anchor=anchor,
        pending={},
    )


def accumulate(levels: Sequence[LevelConfig], states: States, gradients: Gradients, tokens: Tensor) -> States:
    """Add per-row sums of the gradients of `tokens` (B,) int64 tokens per row. Rows with a gradient that is not finite keep theirs (C3).

    Raises:
        ValueError: as many gradients as levels are needed, each with the level's weights in their shapes.
    """
    if len(gradients) != len(states) or len(levels) != len(states):
        raise ValueError(f"{len(levels)} levels need {len(levels)} states and gradients, not {len(states)} and {len(gradients)}")
    known = {
        level.name: given for level, state, given in zip(levels, states, gradients, strict=True) if state is not None and given is not None
    }
    return tuple(
        state if state is None or level.name not in known else _accumulated(level, state, known, tokens)
        for level, state in zip(levels, states, strict=True)
    )


def _accumulated(level: LevelConfig, state: LevelState, known: dict[str, Change], tokens: Tensor) -> LevelState:
    given = {}
    for name, total in state.gradient.items():
        owner, _, weight = name.rpartition(".")
        found = known.get(owner or level.name, {}).get(weight)
        if found is None or found.shape != total.shape:
            have = "none" if found is None else str(tuple(found.shape))
            raise ValueError(f"level {level.name!r} needs a gradient {tuple(total.shape)} for {name}, got {have}")
        given[name] = found.to(total.dtype)
    active = tokens.to(state.tokens.device) > 0
    fine = _finite_rows(list(given.values()), active)
    take = fine & active
    some = _unless_all(take)
    return replace(
        state,
        gradient={name: _chosen(some, total + given[name], total) for name, total in state.gradient.items()},
        tokens=state.tokens + torch.where(take, tokens.to(state.tokens), 0),
        refused=state.refused + (active & ~fine).to(state.refused),
    )


def advance(
    levels: Sequence[LevelConfig], weights: Sequence[Change], states: States, before: Tensor, after: Tensor, ramp: float = 1.0
) -> States:
    """Every level and row whose clock passed a multiple of its period in (before, after] updates; all others are untouched.

    `weights` are the base weights by level; before, after (B,) int64 tokens consumed. The caller cuts its calls at the multiples of the
    fastest online period, so that gradients are taken at weights that were constant. `ramp` multiplies steps (warm-up, hope.md §8.3).

    Raises:
        ValueError: a clock that runs backwards, or passes two boundaries of one level at once.
    """
    passed = _passed(levels, before.tolist(), after.tolist())
    new = list(states)
    for place, (level, state) in enumerate(zip(levels, states, strict=True)):
        if state is None or not any(passed[place]):
            continue
        moved = new[place] = _at_boundary(level, _with_starts(levels, weights, place, state), state, passed[place], ramp)
        if state.anchor:
            mask = torch.tensor(passed[place], device=state.tokens.device)
            new[:place] = [_restarted(faster, known, moved, mask) for faster, known in zip(levels[:place], new[:place], strict=True)]
    return tuple(new)


def _passed(levels: Sequence[LevelConfig], before: list[int], after: list[int]) -> list[list[bool]]:
    """[level][row]: did the row pass a multiple of the level's period?"""
    if len(before) != len(after) or any(late < early for early, late in zip(before, after, strict=True)):
        raise ValueError(f"token clocks run forward, row by row: before {before}, after {after}")
    passed = []
    for level in levels:
        period = level.period_tokens if level.online else None
        crossings = [0 if period is None else late // period - early // period for early, late in zip(before, after, strict=True)]
        if max(crossings, default=0) > 1:
            row = crossings.index(max(crossings))
            raise ValueError(
                f"row {row} passed {crossings[row]} boundaries of level {level.name!r} at once; cut calls at multiples of {period} tokens"
            )
        passed.append([crossing == 1 for crossing in crossings])
    return passed


def _with_starts(levels: Sequence[LevelConfig], weights: Sequence[Change], place: int, state: LevelState) -> Change:
    """The base weights of all that a level moves: its own, and those of which it learns the starts."""
    named = {f"{level.name}.{name}": weight for level, known in zip(levels, weights, strict=True) for name, weight in known.items()}
    return {**weights[place], **{name: named[name] for name in state.anchor}}


def _at_boundary(level: LevelConfig, bases: Change, state: LevelState, passed: Sequence[bool], ramp: float) -> LevelState:
    """The rows that `passed` after their update, the others as they are."""
    if all(passed):
        return _updated(level, bases, state, ramp)
    index = torch.tensor([row for row, due in enumerate(passed) if due], device=state.tokens.device)
    return scattered(state, index, _updated(level, bases, state.rows(index), ramp))


def _updated(level: LevelConfig, bases: Change, state: LevelState, ramp: float) -> LevelState:
    """One step of the rule on every row, then empty accumulators. Rows without gradients, and refused ones (C3), do not move."""
    rule, moved = rule_of(level), {**state.delta, **state.anchor}
    steps, slots = {}, {}
    for name, total in state.gradient.items():
        gradient = total / _wide(state.tokens.clamp(min=1), total) if level.reduction == "mean" else total
        step, slots[name] = rule.step(gradient, bases[name].to(total.dtype) + moved[name], state.slots[name])
        steps[name] = step if ramp == 1.0 else step * ramp
    length = global_norm(steps)
    scale = (level.clip / length).clamp(max=1.0)  # length 0: inf, clamped
    new = {name: moved[name] + steps[name] * _wide(scale.to(steps[name].dtype), steps[name]) for name in moved}
    due = state.tokens > 0
    fine = torch.isfinite(length) & _finite_rows([*new.values(), *(slot for each in slots.values() for slot in each.values())], due)
    take = fine & due
    some = _unless_all(take)
    kept = {name: _chosen(some, tensor, moved[name]) for name, tensor in new.items()}
    return replace(
        state,
        delta={name: kept[name] for name in state.delta},
        anchor={name: kept[name] for name in state.anchor},
        gradient={name: torch.zeros_like(total) for name, total in state.gradient.items()},
        tokens=torch.zeros_like(state.tokens),
        slots={  # in the order of the old ones, whatever order the rule gives them back in: states are compared and joined by position
            name: {slot: _chosen(some, slots[name][slot], old) for slot, old in each.items()} for name, each in state.slots.items()
        },
        clipped=state.clipped + (take & (length > level.clip)).to(state.clipped),
        refused=state.refused + (due & ~fine).to(state.refused),
    )


def _restarted(level: LevelConfig, state: LevelState | None, slower: LevelState, mask: Tensor) -> LevelState | None:
    """A faster level at a slower one's boundary: back to the starts that the slower has learned, with a fresh rule (eq. 72)."""
    if state is None:
        return None
    rule = rule_of(level)
    fresh = {name: rule.slots(tensor) for name, tensor in {**state.delta, **state.anchor}.items()}
    return replace(
        state,
        delta={name: _chosen(mask, slower.anchor[f"{level.name}.{name}"], tensor) for name, tensor in state.delta.items()},
        anchor={name: _chosen(mask, slower.anchor[name], tensor) for name, tensor in state.anchor.items()},
        slots={
            name: {slot: _chosen(mask, fresh[name][slot], tensor) for slot, tensor in each.items()} for name, each in state.slots.items()
        },
    )


def global_norm(tensors: Change) -> Tensor:
    """(B,) float64 length of all tensors of a row together; float64, so that large float32 steps have a length, too."""
    squares = [torch.linalg.vector_norm(tensor.flatten(1), dim=1, dtype=torch.float64).square() for tensor in tensors.values()]
    return torch.stack(squares).sum(0).sqrt()


def _finite_rows(tensors: Sequence[Tensor], rows: Tensor) -> Tensor:
    """(B,) bool, whether all numbers of a row are finite; `rows` (B,) gives the shape. A GPU is not made to wait for the answer."""
    if rows.is_cpu:
        total = torch.zeros(len(rows))
        for tensor in tensors:
            total = total + tensor.reshape(len(rows), -1).sum(1)
        if bool(torch.isfinite(total).all()):  # a finite sum has finite terms, and is read an order of magnitude faster than they are
            return torch.ones_like(rows, dtype=torch.bool)
    fine = [torch.isfinite(tensor).reshape(len(rows), -1).all(1) for tensor in tensors]
    return torch.stack(fine).all(0)


def _chosen(rows: Tensor | None, yes: Tensor, no: Tensor) -> Tensor:
    """Row by row `yes` where `rows` (B,), else `no`, in the type of `no`. None: all rows."""
    yes = yes.to(no.dtype)
    return yes if rows is None else torch.where(_wide(rows, no), yes, no)


def _unless_all(rows: Tensor) -> Tensor | None:
    """The rows (B,) as `_chosen` takes them: the common case needs no choice, where looking for it costs no wait."""
    return None if rows.is_cpu and bool(rows.all()) else rows


def _wide(per_row: Tensor, tensor: Tensor) -> Tensor:
    """(B,) shaped to meet a tensor (B, …)."""
    return per_row.reshape(-1, *[1] * (tensor.dim() - 1))
