"""What a board measured, as runs: flat lines of names and figures. Tables are means of them over seeds, made from the JSON alone.

A line belongs to the table that its field `table` names; the fields of `Table.by` say which row it is part of, `seed` (or any other
field) tells runs of a row apart.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from bench.table import aligned

Line = dict[str, Any]
ABSENT = "–"  # a figure that a subject does not have


@dataclass(frozen=True, slots=True)
class Figure:
    """A column: the mean over the runs of a row, or how far they lie apart (`spread`). `form` as in `format`; `scale` multiplies."""

    field: str
    title: str
    form: str = ".3f"
    scale: float = 1.0
    of: Callable[[Sequence[float]], float] = fmean


def spread(values: Sequence[float]) -> float:
    """Between the least and the largest."""
    return max(values) - min(values)


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of one kind."""

    name: str
    title: str
    by: tuple[str, ...]
    figures: tuple[Figure, ...]


def rows(table: Table, lines: Sequence[Line]) -> list[tuple[str, ...]]:
    """Head and rows of a table, in the order in which its rows were first measured; without lines only the head."""
    mine = [line for line in lines if line["table"] == table.name]
    found = [(*table.by, *(figure.title for figure in table.figures))]
    for names in dict.fromkeys(tuple(line[field] for field in table.by) for line in mine):
        runs = [line for line in mine if tuple(line[field] for field in table.by) == names]
        found.append((*(f"{name:,}" if isinstance(name, int) else str(name) for name in names), *(_cell(f, runs) for f in table.figures)))
    return found


def seeds(table: Table, lines: Sequence[Line]) -> int:
    """How many seeds the rows of a table are means over."""
    return len({line["seed"] for line in lines if line["table"] == table.name})


def as_text(tables: Sequence[Table], lines: Sequence[Line]) -> str:
    """The tables that have lines, for a terminal."""
    return "\n\n".join("\n".join([title, "", *aligned(found, left=range(len(table.by)))]) for table, title, found in _full(tables, lines))


def as_markdown(tables: Sequence[Table], lines: Sequence[Line]) -> str:
    """The tables that have lines, for a page."""
    return "\n\n".join("\n".join([f"{title}:", "", *_markdown(found, len(table.by))]) for table, title, found in _full(tables, lines))


def read(path: Path) -> dict[str, Any]:
    """A report that was written before.

    Raises:
        ValueError: it is none.
    """
    report = json.loads(path.read_text())
    if not isinstance(report, dict) or not isinstance(report.get("runs"), list):
        raise ValueError(f"{path} is not a report of python -m bench")
    return report


def _full(tables: Sequence[Table], lines: Sequence[Line]) -> Iterator[tuple[Table, str, list[tuple[str, ...]]]]:
    for table in tables:
        found = rows(table, lines)
        if len(found) > 1:
            number = seeds(table, lines)
            yield table, f"{table.title} ({number} seed{'s' * (number != 1)})", found


def _cell(figure: Figure, runs: Sequence[Mapping[str, Any]]) -> str:
    values = [float(run[figure.field]) for run in runs if run.get(figure.field) is not None]
    return format(figure.scale * figure.of(values), figure.form) if values else ABSENT


def _markdown(found: Sequence[tuple[str, ...]], names: int) -> Iterator[str]:
    head, *body = found
    yield f"| {' | '.join(head)} |"
    yield f"| {' | '.join(['---'] * names + ['---:'] * (len(head) - names))} |"
    for row in body:
        yield f"| {' | '.join(row)} |"
