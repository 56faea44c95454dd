"""`python -m bench first-minutes`: what the first page tells somebody to do in an empty directory, done as it is printed, and timed.

The commands and the program are those of docs/index.md. Nothing of this checkout is seen: the wheel is built before, and its build is not
counted. How long pip takes depends on whether it has the packages in its cache; the first run of a machine fills it.
"""

import os
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import click

PAGE = Path(__file__).resolve().parents[1] / "docs" / "index.md"
SECTION = "## From an empty directory"
PROGRAM = "first.py"
GOAL_S = 300.0


@dataclass(frozen=True, slots=True)
class Story:
    """Commands of a shell, the program that they run, and what that prints."""

    commands: list[str]
    program: str
    prints: str


def told(page: str) -> Story:
    """What a page says under `SECTION`."""
    lines = [line[4:] for line in re.split(r"\n## ", page.split(SECTION)[1])[0].splitlines() if line.startswith("    ")]
    commands = [line[2:] for line in lines if line.startswith("$ ")]
    program = "\n".join(line for line in lines if not line.startswith(("$ ", "# "))) + "\n"
    return Story(commands, program, "\n".join(line[2:] for line in lines if line.startswith("# ")) + "\n")


@click.command()
@click.option(
    "--wheel", type=click.Path(path_type=Path, exists=True, dir_okay=False), required=True, help="The wheel, see `make first-minutes`."
)
def command(wheel: Path) -> None:
    """Install into an empty directory, correct, ask in other words; each step's seconds, and an error beyond five minutes."""
    story = told(PAGE.read_text())
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH" and not name.startswith("PALIMPSEST_")}
    total = 0.0
    with tempfile.TemporaryDirectory(prefix="palimpsest-first-") as empty:
        Path(empty, PROGRAM).write_text(story.program)
        for line in story.commands:
            begin = time.monotonic()
            words, environ = ["/bin/bash", "-c", line], kept | {"WHEEL": str(wheel.resolve())}
            done = subprocess.run(words, cwd=empty, env=environ, capture_output=True, text=True, check=False)  # noqa: S603 (our own page)
            seconds = time.monotonic() - begin
            total += seconds
            click.echo(f"{seconds:7.1f} s  {line}")
            if done.returncode:
                raise click.ClickException(done.stderr or done.stdout)
        size = sum(file.stat().st_size for file in Path(empty, ".venv").rglob("*") if file.is_file() and not file.is_symlink())
    click.echo(f"{total:7.1f} s  together, of {GOAL_S:.0f}; the environment has {size / 2**20:,.0f} MiB")
    if done.stdout != story.prints:
        raise click.ClickException(f"it printed {done.stdout!r}, the page says {story.prints!r}")
    if total > GOAL_S:
        raise click.ClickException("that is longer than five minutes")
