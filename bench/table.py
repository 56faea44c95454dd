"""The scoreboard of runs: a table for people, JSON for machines."""

import json
import platform
import shlex
import sys
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from bench.data import DataSet
from bench.streams import CHANGE_SEED, Tally

if TYPE_CHECKING:
    from bench.vectors import Vectors

NOT_SAID = ("--json", "--png", "--key")
HEAD = (
    "memory",
    "mistakes",
    "(of each seed)",
    "avoidable",
    "repeated",
    "silent",
    "before",
    "after",
    "end",
    "lost",
    "held",
    "ask ms",
    "tell ms",
)


@dataclass(frozen=True, slots=True)
class Run:
    """One memory on one stream."""

    data: str
    stream: str
    seed: int
    memory: str
    tally: Tally

    def as_json(self) -> dict[str, Any]:
        """Its names, and the fields of its tally."""
        return {"data": self.data, "stream": self.stream, "seed": self.seed, "memory": self.memory, **self.tally.as_json()}

    @classmethod
    def of_json(cls, line: Mapping[str, Any]) -> "Run":
        """The run that `as_json` gave."""
        tally = dict(line)
        data, name, seed, memory = (tally.pop(field) for field in ("data", "stream", "seed", "memory"))
        return cls(data, name, seed, memory, Tally.of_json(tally))


def render(runs: Sequence[Run]) -> str:
    """A block for each data set and stream, a row for each memory: means over the seeds, and the mistakes of each seed."""
    blocks = []
    for data, stream in dict.fromkeys((run.data, run.stream) for run in runs):
        here = [run for run in runs if (run.data, run.stream) == (data, stream)]
        first = here[0].tally
        seeds = len({run.seed for run in here})
        title = f"{data}, {stream}: {first.requests:,} requests, {seeds} seed{'s' * (seeds != 1)}, accuracy over {first.window:,} requests"
        rows = [HEAD, *(_row(memory, [run.tally for run in here if run.memory == memory]) for memory in _names(here))]
        blocks.append("\n".join([title, "", *aligned(rows, left=(0, 2))]))
    return "\n\n".join(blocks)


def as_json(
    runs: Sequence[Run], sets: Sequence[DataSet], *, vectors: Mapping[str, "Vectors"], seconds: float, **more: object
) -> dict[str, Any]:
    """Everything that was measured, and what it was measured with."""
    lines = [run.as_json() for run in runs]
    data = [{"name": data.name, "rows": len(data.rows), "sha256": data.sha256} for data in sets]
    return report("corrections", lines, data, vectors=vectors, seconds=seconds, change_seed=CHANGE_SEED, **more)


def report(
    benchmark: str,
    runs: Sequence[dict[str, Any]],
    data: Sequence[dict[str, Any]],
    *,
    vectors: Mapping[str, "Vectors"],
    seconds: float,
    **more: object,
) -> dict[str, Any]:
    """The JSON of a benchmark: its runs, and what they were measured with and on.

    `encoder` is the one that rivals have; `encoders` says for each data set which start of it Palimpsest had, as the digest of both.
    """
    return {
        "benchmark": benchmark,
        "command": shlex.join(["python", "-m", "bench", *_without_files(sys.argv[1:])]),
        "version": version("palimpsest"),
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "system": platform.system()},
        "encoder": next(iter(vectors.values())).rivals.digest,
        "encoders": {name: {"Palimpsest": some.digest, "rivals": some.rivals.digest} for name, some in vectors.items()},
        **more,
        "seconds": round(seconds, 1),
        "data": list(data),
        "runs": list(runs),
    }


def _without_files(arguments: Sequence[str]) -> list[str]:
    """The options that say what was measured, not where it was written, nor the key of a service."""
    kept, named = [], False
    for argument in arguments:
        if not named and argument.split("=")[0] not in NOT_SAID:
            kept.append(argument)
        named = not named and argument in NOT_SAID
    return kept


def write_json(path: Path, report: dict[str, Any]) -> None:
    """Write the report, directories included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.memory for run in runs))


def _row(memory: str, tallies: Sequence[Tally]) -> tuple[str, ...]:
    def mean(field: str) -> float:
        return fmean(float(getattr(tally, field)) for tally in tallies)

    return (
        memory,
        f"{mean('mistakes'):,.0f}",
        " ".join(f"{tally.mistakes:,}" for tally in tallies),
        f"{mean('avoidable'):,.0f}",
        f"{mean('repeated'):,.0f}",
        f"{mean('silent'):,.0f}",
        *(f"{mean(field):.3f}" for field in ("before", "after", "end")),
        f"{mean('lost'):,.0f}" if tallies[0].consolidations else "–",
        f"{mean('size_bytes') / 2**20:.1f} MiB",
        f"{mean('ask_ms'):.2f}",
        f"{mean('tell_ms'):.2f}",
    )


def aligned(rows: Sequence[tuple[str, ...]], *, left: Collection[int]) -> Iterator[str]:
    """Rows as lines of equal columns; those in `left` begin under each other, the others end so."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column in left else cell.rjust(width) for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(cells).rstrip()
