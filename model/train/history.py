"""What a training run tells while it runs, and all of it at the end."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from torch import nn


@dataclass(frozen=True, slots=True)
class Stepped:
    """A step was made. `loss` is nats per target, `norm` the gradient's before clipping, `seconds` what the step took."""

    step: int
    tokens: int
    loss: float
    rate: float
    norm: float
    step_tokens: int
    seconds: float

    @property
    def tokens_per_s(self) -> float:
        """Training tokens per second in this step."""
        return self.step_tokens / self.seconds if self.seconds > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Evaluated:
    """Validation scores by name: `loss`, `bits_per_byte`, ..."""

    step: int
    tokens: int
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Saved:
    """A checkpoint is safe on disk."""

    step: int
    tokens: int
    place: Path


Event = Stepped | Evaluated | Saved
OnEvent = Callable[[Event], None]
Evaluate = Callable[[nn.Module], dict[str, float]]


@dataclass(slots=True)
class History:
    """Everything since the run began or was resumed. `finished` is false where it was stopped before its budget was used up."""

    steps: list[Stepped] = field(default_factory=list)
    evaluations: list[Evaluated] = field(default_factory=list)
    finished: bool = False

    @property
    def tokens_per_s(self) -> float:
        """Training tokens per second of training time: evaluations and checkpoints do not count."""
        seconds = sum(step.seconds for step in self.steps)
        return sum(step.step_tokens for step in self.steps) / seconds if seconds > 0 else 0.0

    @property
    def scores(self) -> dict[str, float]:
        """The last evaluation; empty without one."""
        return self.evaluations[-1].scores if self.evaluations else {}
