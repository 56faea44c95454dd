"""A load as one PNG: latency over rate where the rate was stepped up, else over time; memory where it was watched."""

from collections.abc import Callable, Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogFormatter

from bench.load.figures import Latencies, over_time
from bench.load.report import Found

COLOURS = ("#2a6f97", "#e07a5f", "#3d8b5a", "#8a5a9e", "#c9a227", "#7b6b5d", "#d1495b", "#4f6d7a")
WIDTH, HEIGHT = 6.2, 4.0
STRETCHES = 60  # of a run over time
Panel = Callable[[Axes], None]


def draw(found: Found, path: Path) -> None:
    """Write the picture."""
    panels = [_over_rate(found)] if len(found.steps) > 1 else []
    if len(found.steps) == 1 or found.watched is not None:
        panels.append(_over_time(found))
    if found.watched is not None and found.watched.memory:
        panels.append(_memory(found))
    figure = Figure(figsize=(WIDTH * len(panels), HEIGHT), layout="constrained")
    for panel, place in zip(panels, figure.subplots(1, len(panels), squeeze=False).flat, strict=True):
        panel(place)
        place.spines[["top", "right"]].set_visible(False)
        place.grid(alpha=0.25, linewidth=0.6)
        place.tick_params(which="both", labelsize=8)
        place.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130, metadata={"Software": None})


def _over_rate(found: Found) -> Panel:
    def panel(axes: Axes) -> None:
        steps = found.steps[:-1] if found.watched is not None else found.steps  # the last is the soak
        for colour, kind in zip(COLOURS, sorted({kind for step in steps for kind in step.kinds}), strict=False):
            there = {step.rate: step.kinds[kind] for step in steps if kind in step.kinds}  # of a rate that was tried twice the last
            _lines(axes, kind, colour, list(there.items()))
        axes.axhline(found.bound_ms, color="#999999", linewidth=0.8, linestyle=":")
        if found.knee is not None:
            axes.axvline(found.knee, color="#999999", linewidth=0.8, label=f"knee {found.knee:.1f}/s")
        _titled(axes, "Latency over rate", "requests a second", "milliseconds from when they were due")

    return panel


def _over_time(found: Found) -> Panel:
    def panel(axes: Axes) -> None:
        step = found.steps[-1]
        every_s = max(1.0, step.seconds / STRETCHES)
        for colour, kind in zip(COLOURS, step.kinds, strict=False):
            _lines(axes, kind, colour, over_time([one for one in found.last if one.kind == kind], step.seconds, every_s))
        _titled(axes, f"Latency at {step.rate:.1f}/s", "seconds", "milliseconds from when they were due")

    return panel


def _lines(axes: Axes, kind: str, colour: str, there: Sequence[tuple[float, Latencies]]) -> None:
    x = [at for at, _ in there]
    axes.plot(x, [seen.p50 for _, seen in there], color=colour, linewidth=1.7, marker="o", markersize=2.8, label=f"{kind}, p50")
    axes.plot(x, [seen.p99 for _, seen in there], color=colour, linewidth=1.2, linestyle="--", label=f"{kind}, p99")


def _memory(found: Found) -> Panel:
    def panel(axes: Axes) -> None:
        samples = found.watched.memory if found.watched else []
        names = list(dict.fromkeys(name for _, held in samples for name in held))
        for place, name in enumerate(names):
            there = [(at, held[name] / 2**20) for at, held in samples if name in held]
            axes.plot([at for at, _ in there], [held for _, held in there], color=COLOURS[place % len(COLOURS)], linewidth=1.7, label=name)
        axes.set_ylim(bottom=0)
        _titled(axes, "Resident memory", "seconds", "MiB", log=False)

    return panel


def _titled(axes: Axes, title: str, across: str, up: str, *, log: bool = True) -> None:
    axes.set_title(title, loc="left", fontsize=10.5, fontweight="bold")
    axes.set_xlabel(across, fontsize=9)
    axes.set_ylabel(up, fontsize=9)
    if log:
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_minor_formatter(LogFormatter(minor_thresholds=(2, 0.5)))  # numbers between the powers where there are few of those
