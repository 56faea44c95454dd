"""Curves of a bench as one PNG: validation over tokens, forgetting, language learned in context, cost of a token by context."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator

from bench.language.report import TITLES
from bench.language.summary import Line, groups, mean_curve

COLOURS = ("#2a6f97", "#e07a5f", "#3d8b5a", "#8a5a9e", "#c9a227", "#7b6b5d", "#d1495b", "#4f6d7a")
WIDTH, HEIGHT = 6.2, 4.0
DOMAINS_LEARNED = "domains learned"
Panel = Callable[[Axes], None]


def draw(lines: Sequence[Line], path: Path) -> bool:
    """Write the picture; false, and no file, if nothing is there to be drawn."""
    colours = dict(zip(_kinds(lines), COLOURS * 3, strict=False))
    panels = [*_curves(lines, colours), *_continual(lines, colours), *_speed(lines, colours)]
    if not panels:
        return False
    columns = min(2, len(panels))
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(WIDTH * columns, HEIGHT * rows), layout="constrained")
    places = list(figure.subplots(rows, columns, squeeze=False).flat)
    for panel, place in zip(panels, places, strict=False):
        panel(place)
    for place in places[len(panels) :]:
        place.set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})
    return True


def _kinds(lines: Sequence[Line]) -> list[str]:
    named = [line["kind"] for line in lines if "kind" in line] + [
        kind for line in lines if line["task"] == "speed" for kind in line["rows"]
    ]
    return list(dict.fromkeys(named))


def _curves(lines: Sequence[Line], colours: Mapping[str, str]) -> list[Panel]:
    panels: list[Panel] = []
    for task, unit in (("shakespeare", "bits a character"), ("text", "bits a byte")):
        for size, by_kind in groups(lines, task):
            curves = {kind: [line["curve"] for line in of if "failed" not in line] for kind, of in by_kind.items()}
            panels.append(_bands(f"{TITLES[task]}, {size}", "training tokens", unit, curves, colours))
    return panels


def _continual(lines: Sequence[Line], colours: Mapping[str, str]) -> list[Panel]:
    panels: list[Panel] = []
    for size, by_kind in groups(lines, "continual"):
        whole = {kind: [line for line in of if "failed" not in line] for kind, of in by_kind.items()}
        named = next((line["domains"] for of in whole.values() for line in of), ["first"])
        first = {kind: [[[phase, row[0]] for phase, row in enumerate(line["matrix"])][1:] for line in of] for kind, of in whole.items()}
        panels.append(_bands(f"What is left of {named[0]}, {size}", DOMAINS_LEARNED, f"bits a byte of {named[0]}", first, colours))
        context = {kind: [_points(line) for line in of] for kind, of in whole.items()}
        panels.append(_bands(f"Learned in context, {size}", "bytes read before", f"bits a byte of {named[-1]}", context, colours, log="x"))
    return panels


def _points(line: Line) -> list[list[float]]:
    """Middle of a bucket and bits, by the better way of reading a stream that the kind has."""
    curve = line["context"].get("carried") or line["context"]["window"]
    edges = curve["edges"]
    return [[(low * high) ** 0.5, bits] for (low, high), bits in zip(pairwise(edges), curve["bits"], strict=True)]


def _speed(lines: Sequence[Line], colours: Mapping[str, str]) -> list[Panel]:
    panels: list[Panel] = []
    for line in lines:
        if line["task"] == "speed":
            costs = {kind: [[[int(at), cost] for at, cost in row["decode"].items()]] for kind, row in line["rows"].items() if row["decode"]}
            panels.append(_bands(f"One more token, {line['size']}", "context", "milliseconds", costs, colours, log="both"))
    return panels


def _bands(
    title: str, across: str, up: str, curves: Mapping[str, list[list[list[float]]]], colours: Mapping[str, str], *, log: str = ""
) -> Panel:
    def panel(axes: Axes) -> None:
        for kind, of in curves.items():
            if not of:
                continue
            x, mean, spread = mean_curve(of)
            axes.plot(x, mean, color=colours[kind], linewidth=1.7, marker="o", markersize=2.8, label=kind)
            low, high = ([m + sign * s for m, s in zip(mean, spread, strict=True)] for sign in (-1, 1))
            axes.fill_between(x, low, high, color=colours[kind], alpha=0.15, linewidth=0)
        axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
        axes.set_xlabel(across, fontsize=9)
        axes.set_ylabel(up, fontsize=9)
        if log:
            axes.set_xscale("log")
        if log == "both":
            axes.set_yscale("log")
        if across == DOMAINS_LEARNED:
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        else:
            axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
        axes.tick_params(labelsize=8)
        axes.legend(frameon=False, fontsize=8)

    return panel
