"""What was measured, as tables in Markdown beside the paper's rows, and as JSON that a later run goes on from."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import Any, Self

from bench.synthetic import paper
from bench.synthetic.kinds import Family
from bench.synthetic.learner import Learned, Recipe

Cell = Sequence[float]  # one figure for each seed


class Unreadable(Exception):
    """A results file is not one of this benchmark; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Run:
    """One kind on one task with one seed. `recipe` is how it was trained, `learned` what came out."""

    family: Family
    task: str
    group: str
    kind: str
    seed: int
    parameters: int
    recipe: Mapping[str, Any]
    learned: Learned
    notes: Mapping[str, float]

    def same_as(self, task: str, kind: str, seed: int, recipe: Recipe) -> bool:
        """Whether it is this very run."""
        return (self.task, self.kind, self.seed, dict(self.recipe)) == (task, kind, seed, asdict(recipe))

    @classmethod
    def read(cls, raw: Mapping[str, Any]) -> Self:
        """A run as the JSON file has it."""
        return cls(**{**raw, "learned": Learned(**raw["learned"])})


def write(path: Path, runs: Sequence[Run]) -> None:
    """All runs, in one step: an interrupted write leaves the file as it was."""
    report = {
        "benchmark": "synthetic",
        "version": version("palimpsest"),
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "system": platform.system()},
        "versions": {name: version(name) for name in ("torch", "transformers", "numpy")},
        "runs": [asdict(run) for run in runs],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(path.name + ".new")
    scratch.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(scratch, path)


def read(path: Path) -> list[Run]:
    """The runs of an earlier report; none when there is no file.

    Raises:
        Unreadable: the file is something else.
    """
    if not path.exists():
        return []
    try:
        report = json.loads(path.read_text())
        if report["benchmark"] != "synthetic":
            raise KeyError("benchmark")
        return [Run.read(run) for run in report["runs"]]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Unreadable(f"{path} is not a report of `bench synthetic` ({error!r}); name another file, or move this one away") from None


def render(runs: Sequence[Run]) -> str:
    """Everything in Markdown: table 5, table 4, recall, and what it cost."""
    parts = {"languages": _table_5, "mad": _table_4, "recall": _recall}
    sections = [part(there) for family, part in parts.items() if (there := [run for run in runs if run.family == family])]
    return "\n\n".join([*sections, *([_costs(runs)] if runs else [])])


def _table_5(runs: Sequence[Run]) -> str:
    ours = {kind: [_bins(there) if (there := _of(runs, kind, name)) else "–" for name in paper.LANGUAGES] for kind in _kinds(runs)}
    theirs = {f"{kind} (paper)": [f"{one:g} / {two:g}" for one, two in row] for kind, row in paper.TABLE_5.items()}
    return "\n".join(
        [
            "### Formal languages (the paper's table 5)",
            "",
            "Percent of words with every legal-next set right, 2–50 / 51–100 letters; mean over seeds, the worst in brackets.",
            "",
            *_markdown(["", *(name.replace("*", r"\*") for name in paper.LANGUAGES)], {**ours, **theirs}),
        ]
    )


def _bins(runs: Sequence[Run]) -> str:
    return " / ".join(spread([run.learned.scores[name] for run in runs]) for name in runs[0].learned.scores)


def _table_4(runs: Sequence[Run]) -> str:
    ours = {kind: [_over_settings(_of(runs, kind, name)) for name in paper.MAD] for kind in _kinds(runs)}
    theirs = {f"{kind} (paper)": [f"{score:g}" for score in row] for kind, row in paper.TABLE_4.items()}
    counts = {name: len({run.task for run in runs if run.group == name}) for name in paper.MAD}
    counted = ", ".join(f"{name} {count}" for name, count in counts.items() if count)
    bounds = [run.notes["ceiling"] for run in runs if "ceiling" in run.notes]
    bound = (
        [f"Values of facts that training never showed cannot be known: memorization is bounded by {fmean(bounds):.1f} here."]
        if bounds
        else []
    )
    return "\n".join(
        [
            "### MAD (the paper's table 4)",
            "",
            f"Percent of asked positions right; settings a task: {counted}.",
            *bound,
            "",
            *_markdown(["", *paper.MAD], {**ours, **theirs}),
        ]
    )


def _over_settings(runs: Sequence[Run]) -> str:
    """The mean over settings for each seed that has them all, then over seeds."""
    if not runs:
        return "–"
    tasks = {run.task for run in runs}
    seeds = [seed for seed in sorted({run.seed for run in runs}) if {run.task for run in runs if run.seed == seed} == tasks]
    if not seeds:
        return "–"
    return spread([fmean(run.learned.scores["test"] for run in runs if run.seed == seed) for seed in seeds])


def _recall(runs: Sequence[Run]) -> str:
    lines = [
        "### Recall over a distance",
        "",
        "Percent right at each length (needle: of whole needles); filler: by tokens between pairs and questions.",
    ]
    for name in dict.fromkeys(run.task for run in runs):
        columns = next(list(run.learned.scores) for run in runs if run.task == name)
        rows = {
            kind: [spread([run.learned.scores[column] for run in there]) for column in columns]
            for kind in _kinds(runs)
            if (there := _of(runs, kind, name))
        }
        lines += ["", *_markdown([name, *columns], rows)]
    return "\n".join(lines)


def _costs(runs: Sequence[Run]) -> str:
    rows = {}
    for kind, name in dict.fromkeys((run.kind, run.task) for run in runs):
        there = [run for run in runs if (run.kind, run.task) == (kind, name)]
        rows[f"{kind}, {name}"] = [
            f"{there[0].parameters:,}",
            f"{sum(run.learned.solved for run in there)} of {len(there)}",
            f"{fmean(run.learned.steps for run in there):,.0f}",
            f"{fmean(run.learned.seconds for run in there):,.1f}",
            "; ".join(dict.fromkeys(run.learned.failed for run in there if run.learned.failed)) or "–",
        ]
    return "\n".join(["### What it took", "", *_markdown(["", "parameters", "seeds that solved it", "steps", "seconds", "failed"], rows)])


def spread(figures: Cell) -> str:
    """The mean, and the worst in brackets where seeds differ; two digits after the point only where they matter."""
    mean, worst = _short(fmean(figures)), _short(min(figures))
    return mean if mean == worst else f"{mean} [{worst}]"


def _short(figure: float) -> str:
    """One digit after the point; never rounded up to 100."""
    return "100" if figure >= 100.0 else f"{min(figure, 99.94):.1f}" if figure < 99.95 else "99.9"


def _of(runs: Sequence[Run], kind: str, group: str) -> list[Run]:
    return [run for run in runs if run.kind == kind and run.group == group]


def _kinds(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.kind for run in runs))


def _markdown(head: Sequence[str], rows: Mapping[str, Sequence[str]]) -> list[str]:
    lines = [list(head), *([name, *cells] for name, cells in rows.items())]
    widths = [max(3, *(len(line[column]) for line in lines)) for column in range(len(head))]
    ruler = [("-" * width) if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)]
    body = [
        [cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True))]
        for line in lines
    ]
    return ["| " + " | ".join(line) + " |" for line in [body[0], ruler, *body[1:]]]
