"""Curves of a board as one PNG: a panel for each figure and condition, a line for each memory, the mean over seeds with its range."""

from collections.abc import Mapping, Sequence
from math import ceil
from typing import Any

from matplotlib.figure import Figure

from bench.scoreboard.report import Line

COLOURS = ("#2a6f97", "#e07a5f", "#3d8b5a", "#8a5a9e", "#c9a227", "#7b6b5d", "#d1495b", "#4f6d7a")
WIDTH, HEIGHT, ACROSS = 4.6, 3.4, 4


def curves(
    lines: Sequence[Line], *, panels: Sequence[tuple[str, Mapping[str, Any], str]], across: str, of: str, log: bool = False
) -> Figure:
    """A panel for each (title, fields of its lines, figure). `across` is the field along the axis, `of` the one that names a curve."""
    panels = [panel for panel in panels if any(_belongs(line, panel[1]) and line.get(panel[2]) is not None for line in lines)]
    columns = min(ACROSS, max(1, len(panels)))
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * max(1, ceil(len(panels) / columns))), layout="constrained")
    names = list(dict.fromkeys(line[of] for line in lines))
    for place, (title, fields, shown) in enumerate(panels, 1):
        axes = figure.add_subplot(ceil(len(panels) / columns), columns, place)
        for name in names:
            values: dict[float, list[float]] = {}
            for line in lines:
                if line[of] == name and _belongs(line, fields) and line.get(shown) is not None:
                    values.setdefault(line[across], []).append(line[shown])
            if not values:
                continue
            at = sorted(values)
            colour = COLOURS[names.index(name) % len(COLOURS)]
            axes.plot(at, [sum(values[x]) / len(values[x]) for x in at], color=colour, linewidth=1.7, marker="o", markersize=3, label=name)
            axes.fill_between(at, [min(values[x]) for x in at], [max(values[x]) for x in at], color=colour, alpha=0.15, linewidth=0)
        axes.set_title(title, loc="left", fontsize=10, fontweight="bold")
        axes.set_xlabel(across, fontsize=9)
        if log:
            axes.set_xscale("log")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=7)
    return figure


def _belongs(line: Line, fields: Mapping[str, Any]) -> bool:
    return all(line.get(name) == value for name, value in fields.items())
