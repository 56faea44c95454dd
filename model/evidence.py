"""Evidence in so many words: how sure an answer is once the texts are compared, that which is asked and that which was taught.

The score of a memory says how near a question is to what was taught, not whether it is about the same thing. Where the correction that
supports an answer names something (`model.wording`), the names decide: are they in the question, and what does the question name instead?
Where it names nothing, as in requests and commands, the score is all there is, and the confidence of the memory stays as it was.

The confidence is a logistic of the features below and of ten products of them. `docs/journal.md` says how the weights were found.
"""

from dataclasses import dataclass
from math import exp, log

from model.answering import LEAST, Candidate
from model.wording import RARITY, Wording

RAREST, MUCH = 7.0, 20.0  # rarities are divided by these: of one piece, and of all of a text

WEIGHTS = {
    "score": -13.82,
    "margin": 12.47,
    "familiar": 3.085,
    "cosine": 0.3914,
    "taught": -0.4876,
    "found": 4.402,
    "explained": -0.7402,
    "rarest_missing": 2.14,
    "rarest_new": -1.1,
    "missing": 0.3656,
    "new": 0.3169,
    "names_missing": -3.647,
    "names_new": -0.3846,
    "names_found": 3.034,
    "rarest_name_missing": -0.4516,
    "rarest_name_new": 0.3114,
    "named": -0.8516,
}
PRODUCTS = {
    ("found", "rarest_name_missing"): -6.643,
    ("named", "named"): 0.3719,
    ("found", "found"): -3.142,
    ("margin", "margin"): 2.908,
    ("found", "margin"): -1.848,
    ("rarest_name_missing", "margin"): -2.161,
    ("rarest_name_missing", "cosine"): 4.17,
    ("rarest_name_missing", "rarest_name_new"): -3.29,
    ("named", "found"): 2.345,
    ("named", "cosine"): -2.446,
}
BIAS = 6.221


@dataclass(frozen=True, slots=True)
class Overlap:
    """What two wordings share, weighed by how rare it is. *Missing*: taught and not asked; *new*: asked and not taught; *found*: both."""

    found: float  # share of what was taught that is in the question
    explained: float  # share of the question that was taught
    missing: float
    new: float
    rarest_missing: float
    rarest_new: float
    names_found: float
    names_missing: float
    names_new: float
    rarest_name_missing: float
    rarest_name_new: float
    named: float  # share of the names that were taught that are in the question


def overlap(asked: Wording, taught: Wording) -> Overlap:
    """Compare what is asked with what was taught."""
    both = _weight(taught.pieces & asked.pieces)
    missing, new = taught.pieces - asked.pieces, asked.pieces - taught.pieces
    names_missing, names_new = taught.names - asked.pieces, asked.names - taught.pieces
    names_found = _weight(taught.names & asked.pieces)
    return Overlap(
        found=_share(both, _weight(missing)),
        explained=_share(both, _weight(new)),
        missing=_weight(missing) / MUCH,
        new=_weight(new) / MUCH,
        rarest_missing=_rarest(missing),
        rarest_new=_rarest(new),
        names_found=names_found / MUCH,
        names_missing=_weight(names_missing) / MUCH,
        names_new=_weight(names_new) / MUCH,
        rarest_name_missing=_rarest(names_missing),
        rarest_name_new=_rarest(names_new),
        named=_share(names_found, _weight(names_missing)),
    )


def confidence(candidate: Candidate, cosine: float, corrections: int, between: Overlap) -> float:
    """How sure a candidate is, 0 to 1. Of its `corrections` the one nearest to the question has this cosine and overlap with it."""
    if between.names_found + between.names_missing == 0.0:
        return candidate.confidence
    features = {name: float(getattr(between, name)) for name in Overlap.__slots__}
    features |= {
        "score": candidate.score,
        "margin": candidate.margin,
        "familiar": log(max(candidate.score, LEAST)),
        "cosine": cosine,
        "taught": log(max(corrections, 1)),
    }
    evidence = BIAS + sum(weight * features[name] for name, weight in WEIGHTS.items())
    evidence += sum(weight * features[one] * features[other] for (one, other), weight in PRODUCTS.items())
    return 1.0 / (1.0 + exp(-evidence))


def _weight(pieces: frozenset[int]) -> float:
    return sum(RARITY[piece] for piece in sorted(pieces))  # in one order: a sum of floats must not depend on a set's


def _rarest(pieces: frozenset[int]) -> float:
    return max((RARITY[piece] for piece in pieces), default=0.0) / RAREST


def _share(part: float, rest: float) -> float:
    return part / (part + rest) if part + rest else 1.0
