"""What a memory is made of: sizes, seeds, periods, rates. Part of a bank's identity: a state fits one configuration only."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

FORMAT = 5  # of the state's tensors; raise it when their meaning changes
LEVELS = ("fast", "middle", "slow")  # in the order of their periods
FAST, MIDDLE, SLOW = LEVELS
PLACES = 1_024  # of the slow level, whose errors lie together
WIDEST_KEY = 512  # numbers that a key may have: the random directions come in blocks of this width
READING = ("young", "settled", "growth", "abstain_below")  # how a state is read, not what it is

Weights = tuple[float, float, float, float]  # of score, ln score, margin and 1


@dataclass(frozen=True, slots=True)
class RecallConfig:
    """Configuration of the associative memory. The defaults hold 13.1 MiB of weights, and 44 bytes for each distinct answer.

    `middle_period` and `slow_period` are in encoder tokens (hope.md, continuum memory system); the fast level is written on
    every event.

    Raises:
        ValueError: values that contradict each other, naming them.
    """

    encoder_digest: str  # SHA-256 of the weights that made the keys
    key_width: int = 384
    code_width: int = 256  # numbers in an answer's code, a multiple of 8
    window: int = 2_048  # fast level: pairs of key and error that it holds exactly
    neighbours: int = 12  # pairs that a lesson writes again beside its own: those that it touches most
    rate: float = 3.0  # η of a write: a pair is moved by η / (1 + η) of its error; the newest takes the rest as well
    own_words: float = 0.5  # share of that rate for an answer's own words, taught with its first lesson; 0: they are not
    same: float = 0.99  # cosine from which two situations are one: the newer answer is that of both
    sharpness: float = 5.0  # β of the kernel exp(β(x·x' − 1))
    frequencies: int = 1_920  # middle level: random frequencies, two features each; 0: what has no room elsewhere is gone
    places: int = 6_144  # slow level: corrections that it holds, a multiple of 1,024 or a multiple of 8 below it
    slow_sharpness: float = 3.0  # β there: what many corrections say together reaches further than a single lesson
    slow_from: int = 100  # corrections that hold from which a consolidation trains the slow level; fewer are told apart by the others
    replaced_at: float = 0.2  # evidence at which an answer counts as replaced by the one that grew out of it
    replaced_step: float = 0.1  # evidence that each lesson gives, beside the margin of the answer that was wrong
    middle_period: int = 16
    slow_period: int = 1_000_000
    max_responses: int = 32_768
    seed: int = 11
    young: Weights = (-15.9, 2.8, 17.8, 7.5)  # confidence, before a slow level is made: the logistic of what they give to a score
    settled: Weights = (-8.2, 2.0, 10.8, 4.6)  # and from then on, at 128 corrections (`python -m bench calibration`)
    growth: Weights = (0.76, 0.5, -1.45, 0.24)  # added to these for e times as many; score and margin together stay above zero
    abstain_below: float = 0.12

    def __post_init__(self) -> None:
        wrong = []
        if self.code_width % 8 or not 8 <= self.code_width <= 4_096:
            wrong.append(f"code_width {self.code_width} is not a multiple of 8 between 8 and 4,096")
        if not 0 <= self.neighbours < self.window:
            wrong.append(f"neighbours {self.neighbours} is not between 0 and window {self.window}")
        if not 0.01 <= self.rate <= 100.0 or not (self.own_words == 0.0 or 0.01 <= self.own_words <= 1.0):
            wrong.append(f"rate {self.rate} is not within 0.01 and 100, or own_words {self.own_words} is not 0 and not within 0.01 and 1")
        if not 0.0 < self.same <= 1.0:
            wrong.append(f"same {self.same} is not a positive cosine")
        if not 0.0 < self.replaced_at < math.inf or not 0.0 <= self.replaced_step < math.inf:
            wrong.append(f"replaced_at {self.replaced_at} and replaced_step {self.replaced_step} must be finite, the first positive")
        if not 1 < self.middle_period < self.slow_period:
            wrong.append(f"periods 1, {self.middle_period}, {self.slow_period} do not grow")
        if self.window <= self.reserve:
            wrong.append(f"window {self.window} is not above {self.reserve}, the pairs that one middle_period may bring")
        if min(self.key_width, self.places, self.max_responses, self.frequencies + 1) < 1 or not all(
            0.0 < sharpness < math.inf for sharpness in (self.sharpness, self.slow_sharpness)
        ):
            wrong.append("key_width, places, max_responses and sharpnesses must be positive and finite, frequencies not below zero")
        if self.places % 8 or (self.places > PLACES and self.places % PLACES):
            wrong.append(f"places {self.places} is not a multiple of {8 if self.places < PLACES else PLACES}")
        if self.slow_from < 2:
            wrong.append(f"slow_from {self.slow_from} is not at least 2: one correction is like no other")
        if self.key_width > WIDEST_KEY:
            wrong.append(f"key_width {self.key_width} is more than {WIDEST_KEY}")
        if wrong:
            raise ValueError("; ".join(wrong))

    @classmethod
    def tiny(cls, *, encoder_digest: str, **changes: Any) -> "RecallConfig":  # noqa: ANN401
        """A memory of a megabyte for tests: the same mathematics, less capacity."""
        return replace(cls(encoder_digest, code_width=128, window=128, frequencies=256, places=64, max_responses=4_096), **changes)

    @property
    def reserve(self) -> int:
        """Pairs that may come between two writes of the middle level: a token is the least that a lesson has, and it brings two at most."""
        return 2 * self.middle_period

    @property
    def hash(self) -> str:
        """SHA-256 of everything that the bits of a state depend on, hex."""
        named = {**asdict(self), "format": FORMAT}
        for reading in READING:
            del named[reading]  # may be tuned without refolding any bank
        return hashlib.sha256(json.dumps(named, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def period_of(self, level: str) -> int:
        """Tokens between two changes of a level; 0 for a level that changes on every event."""
        return {FAST: 0, MIDDLE: self.middle_period, SLOW: self.slow_period}[level]
