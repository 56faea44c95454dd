"""When requests are due, and which bank each is for: the two draws behind a load."""

import numpy as np
from numpy.typing import NDArray


def due_times(random: np.random.Generator, rate: float, seconds: float) -> NDArray[np.float64]:
    """The times at which requests are due, in seconds from the begin: a Poisson process, as of many clients that do not know each other."""
    expected = rate * seconds
    gaps = random.exponential(1 / rate, int(expected + 8 * expected**0.5 + 16))  # eight deviations: never too few in practice
    times = np.cumsum(gaps)
    return times[times < seconds]


class Zipf:
    """Banks by popularity: the one of rank k is drawn as k to the power of minus `exponent`; rank 0 here is the first."""

    def __init__(self, banks: int, exponent: float) -> None:
        weights = np.arange(1, banks + 1, dtype=np.float64) ** -exponent
        self._below = np.cumsum(weights / weights.sum())

    def draw(self, random: np.random.Generator, number: int) -> NDArray[np.int64]:
        """So many banks, by their number."""
        drawn = np.searchsorted(self._below, random.random(number), side="right")
        return np.minimum(drawn, len(self._below) - 1)  # the last sum may be a rounding below 1
