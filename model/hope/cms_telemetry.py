"""Numbers that show a dead or a redundant level early (hope.md §8.3): how far it moved, and whether it does what another already does."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.hope.cms_learning import States, global_norm
from model.hope.cms_objectives import Trace
from model.hope.level import LevelConfig


def learned_norms(levels: Sequence[LevelConfig], states: States) -> dict[str, Tensor]:
    """Per online level (B,) float64: length of everything that it has learned."""
    return {level.name: global_norm(state.delta) for level, state in zip(levels, states, strict=True) if state is not None}


def update_norms(levels: Sequence[LevelConfig], before: States, after: States) -> dict[str, Tensor]:
    """Per online level (B,) float64: length of what changed from `before` to `after`; exactly 0 where there was no boundary."""
    norms = {}
    for level, old, new in zip(levels, before, after, strict=True):
        if old is not None and new is not None:
            norms[level.name] = global_norm({name: new.delta[name] - old.delta[name] for name in old.delta})
    return norms


def guards(levels: Sequence[LevelConfig], states: States) -> dict[str, tuple[Tensor, Tensor]]:
    """Per online level: updates that were clipped (B,) and gradients or updates that were refused (B,), since the state began."""
    return {level.name: (state.clipped, state.refused) for level, state in zip(levels, states, strict=True) if state is not None}


def similarity(trace: Trace) -> Tensor:
    """(K, K) mean over rows and tokens of the cosine between the outputs of levels; near 1 off the diagonal: redundant levels."""
    outputs = torch.stack([torch.nn.functional.normalize(output.float(), dim=-1) for _, output in trace])  # (K, B, T, width)
    return torch.einsum("kbtd,lbtd->kl", outputs, outputs) / (outputs.shape[1] * outputs.shape[2])


def without(states: States, place: int) -> States:
    """The same states with level `place` back at what it was born with, for the question what its learning is worth."""
    state = states[place]
    if state is None:
        return states
    zeros = {name: torch.zeros_like(delta) for name, delta in state.delta.items()}
    return (*states[:place], replace(state, delta=zeros), *states[place + 1 :])
