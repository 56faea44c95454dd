"""The knee: the highest rate that a service keeps up with, found from below in steps of a quarter."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

Played = TypeVar("Played")

FACTOR = 1.25
TRIES = 2  # a step is bad when it was bad twice: on a machine with other work one of them may have been hit by it
MOST_STEPS = 60  # from one request a second to half a million


async def climb(
    play: Callable[[float], Awaitable[Played]], is_good: Callable[[Played], bool], start: float
) -> tuple[list[Played], float | None]:
    """All steps in the order they were played, and the last rate that was good; None if the first was not."""
    steps: list[Played] = []
    knee, rate = None, start
    for _ in range(MOST_STEPS):
        for _ in range(TRIES):
            steps.append(await play(rate))
            if is_good(steps[-1]):
                break
        else:
            break
        knee, rate = rate, rate * FACTOR
    return steps, knee
