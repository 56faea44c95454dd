"""Learning where keys lie: a linear turn W of the keys, z = (x + W x) / |x + W x|, after which what has one answer lies together.

A memory reads a key by its neighbours, so W is learned on just that: each correction is left out, and the others vote for its answer with
a weight that falls with their distance (neighbourhood component analysis, Goldberger et al. 2005),

    loss = −mean_i ln Σ_{j≠i, same answer} exp(s z_i·z_j) / Σ_{j≠i} exp(s z_i·z_j)

over corrections that have another one with their answer. From W = 0 by few steps of Adam: it stays near to the keys as the encoder gives
them, which is all that keeps a bank of some hundred corrections from learning them by heart. Prototypes of answers, trained by
cross-entropy instead, made the memory worse (docs/journal.md).
"""

import math
from collections.abc import Generator

import torch
from torch import Tensor
from torch.nn.functional import normalize

SHARPNESS = 20.0  # s
RATE = 2e-3
FEWEST_STEPS, MOST_STEPS, MORE = 30, 120, 100  # steps: the fewest and one more for every so many corrections
VOTERS, ASKED = 1_500, 256  # corrections drawn for a step: so many vote, on so many of them
ROWS = 1_024  # keys that are turned at once


def steps_for(corrections: int) -> int:
    """Steps that so many corrections are worth."""
    return min(FEWEST_STEPS + corrections // MORE, MOST_STEPS)


def turned(keys: Tensor, turn: Tensor) -> Tensor:
    """(n, key_width) keys as `Slow.turned` turns each, up to rounding."""
    return normalize(keys + keys @ turn.T, dim=1)


def turn_(keys: Tensor, turn: Tensor) -> None:
    """Overwrite keys (n, key_width) with `turned` ones, some rows at a time."""
    for begin in range(0, len(keys), ROWS):
        keys[begin : begin + ROWS] = turned(keys[begin : begin + ROWS], turn)


def loss_of(turn: Tensor, keys: Tensor, answers: Tensor, asked: int) -> Tensor:
    """The loss of the first `asked` of keys (n, key_width) with answers (n,) under the votes of all; 0 where no two say the same."""
    at = turned(keys, turn)
    votes = SHARPNESS * at[:asked] @ at.T
    own = torch.eye(asked, len(keys), dtype=torch.bool)
    agree = (answers[:asked, None] == answers[None]) & ~own
    votes = votes.masked_fill(own, -math.inf)
    told = agree.any(dim=1)
    if not bool(told.any()):
        return turn.sum() * 0.0
    right = votes[told].masked_fill(~agree[told], -math.inf).logsumexp(dim=1)
    return (votes[told].logsumexp(dim=1) - right).mean()


def learn(keys: Tensor, answers: Tensor, *, seed: int) -> Generator[float, None, Tensor]:
    """W (key_width, key_width) for unit keys (n, key_width) with answers (n,); yields the share that is done, step by step."""
    drawn = torch.Generator().manual_seed(seed)
    turn = torch.zeros(keys.shape[1], keys.shape[1], requires_grad=True)
    rule, steps = torch.optim.Adam([turn]), steps_for(len(keys))
    for step in range(steps):
        chosen = torch.randperm(len(keys), generator=drawn)[:VOTERS]
        rule.param_groups[0]["lr"] = RATE * 0.5 * (1.0 + math.cos(math.pi * step / steps))
        rule.zero_grad()
        torch.autograd.backward(loss_of(turn, keys[chosen], answers[chosen], min(ASKED, len(chosen))))
        rule.step()
        yield (step + 1) / steps
    return turn.detach()
