"""What HOPE's levels do for weights that are trained already: learning online switched on and off, and no dead level.

The same weights are read with other level configurations: streams of a text that no weight was trained on, the state carried.

- *readings*: nats a token where nothing learns online, where the middle level alone does at several rates, where the slow level alone does
  at a period short enough to be reached, where both do
- *left out*: bits a token in windows when a level's output matrix is zeroed in a copy, by layer and in all layers at once, minus bits when
  it is there. A level that nothing needs has 0.
- *online*: what one update of a level comes to, and all that it learned, as shares of the length of its weights (`cms_telemetry`).
  A level that never moves has 0 updates.
"""

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from bench.language.context import by_position, carried, streams
from bench.language.stream import advance, bits_per_token
from model.hope.cms_telemetry import guards, learned_norms, update_norms
from model.hope.level import Level
from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.online import HopeState
from model.train.evaluate import scoring

MIDDLE, SLOW = "middle", "slow"
RATES = (0.02, 0.05, 0.1, 0.2)  # of the middle level
RATE = 0.1  # of the slow level, and of both
SLOW_PERIOD = 1_024  # tokens: the period it is built with, a million, is beyond every stream here
FIRST, LAST = 1_000, 2_000  # tokens of a stream that are told apart; a short stream has a sixth and a third
PIECE = 512  # tokens that are read at once
HELD = 2_048  # tokens of all rows whose window is read again at once, for the gradient: more rows than that take turns
OMISSIONS = 32_768  # tokens that a level is left out on, from all over the text
WATCHED = 2 * SLOW_PERIOD + 16  # tokens in which updates are looked at: two of the slow level


@dataclass(frozen=True, slots=True)
class Reading:
    """How a stream is read: the rates of the levels that may learn; 0: that level stands still."""

    name: str
    middle: float
    slow: float


BOTH = Reading("both", RATE, RATE)
READINGS = (
    Reading("nothing learns online", 0.0, 0.0),
    *(Reading(f"middle level, rate {rate:g}", rate, 0.0) for rate in RATES),
    Reading(f"slow level alone, rate {RATE:g}, every {SLOW_PERIOD:,} tokens", 0.0, RATE),
    BOTH,
)


def worth(model: HopeLM, tail: Tensor, context: int, rows: int, length: int) -> dict[str, Any]:
    """Everything, ready for JSON, on a text (N,): `rows` streams of `length` tokens, and windows of `context`.

    Raises:
        ValueError: the text is shorter than a stream.
    """
    ids = streams(tail, rows, length)
    first, last = min(FIRST, length // 6), min(LAST, length // 3)
    return {
        "streams": {"rows": rows, "tokens": length, "first": first, "last": last, "slow_period": SLOW_PERIOD},
        "readings": {reading.name: nats(relevelled(model, reading), ids, first, last) for reading in READINGS},
        "left_out": left_out(model, tail, context),
        "online": online(relevelled(model, BOTH), ids[:, :WATCHED]),
    }


def relevelled(model: HopeLM, reading: Reading) -> HopeLM:
    """The same weights with the levels as the reading has them; static levels stay as they are."""
    fields = {MIDDLE: {"rate": reading.middle}, SLOW: {"rate": reading.slow, "period_tokens": SLOW_PERIOD}}
    levels = [{**level, **fields.get(level["name"], {})} for level in model.config.levels]
    with torch.random.fork_rng(devices=[]):
        same = HopeLM(HopeConfig.from_dict({**model.config.to_dict(), "levels": levels}))
    same.load_state_dict(model.state_dict())
    same.eval()
    return same


def nats(model: HopeLM, ids: Tensor, first: int, last: int) -> list[float]:
    """Nats a token of streams (B, N), read with the state carried: all, the first `first`, the last `last` tokens."""
    edges = (1, first + 1, ids.shape[1] - last, ids.shape[1])
    few = max(1, HELD // model.period) if model.period else len(ids)
    curves = [(len(rows), by_position(model, rows, carried(PIECE), edges).bits) for rows in torch.split(ids, few)]
    parts = [sum(count * bits[at] for count, bits in curves) / len(ids) for at in range(3)]
    whole = sum(bits * (high - low) for bits, (low, high) in zip(parts, pairwise(edges), strict=True)) / (edges[-1] - edges[0])
    return [math.log(2) * bits for bits in (whole, parts[0], parts[-1])]


def left_out(model: HopeLM, tail: Tensor, context: int) -> dict[str, dict[str, Any]]:
    """By level: bits a token more when it is left out of all layers (`all`), and of each layer alone (`layers`)."""
    everywhere = range(len(model.blocks))

    def cost(name: str, layers: Sequence[int]) -> float:
        return bits_per_token(without(model, name, layers), tail, context, OMISSIONS)

    whole = cost("", ())
    return {
        name: {"all": cost(name, everywhere) - whole, "layers": [cost(name, [layer]) - whole for layer in everywhere]}
        for name in (config.name for config in model.config.levels_of(0))
    }


@torch.no_grad()
def without(model: HopeLM, name: str, layers: Sequence[int]) -> HopeLM:
    """A copy in which the level of that name says nothing in some layers."""
    copied = copy.deepcopy(model)
    for layer in layers:
        _level(copied, layer, name).down_proj.weight.zero_()
    return copied


def online(model: HopeLM, ids: Tensor) -> dict[str, dict[str, list[float]]]:
    """By online level, a figure for each layer: what streams (B, N) taught it, means over the streams.

    - updates: how many there were
    - update, learned: mean length of one, and length of all together, over the length of the weights that learn
    - clipped: share of the updates that were cut to the longest step; refused: how many gradients or updates were not finite
    """
    assert model.period is not None
    state, moved = model.initial_state(len(ids)), _nothing(model)
    count = _nothing(model)
    with scoring(model):
        for start in range(0, ids.shape[1], model.period):  # a level moves once in such a piece, or not at all
            before, state = state, advance(model, ids[:, start : start + model.period], state)[1]
            for layer, (old, new) in enumerate(zip(before.levels, state.levels, strict=True)):
                for name, norm in update_norms(model.blocks[layer].memory.configs, old, new).items():
                    moved[name][layer] += float(norm.mean())
                    count[name][layer] += float((norm > 0).double().mean())
    return {name: _told(model, state, name, moved[name], count[name]) for name in moved}


def _told(model: HopeLM, state: HopeState, name: str, moved: Sequence[float], count: Sequence[float]) -> dict[str, list[float]]:
    told: dict[str, list[float]] = {"updates": list(count), "update": [], "learned": [], "clipped": [], "refused": []}
    for layer, (block, levels) in enumerate(zip(model.blocks, state.levels, strict=True)):
        configs, updates = block.memory.configs, max(count[layer], 1e-9)
        length = math.sqrt(sum(float(weight.double().square().sum()) for weight in _level(model, layer, name).adapted().values()))
        clipped, refused = guards(configs, levels)[name]
        told["update"].append(moved[layer] / updates / length)
        told["learned"].append(float(learned_norms(configs, levels)[name].mean()) / length)
        told["clipped"].append(float(clipped.double().mean()) / updates)
        told["refused"].append(float(refused.double().mean()))
    return told


def _nothing(model: HopeLM) -> dict[str, list[float]]:
    return {config.name: [0.0] * len(model.blocks) for config in model.config.levels_of(0) if config.online}


def _level(model: HopeLM, layer: int, name: str) -> Level:
    return next(level for level in model.blocks[layer].memory.all_levels if level.config.name == name)
