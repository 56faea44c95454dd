"""What each level of a bank is and knows: its clock, how far its weights are from others, and what it would answer if it were alone."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from model import Recall, Standing, State, inspection
from model.answering import Answering
from model.products import Reading
from service import wire
from service.store.rows import EventRow
from workers.reading import Keys, asked
from workers.replay import key_of
from workers.view import View

FEWEST = 16  # corrections from which a half-life is told
SURE = 2.0  # standard errors that a decline must be away from none
ABSENT = Standing(None, 0.0, 0.0, 0.0)  # where nothing is said
LEAST = 1e-6  # confidence below which nothing is left to decline


class Stood(NamedTuple):
    """How a correction's right answer stands at its own input: of all levels together, and of each alone."""

    whole: Standing
    levels: dict[str, Standing]


@dataclass(frozen=True, slots=True)
class Compared:
    """A bank's state beside those that it is compared with."""

    view: View
    start: State
    snapshot: State | None


def stand(recall: Recall, view: View, keys: Keys, responses: Sequence[int]) -> list[Stood]:
    """How each response stands at its key (n, 384), but for last bits where there are several. The book must hold all of them."""
    if not len(keys):
        return []
    answering, readings = (recall.look if len(keys) == 1 else recall.look_over)(asked(view, keys, 1))
    return [_stood(answering, reading, response) for reading, response in zip(readings, responses, strict=True)]


def _stood(answering: Answering, reading: Reading, response: int) -> Stood:
    alone = {level: reading.alone(level) for level in Reading._fields}
    levels = {level: answering.standing(said, response) if said.whole.any() else ABSENT for level, said in alone.items()}
    return Stood(answering.standing(reading, response), levels)


def describe(recall: Recall, compared: Compared, sample: Sequence[EventRow]) -> list[wire.LevelView]:
    """All levels, with a sample of live corrections asked of each."""
    config, view = recall.config, compared.view
    keys = np.stack([key_of(row.embedding or b"") for row in sample]) if sample else np.zeros((0, config.key_width), np.float32)
    stood = stand(recall, view, keys, [row.response or 0 for row in sample])
    ages = [view.seq - row.seq for row in sample]
    norms, pairs, capacity = inspection.norms(view.state.levels), inspection.held(view.state), inspection.capacity(config)
    from_start = inspection.drifts(view.state, compared.start)
    from_snapshot = inspection.drifts(view.state, compared.snapshot) if compared.snapshot is not None else {}
    told = []
    for name in view.state.levels:
        period, clock = config.period_of(name), view.state.clock
        alone = [each.levels[name] for each in stood]
        right = [one.rank == 1 and one.confidence >= config.abstain_below for one in alone]
        told.append(
            wire.LevelView(
                name=name,
                period_tokens=period,
                updates=clock.tokens // period if period else clock.events,
                tokens_until_update=period - clock.tokens % period if period else 0,
                norm=norms[name],
                drift_start=from_start[name],
                drift_snapshot=from_snapshot.get(name),
                pairs=pairs[name],
                capacity=capacity[name],
                alone=_mean(right),
                strength=_mean([one.confidence for one in alone]),
                margin=_mean([one.margin for one in alone]),
                half_life=half_life(ages, [one.confidence for one in alone]),
            )
        )
    return told


def half_life(ages: Sequence[int], strengths: Sequence[float]) -> float | None:
    """The age by which a strength has halved, from a straight line through its logarithms; None unless they surely decline."""
    if len(ages) < FEWEST or len(set(ages)) < 3:
        return None
    x, y = np.asarray(ages, np.float64), np.log(np.maximum(strengths, LEAST))
    x, y = x - x.mean(), y - y.mean()
    slope = float(x @ y / (x @ x))
    error = math.sqrt(float(np.square(y - slope * x).sum()) / (len(x) - 2) / float(x @ x))
    return math.log(2.0) / -slope if slope < 0.0 and slope <= -SURE * error else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
