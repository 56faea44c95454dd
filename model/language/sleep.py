"""Sleep: what was said to a bank moves from its fast levels into its slow ones, which then hold it alone (consolidation, hope.md §3).

What was said is read again, several times, each time from nothing: fresh mixers, and of the levels only the slow ones, which step down the
surprise of the right answer, or of what the user said where there is none. Then the fast levels and the mixers begin anew. Pure: the same
state and the same that was said give the same bits.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from model.hope.level import LevelState
from model.hope.online import HopeState
from model.hope.reset import without_levels, without_mixers
from model.language.phrasing import exchange, question
from model.language.speaker import CUT, LEARNED, Speaker

SLOW_FROM = 65_536  # tokens: a level with such a period or a longer one is a slow one
PASSES = 20
STEP = 1.0  # of a slow level's weights by the mean gradient of what was said at once
CLIP = 1.0  # longest of these steps
MOST = 128  # events of one sleep, the newest

Levels = list[tuple[LevelState | None, ...]]
Pair = tuple[str, str | None]  # what the user said, and the right answer where it is known


def begun(speaker: Speaker, state: HopeState) -> Levels:
    """The levels at the beginning of a sleep: the slow ones as they are, the others as at the start."""
    return [tuple(layer) for layer in without_levels(speaker.model, state, _names(speaker, slow=False)).levels]


def dreamt(speaker: Speaker, levels: Levels, said: Sequence[Pair]) -> Levels:
    """The levels after pairs of what the user said and the right answer were read once more, in order. Without slow levels, nothing."""
    slow = _names(speaker, slow=True)
    for tokens, begin in (part for pair in said if slow for part in _cut(speaker, *pair)):
        levels = _stepped(speaker, levels, tokens, begin, slow)
    return levels


def ended(speaker: Speaker, state: HopeState, levels: Levels) -> HopeState:
    """The state after a sleep: levels as they are then, mixers as at the start; the clock goes on."""
    awake = without_mixers(speaker.model, without_levels(speaker.model, state, _names(speaker, slow=False)))
    return awake.with_levels(levels)


def _names(speaker: Speaker, *, slow: bool) -> frozenset[str]:
    online = [config for block in speaker.model.blocks for config in block.memory.configs if config.online]
    return frozenset(config.name for config in online if ((config.period_tokens or 0) >= SLOW_FROM) is slow)


def _cut(speaker: Speaker, said: str, answer: str | None) -> list[tuple[Tensor, int]]:
    """Tokens (1, T) that are read at once, and the place of the first of them whose surprise counts."""
    tokens = speaker.encode(exchange(said, answer))[:LEARNED]
    begin = 1 if answer is None else max(1, len(speaker.encode(question(said))))
    parts = [(tokens[start : start + CUT + 1], max(1, begin - start)) for start in range(0, len(tokens), CUT)]
    return [(torch.tensor([part]), first) for part, first in parts if len(part) > first]


def _stepped(speaker: Speaker, levels: Levels, tokens: Tensor, begin: int, slow: frozenset[str]) -> Levels:
    """The slow levels one step further down the surprise of tokens (1, T) from a place on."""
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
        loss = model.surprise(hidden[:, begin - 1 :], tokens[:, begin:]) / (tokens.shape[1] - begin)
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
