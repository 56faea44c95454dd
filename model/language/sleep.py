"""Sleep: what was said to a bank moves from its fast levels into its slow ones, which then hold it alone (consolidation, hope.md §3).

The texts are read again, several times, each from nothing: fresh mixers, and of the levels only the slow ones, which step by each text's
gradient. Then the fast levels and the mixers begin anew. Pure: the same state and texts give the same bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.hope.level import LevelState
from model.hope.online import HopeState
from model.hope.reset import without_levels, without_mixers
from model.language.speaker import CUT, Speaker

SLOW_FROM = 65_536  # tokens: a level with such a period or a longer one is a slow one
PASSES = 12
STEP = 0.5  # of a slow level's weights by a text's mean gradient
CLIP = 0.5  # longest step of a text
MOST = 256  # texts of one sleep, the newest

Levels = list[tuple[LevelState | None, ...]]


def begun(speaker: Speaker, state: HopeState) -> Levels:
    """The levels at the beginning of a sleep: the slow ones as they are, the others as at the start."""
    return [tuple(layer) for layer in without_levels(speaker.model, state, _names(speaker, slow=False)).levels]


def dreamt(speaker: Speaker, levels: Levels, texts: Sequence[str]) -> Levels:
    """The levels after texts were read once more, in their order. A model without slow levels dreams of nothing."""
    slow = _names(speaker, slow=True)
    for part in (part for text in texts if slow for part in _cut(speaker.encode(text))):
        levels = _stepped(speaker, levels, part, slow)
    return levels


def ended(speaker: Speaker, state: HopeState, levels: Levels) -> HopeState:
    """The state after a sleep: levels as they are then, mixers as at the start; the clock goes on."""
    awake = without_mixers(speaker.model, without_levels(speaker.model, state, _names(speaker, slow=False)))
    return awake.with_levels(levels)


def _names(speaker: Speaker, *, slow: bool) -> frozenset[str]:
    online = [config for block in speaker.model.blocks for config in block.memory.configs if config.online]
    return frozenset(config.name for config in online if ((config.period_tokens or 0) >= SLOW_FROM) is slow)


def _cut(tokens: Sequence[int]) -> list[Tensor]:
    parts = [tokens[start : start + CUT + 1] for start in range(0, len(tokens), CUT)]
    return [torch.tensor([part]) for part in parts if len(part) > 1]


def _stepped(speaker: Speaker, levels: Levels, tokens: Tensor, slow: frozenset[str]) -> Levels:
    """The slow levels one step further down the surprise of tokens (1, T)."""
    model = speaker.model
    with torch.enable_grad():
        opened = [
            tuple(
                level if level is None or config.name not in slow else level.map(lambda tensor: tensor.detach().clone())
                for config, level in zip(block.memory.configs, layer, strict=True)
            )
            for block, layer in zip(model.blocks, levels, strict=True)
        ]
        leaves = [
            tensor.requires_grad_()
            for block, layer in zip(model.blocks, opened, strict=True)
            for config, level in zip(block.memory.configs, layer, strict=True)
            if level is not None and config.name in slow
            for _, tensor in sorted(level.delta.items())
        ]
        hidden, _ = model.run(tokens[:, :-1], None, opened, [0])
        loss = model.surprise(hidden, tokens[:, 1:]) / (tokens.shape[1] - 1)
        slopes = torch.autograd.grad(loss, leaves, allow_unused=True)
    steps = [torch.zeros_like(leaf) if slope is None else -STEP * slope for leaf, slope in zip(leaves, slopes, strict=True)]
    length = torch.stack([step.double().square().sum() for step in steps]).sum().sqrt()
    if not bool(torch.isfinite(length)):
        return levels  # it teaches nothing, each time
    scale = float(min(1.0, CLIP / float(length))) if float(length) > 0 else 1.0
    moved = iter([(leaf.detach() + scale * step).contiguous() for leaf, step in zip(leaves, steps, strict=True)])
    return [
        tuple(
            level if level is None or config.name not in slow else _with(level, moved)
            for config, level in zip(block.memory.configs, layer, strict=True)
        )
        for block, layer in zip(model.blocks, levels, strict=True)
    ]


def _with(level: LevelState, moved: Iterator[Tensor]) -> LevelState:
    new = {name: next(moved) for name in sorted(level.delta)}
    return replace(level, delta={name: new[name] for name in level.delta})
