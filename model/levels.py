"""The level clock: a level changes exactly when the bank's token clock crosses a multiple of its period (Nested Learning §3.1, CMS).

Time is counted in encoder tokens of the events that were learned, so it is a property of the history and not of a machine.
"""

from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class Clock:
    """How much a bank has learned: tokens and events."""

    tokens: int = 0
    events: int = 0

    def after(self, tokens: int) -> "Clock":
        """The clock after one more event of `tokens` tokens."""
        return Clock(self.tokens + tokens, self.events + 1)

    def as_dict(self) -> dict[str, int]:
        """For rows and manifests."""
        return asdict(self)


def crossings(before: Clock, after: Clock, period: int) -> int:
    """How many multiples of `period` lie in (before, after]; period 0 means every event."""
    if period == 0:
        return after.events - before.events
    return after.tokens // period - before.tokens // period
