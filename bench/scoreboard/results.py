"""`python -m bench results`: the part "The scoreboard" of docs/results.md, from the JSON files of the boards and from nothing else.

Between the two marks everything is written anew: each board with its command, its tables, its picture; a board without a file says how to
get it. So no figure on the page is typed by hand.
"""

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from bench.scoreboard.report import Figure, Line, Table, as_markdown, read

ROOT = Path(__file__).resolve().parent.parent.parent
FROM, PAGE = ROOT / "docs" / "scoreboard", ROOT / "docs" / "results.md"
BEGIN, END = "<!-- the scoreboard: written by `python -m bench results` -->", "<!-- end of the scoreboard -->"
BOARDS = ("corrections", "incremental", "facts", "supersession", "abstention", "capacity", "cost", "ablation")
CORRECTIONS = (
    Table(
        "corrections",
        "Mistakes on a stream of requests, corrected where wrong or silent; accuracy before and after the middle, and at the end",
        ("data", "stream", "requests", "memory"),
        (
            Figure("mistakes", "mistakes", ",.0f"),
            Figure("avoidable", "avoidable", ",.0f"),
            Figure("repeated", "repeated", ",.0f"),
            Figure("silent", "silent", ",.0f"),
            *(Figure(name, name) for name in ("before", "after", "end")),
            Figure("lost", "lost to consolidation", ",.0f"),
        ),
    ),
)


@click.command("results")
@click.option(
    "--from",
    "directory",
    default=FROM,
    type=click.Path(file_okay=False, path_type=Path),
    help="Where the JSON files are. Default: docs/scoreboard.",
)
@click.option("--page", default=PAGE, type=click.Path(dir_okay=False, path_type=Path), help="The page. Default: docs/results.md.")
@click.option("--check", is_flag=True, help="Write nothing; exit with 1 when the page is not what the files say.")
def command(directory: Path, page: Path, check: bool) -> None:
    """Write the scoreboard's part of docs/results.md from the boards' JSON files."""
    try:
        old = page.read_text()
        new = placed(old, scoreboard(directory, page))
    except (OSError, ValueError) as error:
        raise click.ClickException(str(error)) from None
    if check and new != old:
        raise click.ClickException(f"{page} is not what the files in {directory} say; python -m bench results writes it")
    if not check:
        page.write_text(new)


def placed(page: str, part: str) -> str:
    """The page with the part between its marks.

    Raises:
        ValueError: a mark is missing.
    """
    head, begin, rest = page.partition(BEGIN)
    _, end, tail = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the page has no place for the scoreboard: it needs the lines {BEGIN} and {END}")
    return f"{head}{BEGIN}\n\n{part}\n\n{END}{tail}"


def scoreboard(directory: Path, page: Path) -> str:
    """All boards as Markdown."""
    return "\n\n".join(_section(name, directory / f"{name}.json", page) for name in BOARDS)


def tables_of(name: str) -> Sequence[Table]:
    """The tables of a board."""
    if name == "corrections":
        return CORRECTIONS
    tables: Sequence[Table] = importlib.import_module(f"bench.scoreboard.{name}").TABLES
    return tables


def lines_of(report: dict[str, Any]) -> list[Line]:
    """The runs of a report as lines; those of *corrections* are all of one table."""
    if report["benchmark"] != "corrections":
        return list(report["runs"])
    return [{"table": "corrections", **run, "lost": _lost(run)} for run in report["runs"]]


def _lost(run: Line) -> int | None:
    return sum(survival["lost"] for survival in run["consolidations"]) if run["consolidations"] else None


def _section(name: str, path: Path, page: Path) -> str:
    title = f"### {name.capitalize()}"
    if not path.exists():
        return f"{title}\n\nNot measured yet: `python -m bench {name}`."
    report = read(path)
    if report["benchmark"] != name:
        raise ValueError(f"{path} is a report of {report['benchmark']}")
    parts = [title, f"{_what(name)} {_how(report)}", as_markdown(tables_of(name), lines_of(report))]
    picture = path.with_suffix(".png")
    if picture.exists():
        parts.append(f"![{name}]({Path(os.path.relpath(picture, page.parent)).as_posix()})")
    return "\n\n".join(parts)


def _what(name: str) -> str:
    """What the board asks: the first paragraph of its module's own text, without the command."""
    module = importlib.import_module("bench.corrections" if name == "corrections" else f"bench.scoreboard.{name}")
    first = (module.__doc__ or "").split("\n\n")[0].partition(": ")[2]
    return " ".join(first.split()).capitalize()[:1] + " ".join(first.split())[1:]


def _how(report: dict[str, Any]) -> str:
    data = ", ".join(f"{one['name']} {one['sha256'][:8]}" for one in report["data"])
    starts = {name: of["Palimpsest"] for name, of in report.get("encoders", {}).items() if of["Palimpsest"] != of["rivals"]}
    own = "".join(f", Palimpsest's start of it {digest[:12]}{name and f' (without {name})'}" for name, digest in starts.items())
    return f"`{report['command']}`, {report['seconds']:,.0f} s; encoder {report['encoder'][:12]}{own}; data {data}."
