"""The token clock: where a stream of tokens is cut so that everything changes exactly at its period (Nested Learning def. 2–4, eq. 70–71).

Time is the number of tokens that a sequence has consumed: never calls, optimizer steps or seconds. A call may start anywhere and hold any
number of tokens; `pieces` cuts it at the multiples of all periods of all rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens [start, stop) of a call; `due[p][row]` says whether the row's clock stands at a multiple of the p-th period after them."""

    start: int
    stop: int
    due: tuple[tuple[bool, ...], ...]


def pieces(positions: Sequence[int], length: int, periods: Sequence[int]) -> list[Piece]:
    """Cut `length` tokens of rows that have consumed `positions` tokens, at every multiple of `periods` in any row.

    Raises:
        ValueError: a period below 1.
    """
    if bad := [period for period in periods if period < 1]:
        raise ValueError(f"a period is counted in tokens and is at least 1, not {bad[0]}")
    phases = {(position % period, period) for position in positions for period in periods}
    cuts = {cut for phase, period in phases for cut in range(period - phase, length, period)}
    stops = sorted(cuts | {length}) if length else []
    starts = [0, *stops][: len(stops)]
    return [
        Piece(start, stop, tuple(tuple((position + stop) % period == 0 for position in positions) for period in periods))
        for start, stop in zip(starts, stops, strict=True)
    ]
