"""Whether keys are turned, and how much of a correction is noise: chosen by corrections that are held back.

Two thirds of the corrections teach a turn and a regression, the others are asked for. Answers that none of the first have give no vote, so
single facts do not. Keys are turned where corrections are told by others at all (facts of one kind are not, and lose by it), unless it is
worse by more than the noise of so many votes: with few corrections nothing can be seen, and on the three sets of intents it helps or does
nothing.
"""

import math
from collections.abc import Generator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model import turning
from model.features import kernel
from model.solving import kernels, solve
from model.steps import within

SHARE = 0.5  # of the learned turn
NOISES = (0.03, 0.1, 0.3)
USUAL = 0.1  # where nothing can be seen
DRAWN = 6_000  # corrections at most
FEWEST = 20  # votes
TOLD = 0.3  # share of them that are right without a turn, from which on one is tried


class Choice(NamedTuple):
    """The share of a learned turn, and the noise of a correction."""

    share: float
    noise: float


def choose(keys: Tensor, answers: Tensor, sharpness: float, seed: int) -> Generator[float, None, Choice]:
    """For unit keys (n, key_width) with answers (n,); yields the share of the work that is done."""
    drawn = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))[:DRAWN]
    keys, answers = keys[drawn], torch.from_numpy(np.unique(answers[drawn].numpy(), return_inverse=True)[1])
    taught = 2 * len(drawn) // 3
    asked = taught + torch.isin(answers[taught:], answers[:taught]).nonzero()[:, 0]
    if len(asked) < FEWEST:
        return Choice(0.0, USUAL)

    def best(turn: Tensor, share: float) -> Generator[float, None, tuple[Choice, Tensor]]:
        at = keys.clone()
        turning.turn_(at, share * turn)
        found: list[tuple[Choice, Tensor]] = []
        for noise in NOISES:
            begin, end = len(found) / len(NOISES), (len(found) + 1) / len(NOISES)
            near = yield from within(kernels(at[:taught], sharpness), begin, begin)
            near.add_to_diagonal(noise)
            errors = torch.zeros(taught, int(answers.max()) + 1).scatter_(1, answers[:taught, None], 1.0)
            yield from within(solve(near, errors), begin, end)
            del near  # what is asked takes half of that
            said = (kernel(at[asked] @ at[:taught].T, sharpness) @ errors).argmax(dim=1)
            found.append((Choice(share, noise), said == answers[asked]))
        return max(found, key=lambda one: (int(one[1].sum()), -abs(math.log(one[0].noise / USUAL))))

    plain, right = yield from within(best(torch.zeros(keys.shape[1], keys.shape[1]), 0.0), 0.0, 0.3)
    if float(right.float().mean()) < TOLD:
        return plain
    turn = yield from within(turning.learn(keys[:taught], answers[:taught], seed=seed), 0.3, 0.7)
    turned, there = yield from within(best(turn, SHARE), 0.7, 1.0)
    gained, lost = int((there & ~right).sum()), int((right & ~there).sum())
    return turned if lost - gained <= math.sqrt(gained + lost) else plain
