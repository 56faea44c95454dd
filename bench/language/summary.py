"""Trials of several seeds made one row a kind: means, spreads, the order of the kinds, and the form of a table."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Any

Line = dict[str, Any]
Table = Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number over seeds."""

    each: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Mean over the seeds."""
        return fmean(self.each)

    @property
    def spread(self) -> float:
        """Standard deviation over the seeds; 0 of one."""
        return stdev(self.each) if len(self.each) > 1 else 0.0

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.spread:.3f}" if len(self.each) > 1 else f"{self.mean:.3f}"


def groups(lines: Sequence[Line], task: str) -> Iterator[tuple[str, dict[str, list[Line]]]]:
    """For each size that has the task: its lines by kind, in the order in which they came."""
    here = [line for line in lines if line["task"] == task]
    for size in dict.fromkeys(line["size"] for line in here):
        of = [line for line in here if line["size"] == size]
        yield size, {kind: [line for line in of if line["kind"] == kind] for kind in dict.fromkeys(line["kind"] for line in of)}


def figure(lines: Sequence[Line], of: Callable[[Line], float]) -> Figure | None:
    """A figure over the lines that came to an end; none if none did."""
    values = tuple(of(line) for line in lines if "failed" not in line)
    return Figure(values) if values else None


def table(rows: Table) -> str:
    """A markdown table; the first row is its head, the first column is text."""
    head, *body = rows
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *body])


def mean_curve(curves: Sequence[Sequence[Sequence[float]]]) -> tuple[list[float], list[float], list[float]]:
    """x, mean of y, and standard deviation of y, of curves of (x, y) points at the same x."""
    points = list(zip(*curves, strict=False))
    ys = [Figure(tuple(y for _, y in point)) for point in points]
    return [point[0][0] for point in points], [y.mean for y in ys], [y.spread for y in ys]
