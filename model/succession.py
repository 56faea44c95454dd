"""Which answers have been replaced by which: a policy that changed, learned from corrections.

When an answer A that was taught often, and of which the memory is sure, is corrected to an answer that nobody has given before, and then
again, while A itself is never right any more, then A has been replaced, in every wording and not only near the corrected ones. A new answer
that belongs beside A looks different: the memory is unsure where it first appears, and A goes on being right.

    born      B is first taught where the memory said A, and was sure:         parent(B) = A, evidence(B) = 0
    grows     each later time that A is corrected to B:                        evidence(B) += margin of A over the runner-up + step
    shrinks   each time that another answer is corrected to B:                 evidence(B) −= step
    replaced  evidence(B) is above the threshold, and A was taught often:      A → B, and A speaks for B from then on
    refuted   A is taught:       A → B ends for good, and the evidence of all other children of A begins again

Sure: a margin of at least `SURE`. Often: `ESTABLISHED` lessons or more; an answer that was taught once or twice is replaced where it was
corrected and nowhere else. Without these two, facts of one kind (native languages, capitals) replace each other.

Rows are the distinct answers that the memory has been taught, in the order of their first lessons: `codes`, `kin` (parent and successor,
−1 for none, and the number of lessons) and `evidence`.
"""

import numpy as np
import torch
from numpy.typing import NDArray

from model.codes import Packed, Vector
from model.state import Named

PARENT, SUCCESSOR, LESSONS = range(3)  # columns of `kin`
SURE = 0.05
ESTABLISHED = 3
NOISE = 2.0  # standard deviations of a score between a read-out and a code that has nothing to do with it

Rows = NDArray[np.intp]


def find(fast: Named, packed: Packed) -> int | None:
    """The row of an answer."""
    rows = np.flatnonzero((fast["codes"].numpy() == packed).all(axis=1))
    return int(rows[0]) if len(rows) else None


def add(fast: Named, packed: Packed, said: int, margin: float) -> int:
    """A new answer, born where the memory said `said` (−1: nothing) by so much over the runner-up; its row."""
    parent = said if margin >= SURE else -1
    fast["codes"] = torch.cat([fast["codes"], torch.from_numpy(packed.copy())[None]])
    fast["kin"] = torch.cat([fast["kin"], torch.tensor([[parent, -1, 0]], dtype=torch.int32)])
    fast["evidence"] = torch.cat([fast["evidence"], torch.zeros(1, 1)])
    return len(fast["kin"]) - 1


def taught(fast: Named, right: int, said: int, margin: float, *, step: float, threshold: float) -> None:
    """The answer `right` was taught where the memory said `said` (−1: nothing), by so much over the runner-up."""
    kin, evidence = fast["kin"], fast["evidence"]
    if (refuted := int(kin[right, SUCCESSOR])) >= 0:
        kin[right, SUCCESSOR] = kin[refuted, PARENT] = -1
    evidence[kin[:, PARENT] == right] = 0.0
    parent, born = int(kin[right, PARENT]), int(kin[right, LESSONS]) == 0
    kin[right, LESSONS] += 1
    if parent < 0 or said < 0 or said == right or born:
        return
    evidence[right] += margin + step if said == parent else -step
    if said == parent and evidence[right] > threshold and kin[said, SUCCESSOR] < 0 and kin[said, LESSONS] >= ESTABLISHED:
        kin[said, SUCCESSOR] = right  # no circle: `right` has no successor


def become(fast: Named) -> Rows:
    """(answers,) the row of what each answer has become by now: itself, or the last of those that replaced it."""
    successors = fast["kin"][:, SUCCESSOR].numpy()
    last = np.arange(len(successors))
    while (further := successors[last] >= 0).any():
        last[further] = successors[last[further]]
    return last


def replaced(fast: Named) -> tuple[Rows, Rows]:
    """The rows of answers that have been replaced, and of what they have become."""
    old = np.flatnonzero(fast["kin"][:, SUCCESSOR].numpy() >= 0)
    return old, become(fast)[old] if len(old) else old


def speak_for(scores: Vector, old: Rows, new: Rows, noise: float) -> Vector:
    """Scores (n,) in which what was replaced (`old`) speaks for what it has become (`new`), where it says more than noise.

    `noise` is the standard deviation of a score that means nothing: over a long chain of successions such scores would add up.
    """
    if not len(old):
        return scores
    moved = np.where(scores[old] > NOISE * noise, scores[old], np.float32(0.0))
    scores = scores.copy()
    np.add.at(scores, new, moved)
    scores[old] -= moved
    return scores
