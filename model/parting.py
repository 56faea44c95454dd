"""Which answers live side by side: successions that the corrections of both answers speak against, ended by a consolidation.

A fold sees one lesson after the other. In a stream that is sorted by answer, or where one kind of request is over, an answer that is never
right again looks replaced by a neighbour that was born of it (`model/succession.py`). A consolidation has the corrections of both. Where
one has replaced the other they lie in the same situations, and no key tells which of the two was taught there. So each of these corrections
is held back, and a kernel ridge regression on the others, in which both answers weigh the same, says whose it is:

    yᵢ − (A y)ᵢ / Aᵢᵢ        A = (K + N)⁻¹,  y = −1 for the old and 1 for the new answer        (leave-one-out in closed form)

Where at least `KNOWN` of both are told rightly, and by more than chance, both answers live, and neither is the other's any more. On streams
with a policy change .0 to .56 of both were told rightly where one had replaced the other; .90 to 1.0 of answers that live side by side and
passed as replaced in a stream that was sorted by class (docs/journal.md).
"""

import math
from collections.abc import Generator

import torch
from torch import Tensor

from model.features import kernel
from model.state import Named
from model.succession import PARENT, SUCCESSOR

NOISE = 0.1  # of a correction, where both answers have as many
MOST = 200  # newest corrections of an answer that are looked at
KNOWN = 0.75  # share of the corrections that are told rightly, a half from each answer; ½ is what says nothing
CHANCE = 3.0  # standard deviations by which it must be above that


def part(fast: Named, keys: Tensor, answers: Tensor, sharpness: float) -> Generator[float, None, None]:
    """End in `fast` the successions of answers that live side by side, and that one was born of the other.

    By corrections that hold, in the order in which they were taught: keys (n, key_width), rows of their answers (n,). Yields the share
    that is done.
    """
    kin, evidence = fast["kin"], fast["evidence"]
    born = (kin[:, PARENT] >= 0).nonzero()[:, 0].tolist()
    order = answers.argsort(stable=True)
    ends = torch.bincount(answers, minlength=len(kin)).cumsum(0).tolist()
    of = [order[max(begin, end - MOST) : end] for begin, end in zip([0, *ends], ends, strict=False)]
    for done, new in enumerate(born, 1):
        old = int(kin[new, PARENT])
        if apart(keys[of[old]], keys[of[new]], sharpness):
            if int(kin[old, SUCCESSOR]) == new:
                kin[old, SUCCESSOR] = -1
            kin[new, PARENT], evidence[new] = -1, 0.0
        yield done / len(born)


def apart(old: Tensor, new: Tensor, sharpness: float) -> bool:
    """Whether corrections of two answers, keys (m, key_width) and (n, key_width), are told apart by all others of both."""
    counts = len(old), len(new)
    least = max(KNOWN, 0.5 + CHANCE * 0.25 * math.sqrt(sum(1.0 / max(1, count) for count in counts)))
    if min(counts) < 2 or least > 1.0:
        return False  # so few would be told rightly by chance
    keys = torch.cat([old, new]).double()
    side = torch.repeat_interleave(torch.tensor([-1.0, 1.0], dtype=torch.float64), torch.tensor(counts))
    among = kernel(keys @ keys.T, sharpness)
    among.diagonal().add_(NOISE * 2.0 / len(keys) * torch.tensor(counts, dtype=torch.float64).repeat_interleave(torch.tensor(counts)))
    inverse = torch.linalg.inv(among)
    told = (side - inverse @ side / inverse.diagonal()) * side > 0.0
    return (float(told[: counts[0]].double().mean()) + float(told[counts[0] :].double().mean())) / 2.0 >= least
