"""Long work in steps: a generator that yields which share of it is done, so that a thread may serve others between them."""

from collections.abc import Generator
from typing import TypeVar

T = TypeVar("T")


def within(work: Generator[float, None, T], begin: float, end: float) -> Generator[float, None, T]:
    """The work, as the part between two shares of a larger one."""
    while True:
        try:
            done = next(work)
        except StopIteration as ended:
            found: T = ended.value
            return found
        yield begin + (end - begin) * done
