"""Forget a part of what a sequence carries: its mixers' memories, or single levels, each alone (hope.md §9, rule 5).

Clocks go on: periods are tokens that a sequence has consumed in its life. What the current window would still have taught is dropped where
it would mix the time before with the time after.
"""

from collections.abc import Collection
from dataclasses import replace

import torch

from model.hope.level import LevelState
from model.hope.lm import HopeLM
from model.hope.online import HopeState


def without_mixers(model: HopeLM, state: HopeState) -> HopeState:
    """The state with fresh mixers (a new session of the same owner); the levels keep all they learned.

    A window that is complete and only waits for its last label is still learned; an unfinished one is not.
    """
    fresh = model.initial_state(len(state.position))
    window = state.window
    if window is not None and model.period is not None:
        complete = (state.position % model.period == 0) & window.whole
        window = replace(window, whole=complete.to(window.whole.device))
    return replace(state.with_mixers(fresh.mixers), window=window)


def without_levels(model: HopeLM, state: HopeState, names: Collection[str]) -> HopeState:
    """The state with the levels called `names` as they were at the start, in every layer; mixers and other levels stay.

    Raises:
        ValueError: a name that no layer's online level has.
    """
    known = {config.name for block in model.blocks for config in block.memory.configs if config.online}
    if unknown := sorted(set(names) - known):
        raise ValueError(f"no online level is called {unknown[0]!r}; there are {', '.join(sorted(known)) or 'none'}")
    fresh = model.initial_state(len(state.position))
    levels = [
        tuple(
            new if config.name in names else _without_starts(old, new, names)
            for config, old, new in zip(block.memory.configs, each.levels, start.levels, strict=True)
        )
        for block, each, start in zip(model.blocks, state.blocks, fresh.blocks, strict=True)
    ]
    window = state.window
    if window is not None and names:
        window = replace(window, whole=torch.zeros_like(window.whole))  # its tokens were read with weights that are gone
    return replace(state.with_levels(levels), window=window)


def _without_starts(level: LevelState | None, fresh: LevelState | None, names: Collection[str]) -> LevelState | None:
    """A level that stays, without what it learned of the starts of those that go (nested variant: "level.weight" in its dicts)."""
    if level is None or fresh is None:
        return level
    gone = {name for name in level.anchor if name.rpartition(".")[0] in names}
    return replace(
        level,
        anchor={name: fresh.anchor[name] if name in gone else tensor for name, tensor in level.anchor.items()},
        gradient={name: fresh.gradient[name] if name in gone else tensor for name, tensor in level.gradient.items()},
        slots={name: fresh.slots[name] if name in gone else slots for name, slots in level.slots.items()},
    )
