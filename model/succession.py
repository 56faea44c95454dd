"""Which answers have been replaced by which: a policy that changed, learned from corrections.

When the memory says an answer A, where A is at home, and is corrected to an answer that was born there, and that happens again and again,
and A itself is never right any more, then A has been replaced: where the memory only *infers* A it says the successor. A new answer that
belongs beside A looks different: the memory is unsure where it first appears, its situations lie at the edge of A's, and A goes on being
right. What was taught in so many words stays until it is corrected there: a score of `CERTAIN` or more speaks for itself.

    born      B is first taught where the memory said A, and was sure:      parent(B) = A, evidence(B) = 0
    grows     each later time that A, at home, is corrected to B:           evidence(B) += step + margin of A over the runner-up
    shrinks   each time that another answer is corrected to B:              evidence(B) −= step
    replaced  evidence(B) is above the threshold:                           A → B, and A speaks for B from then on
    confirmed B is taught where A, at home, speaks for it:                  evidence(B) += step + lead of A's own score over B's
    doubted   B is taught where it is surely said, louder than A by itself: evidence(B) −= step + margin of B over the runner-up
    ended     evidence(B) is below zero by doubts:                          A speaks for itself again
    refuted   A is taught:     A → B ends for good, and the evidence of all other children of A begins again

Sure: a margin of at least `SURE`. At home: `window.at_home`. Lessons of one answer in a row say less than lessons between others: that may
be an import that is sorted by answer, in which no answer is ever right again. So in a row margin and lead count `IN_A_ROW` at most, and it
takes more to be at home. Without all this, facts of one kind (native languages, capitals) and neighbours in an import replaced each other.

Doubts: where B has replaced A it lies among A's situations, and what A was taught there is louder at first. Where B has situations of its
own it soon speaks for itself. Who corrects only what is wrong never teaches B where it is surely said, so nothing is doubted then: there a
consolidation looks (`model/parting.py`).

Rows are the distinct answers that the memory has been taught, in the order of their first lessons: `codes`, `kin` (parent and successor, −1
for none) and `evidence`.
"""

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from model.codes import Packed, Vector
from model.state import Named

PARENT, SUCCESSOR = range(2)  # columns of `kin`
SURE = 0.05
IN_A_ROW = 0.1
CERTAIN = 0.8
NOISE = 2.0  # standard deviations of a score between a read-out and a code that has nothing to do with it

Rows = NDArray[np.intp]


class Heard(NamedTuple):
    """What the memory said where an answer was taught."""

    said: int  # the row of the loudest answer; −1: nothing
    margin: float  # by how much over the next
    lead: float = 0.0  # by how much the own score of what was taught was above that of the answer that it was born of
    home: bool = True  # whether that one is at home there
    in_a_row: bool = False  # whether the lesson before taught the same


def find(fast: Named, packed: Packed) -> int | None:
    """The row of an answer."""
    rows = np.flatnonzero((fast["codes"].numpy() == packed).all(axis=1))
    return int(rows[0]) if len(rows) else None


def add(fast: Named, packed: Packed, said: int, margin: float) -> int:
    """A new answer, born where the memory said `said` (−1: nothing) by so much over the runner-up; its row."""
    parent = said if margin >= SURE else -1
    fast["codes"] = torch.cat([fast["codes"], torch.from_numpy(packed.copy())[None]])
    fast["kin"] = torch.cat([fast["kin"], torch.tensor([[parent, -1]], dtype=torch.int32)])
    fast["evidence"] = torch.cat([fast["evidence"], torch.zeros(1, 1)])
    return len(fast["kin"]) - 1


def taught(fast: Named, right: int, heard: Heard, *, step: float, threshold: float) -> None:
    """The answer `right`, not for the first time, was taught where the memory was `heard` to say something."""
    kin, evidence = fast["kin"], fast["evidence"]
    if (refuted := int(kin[right, SUCCESSOR])) >= 0:
        kin[right, SUCCESSOR] = kin[refuted, PARENT] = -1
    evidence[kin[:, PARENT] == right] = 0.0
    parent, most = int(kin[right, PARENT]), IN_A_ROW if heard.in_a_row else math.inf
    if parent < 0 or heard.said < 0:
        return
    if heard.said == right:
        if heard.lead > 0.0 and heard.margin >= SURE:
            evidence[right] -= step + min(heard.margin, most)
            if evidence[right] < 0.0 and kin[parent, SUCCESSOR] == right:
                kin[parent, SUCCESSOR] = -1
        elif heard.lead <= 0.0 and heard.home and kin[parent, SUCCESSOR] == right:
            evidence[right] += step + min(-heard.lead, most)
    elif heard.said != parent:
        evidence[right] -= step
    elif heard.home:
        evidence[right] += step + min(heard.margin, most)
        if evidence[right] > threshold and kin[parent, SUCCESSOR] < 0:
            kin[parent, SUCCESSOR] = right  # no circle: `right` has no successor


def become(fast: Named) -> Rows:
    """(answers,) the row of what each answer has become by now: itself, or the last of those that replaced it."""
    successors = fast["kin"][:, SUCCESSOR].numpy()
    last = np.where(successors >= 0, successors, np.arange(len(successors)))
    while ((further := last[last]) != last).any():  # as far again in every round
        last = further
    return last


def replaced(fast: Named) -> tuple[Rows, Rows]:
    """The rows of answers that have been replaced, and of what they have become."""
    old = np.flatnonzero(fast["kin"][:, SUCCESSOR].numpy() >= 0)
    return old, become(fast)[old] if len(old) else old


def speak_for(scores: Vector, old: Rows, new: Rows, noise: float) -> Vector:
    """Scores (n,) in which what was replaced (`old`) speaks for what it has become (`new`), where it was only inferred.

    `noise` is the standard deviation of a score that means nothing: over a long chain of successions such scores would add up.
    """
    if not len(old):
        return scores
    moved = np.where(inferred(scores, old, noise), scores[old], np.float32(0.0))
    scores = scores.copy()
    np.add.at(scores, new, moved)
    scores[old] -= moved
    return scores


def inferred(scores: Vector, old: Rows, noise: float) -> NDArray[np.bool_]:
    """(old,) which of the replaced answers were only inferred, so that another speaks for them."""
    return np.asarray((scores[old] > NOISE * noise) & (scores[old] < CERTAIN))
