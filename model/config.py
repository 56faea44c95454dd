"""What a memory is made of: sizes, seeds, periods, step size. Part of a bank's identity: a state fits one configuration only."""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, replace
from typing import Any

FORMAT = 1  # of the state's tensors; raise it when their meaning changes
LEVELS = ("fast", "middle", "slow")  # in the order of their periods
FAST, MIDDLE, SLOW = LEVELS
WIDEST_KEY = 512  # numbers that a key may have: the random directions come in blocks of this width


@dataclass(frozen=True, slots=True)
class RecallConfig:
    """Configuration of the associative memory. The defaults hold 14 MiB of weights.

    `middle_period` and `slow_period` are in encoder tokens (hope.md, continuum memory system); the fast level is written on
    every event. `share` is the part of the read-out that the middle level gives when both know a key.

    Raises:
        ValueError: values that contradict each other, naming them.
    """

    encoder_digest: str  # SHA-256 of the weights that made the keys
    key_width: int = 384
    code_width: int = 256  # numbers in a response's code, a multiple of 8
    units: int = 5_120  # fast level: random half-spaces, of which the `active` closest to a key stand for it
    active: int = 128
    frequencies: int = 4_608  # middle level: random frequencies, two features each
    sharpness: float = 4.5  # β of the middle level's kernel exp(β(x·x' − 1))
    share: float = 0.7
    step: float = 1.0  # η of the delta rule; 1 makes the newest lesson exact at its key
    middle_period: int = 16
    slow_period: int = 1_000_000
    max_responses: int = 32_768
    seed: int = 11
    score_weight: float = 3.0  # confidence = logistic(score_weight · score + margin_weight · margin + bias), see docs/journal.md
    margin_weight: float = 13.3
    bias: float = -1.6
    abstain_below: float = 0.25

    def __post_init__(self) -> None:
        wrong = []
        if self.code_width % 8 or not 8 <= self.code_width <= 4_096:
            wrong.append(f"code_width {self.code_width} is not a multiple of 8 between 8 and 4,096")
        if not 0 < self.active < self.units:
            wrong.append(f"active {self.active} is not between 0 and units {self.units}")
        if not 0.0 <= self.share <= 1.0 or not 0.0 < self.step <= 1.0:
            wrong.append(f"share {self.share} or step {self.step} is not within 0 and 1")
        if not 1 < self.middle_period < self.slow_period:
            wrong.append(f"periods 1, {self.middle_period}, {self.slow_period} do not grow")
        if min(self.key_width, self.frequencies, self.max_responses) < 1 or not 0.0 < self.sharpness < math.inf:
            wrong.append("key_width, frequencies, max_responses and sharpness must be positive and finite")
        if self.key_width > WIDEST_KEY:
            wrong.append(f"key_width {self.key_width} is more than {WIDEST_KEY}")
        if wrong:
            raise ValueError("; ".join(wrong))

    @classmethod
    def tiny(cls, *, encoder_digest: str, **changes: Any) -> "RecallConfig":  # noqa: ANN401
        """A memory of half a megabyte for tests: the same mathematics, less capacity."""
        return replace(cls(encoder_digest, code_width=128, units=512, active=16, frequencies=256, max_responses=4_096), **changes)

    @property
    def hash(self) -> str:
        """SHA-256 of everything that the bits of a state depend on, hex."""
        named = {**asdict(self), "format": FORMAT}
        for reading in ("score_weight", "margin_weight", "bias", "abstain_below"):
            del named[reading]  # how a state is read, not what it is: may be tuned without refolding any bank
        return hashlib.sha256(json.dumps(named, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def period_of(self, level: str) -> int:
        """Tokens between two changes of a level; 0 for a level that changes on every event."""
        return {FAST: 0, MIDDLE: self.middle_period, SLOW: self.slow_period}[level]
