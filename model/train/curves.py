"""Curves of a run: one JSON line for each event, and a picture of them.

A line has `kind`, `step`, `tokens`; of kind `step` also `loss`, `rate`, `norm`, `tokens_per_s`, `seconds`; of kind `evaluation` `scores`.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from model.train.history import Evaluated, Event, Saved, Stepped

Line = dict[str, Any]

INK, TRAIN, VALID, FAST, RATE = "#2b2b2b", "#3b6fb6", "#d1495b", "#2a9d8f", "#8a5cb8"
PLATE = {"boxstyle": "round,pad=0.15", "facecolor": "white", "edgecolor": "none", "alpha": 0.8}
SMOOTHED = 50  # a smoothed curve remembers one part in so many


class CurveFile:
    """Appends events to a file of JSON lines; every line is on its way to disk when the call returns."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, event: Event) -> None:
        """Write an event; checkpoints are not part of a curve."""
        match event:
            case Stepped():
                line = {"kind": "step", **asdict(event), "tokens_per_s": event.tokens_per_s}
            case Evaluated():
                line = {"kind": "evaluation", **asdict(event)}
            case Saved():
                return
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def lines(self) -> list[Line]:
        """What is there; a last line that was torn off is not."""
        if not self.path.exists():
            return []
        text = self.path.read_text(encoding="utf-8")
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    def cut(self, step: int) -> None:
        """Drop what came after `step`: a resumed run tells it again."""
        kept = [json.dumps(line) + "\n" for line in self.lines() if line["step"] <= step]
        draft = self.path.with_suffix(".draft")
        draft.write_text("".join(kept), encoding="utf-8")
        os.replace(draft, self.path)


def draw(lines: Sequence[Line], path: Path, title: str) -> None:
    """A PNG of four panels over training tokens: loss, bits per byte of validation, tokens per second, rate and gradient norm.

    Raises:
        ValueError: no step to draw.
    """
    steps = [line for line in lines if line["kind"] == "step"]
    evaluations = [line for line in lines if line["kind"] == "evaluation"]
    if not steps:
        raise ValueError(f"there is no step to draw in {path.name}")
    figure = Figure(figsize=(11, 7), dpi=130, layout="constrained")
    ((loss, bits), (speed, rate)) = figure.subplots(2, 2)
    figure.suptitle(title, fontsize=13, fontweight="bold", color=INK, x=0.01, ha="left")
    _loss(loss, steps, evaluations)
    _bits(bits, evaluations)
    _speed(speed, steps)
    _rate(rate, steps)
    draft = path.with_suffix(".draft.png")
    figure.savefig(draft, format="png")
    os.replace(draft, path)


def _loss(axes: Axes, steps: Sequence[Line], evaluations: Sequence[Line]) -> None:
    _dress(axes, "loss (nats per token)")
    x, y = [line["tokens"] for line in steps], [line["loss"] for line in steps]
    axes.plot(x, y, color=TRAIN, alpha=0.22, linewidth=0.8)
    axes.plot(x, _smoothed(y), color=TRAIN, linewidth=1.8, label="training")
    points = [(line["tokens"], line["scores"]["loss"]) for line in evaluations if "loss" in line["scores"]]
    _points(axes, points, VALID, "validation")
    axes.legend(frameon=False, fontsize=9)


def _bits(axes: Axes, evaluations: Sequence[Line]) -> None:
    _dress(axes, "bits per byte (validation)")
    names = sorted({name for line in evaluations for name in line["scores"] if name.startswith("bits_per_byte")})
    colours = [VALID, TRAIN, FAST, RATE, "#e09f3e", "#6c757d"]
    for place, name in enumerate(names):
        points = [(line["tokens"], line["scores"][name]) for line in evaluations if name in line["scores"]]
        _points(axes, points, colours[place % len(colours)], name.partition("/")[2] or "all")
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=9)
    if names:
        axes.set_xlim(left=0)
    else:
        axes.set(xticks=[], yticks=[])
        axes.text(0.5, 0.5, "no evaluation yet", transform=axes.transAxes, ha="center", color="#888888")


def _speed(axes: Axes, steps: Sequence[Line]) -> None:
    _dress(axes, "training tokens per second")
    x, y = [line["tokens"] for line in steps], [line["tokens_per_s"] for line in steps]
    axes.plot(x, y, color=FAST, alpha=0.22, linewidth=0.8)
    axes.plot(x, _smoothed(y), color=FAST, linewidth=1.8)
    axes.set_ylim(0, 1.15 * sorted(y)[int(0.98 * (len(y) - 1))] or 1)
    axes.yaxis.set_major_formatter(EngFormatter(sep=""))


def _rate(axes: Axes, steps: Sequence[Line]) -> None:
    _dress(axes, "rate, and gradient norm (dotted, right)")
    x = [line["tokens"] for line in steps]
    axes.plot(x, [line["rate"] for line in steps], color=RATE, linewidth=1.8)
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter("{x:.2g}")
    norms = axes.twinx()
    norms.plot(x, _smoothed([line["norm"] for line in steps]), color=INK, alpha=0.6, linewidth=1.0, linestyle=":")
    norms.set_ylim(bottom=0)
    norms.spines[["top", "left", "bottom"]].set_visible(False)
    norms.tick_params(labelsize=8, color="#999999")


def _points(axes: Axes, points: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    if not points:
        return
    axes.plot(*zip(*points, strict=True), color=colour, linewidth=1.6, marker="o", markersize=3.5, label=label)
    x, y = points[-1]
    axes.annotate(f"{y:.3f}", (x, y), xytext=(0, 8), textcoords="offset points", ha="right", fontsize=9, color=colour, bbox=PLATE)


def _dress(axes: Axes, title: str) -> None:
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#999999")
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=8, color="#999999")
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.set_xlabel("training tokens", fontsize=8, color="#666666")


def _smoothed(values: Sequence[float]) -> list[float]:
    """A moving average that forgets; corrected for its start."""
    keep, mean, weight, smooth = 1.0 - 1.0 / max(1, len(values) // SMOOTHED), 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1.0 - keep) * value, keep * weight + (1.0 - keep)
        smooth.append(mean / weight)
    return smooth
