"""How far keys are turned and how much of a correction is noise: chosen by what corrections say of each other when each is left out.

In kernel ridge regression E = (K + noise)⁻¹ V the answer at correction i without it has a closed form, V_i − E_i / (K + noise)⁻¹_ii. A turn
is learned on one half of the corrections and judged on the other half, which it has not seen, with all of them as neighbours. It is kept
only where most corrections are told by others at all, and more of them with the turn than chance would have it. Who alone says an answer
has no vote, since nobody is left to say it: a bank of single facts is not turned.
"""

import math
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from model import turning
from model.features import kernel
from model.steps import within

NOISES = (0.03, 0.1, 0.3)
USUAL = 0.1  # where nothing speaks for another
SHARES = (0.5, 1.0)  # of the learned turn
ASKED = 2_500  # corrections that are drawn for it
FEWEST = 40  # votes, and which share of them must be right before keys are turned
TOLD = 0.5


class Choice(NamedTuple):
    """The share of a turn, 0 where none helps, and the noise of a correction."""

    share: float
    noise: float


def choose(keys: Tensor, answers: Tensor, sharpness: float, seed: int) -> Generator[float, None, Choice]:
    """For unit keys (n, key_width) with answers (n,); yields the share that is done."""
    drawn = torch.randperm(len(keys), generator=torch.Generator().manual_seed(seed))[:ASKED]
    some, (_, told, counts) = keys[drawn], answers[drawn].unique(return_inverse=True, return_counts=True)
    half = len(drawn) // 2
    votes = (counts[told] > 1) & (torch.arange(len(drawn)) >= half)
    if int(votes.sum()) < FEWEST:
        return Choice(0.0, USUAL)
    turn = torch.zeros(keys.shape[1], keys.shape[1])
    best, right = Choice(0.0, USUAL), torch.zeros(int(votes.sum()), dtype=torch.bool)
    for done, share in enumerate((0.0, *SHARES)):
        if share and not turn.any():
            if float(right.float().mean()) < TOLD:
                break
            turn = yield from within(turning.learn(some[:half], told[:half], seed=seed), 0.2, 0.7)
        at = turning.turned(some, share * turn)
        found = [(Choice(share, noise), left_out(at, told, sharpness, noise)[votes]) for noise in NOISES]
        choice, there = max(found, key=lambda one: (int(one[1].sum()), -abs(math.log(one[0].noise / USUAL))))
        if not share or _more(there, right):
            best, right = choice, there
        yield (0.2, 0.85, 1.0)[done]
    return best


def left_out(keys: Tensor, answers: Tensor, sharpness: float, noise: float) -> Tensor:
    """(n,) whether each correction is answered right by the others."""
    near = kernel(keys @ keys.T, sharpness)
    near.diagonal().add_(noise)
    codes, inverse = one_hot(answers).float(), torch.cholesky_inverse(torch.linalg.cholesky(near))
    said = codes - (inverse @ codes) / inverse.diagonal()[:, None]
    return said.argmax(dim=1) == answers


def _more(these: Tensor, those: Tensor) -> bool:
    """Whether there are more right in `these` (n,) than in `those`, by more than the noise of so many that differ."""
    gained, lost = int((these & ~those).sum()), int((those & ~these).sum())
    return gained - lost > math.sqrt(gained + lost)
