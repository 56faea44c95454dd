"""`python -m bench corrections`: how many corrections a memory needs on real requests, beside what people have today."""

import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from tqdm import tqdm

from bench.data import SOURCES, DataAbsent, directory, load_all
from bench.scoreboard.report import Line
from bench.streams import KINDS, Kind
from service.settings import Settings, SettingsRefused

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SCRATCH = "scratch"  # --rest without an address
FRESH = "Measure everything again: parts that an earlier run of this board measured are otherwise taken from it."
SAME_VECTORS = "Give rivals Palimpsest's vectors, too. By default they have the plain encoder's, as people have today."


@click.command()
@click.option(
    "--data", "names", multiple=True, type=click.Choice(list(SOURCES)), help="A data set; several times for several. Default: all."
)
@click.option("--streams", "kinds", multiple=True, type=click.Choice(KINDS), help="A stream; several times for several. Default: all.")
@click.option("--requests", default=10_000, show_default=True, type=click.IntRange(2), help="Length of a stream.")
@click.option("--seeds", default=3, show_default=True, type=click.IntRange(1), help="Number of random orders.")
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1, 64), help="Processes; one for each core is fastest.")
@click.option(
    "--consolidate-every", "every", type=click.IntRange(1), help="Consolidate Palimpsest after each so many requests, not by itself."
)
@click.option(
    "--rest",
    is_flag=False,
    flag_value=SCRATCH,
    metavar="[URL]",
    help="Also measure a running service at URL (on a bank that is deleted afterwards); without URL, one started for each stream.",
)
@click.option("--key", envvar="PALIMPSEST_KEY", help="Key for --rest URL; it must be an admin's.")
@click.option("--same-vectors", is_flag=True, help=SAME_VECTORS)
@click.option("--fresh", is_flag=True, help=FRESH)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write everything measured to this file.")
@click.option("--png", type=click.Path(dir_okay=False, path_type=Path), help="Accuracy over the stream. Default: beside the JSON.")
def corrections(
    names: tuple[str, ...],
    kinds: tuple[Kind, ...],
    requests: int,
    seeds: int,
    jobs: int,
    every: int | None,
    rest: str | None,
    key: str | None,
    same_vectors: bool,
    fresh: bool,
    json_path: Path | None,
    png: Path | None,
) -> None:
    """Ask, and correct where the answer was wrong or missing: who needs the fewest corrections?

    The data sets are looked for in the directory that PALIMPSEST_DATA names, else in ../shared/data beside the repository.
    """
    if rest not in (None, SCRATCH) and not key:
        raise click.UsageError("--rest URL needs --key or PALIMPSEST_KEY")
    try:
        sets = load_all(names or list(SOURCES), directory(os.environ))
    except DataAbsent as absent:
        raise click.ClickException(str(absent)) from None
    from httpx import HTTPError  # torch loads from here on, after all that can be refused at once

    from bench.running import NotServing
    from bench.runs import Plan, Rest, encode_sets, measure, to_encode
    from bench.scoreboard.parts import Parts, deciding
    from bench.starts import settings_of
    from bench.subjects import Refused
    from bench.table import as_json, render, write_json
    from bench.vectors import encoders_of
    from model.encoder import EncoderRefused

    over = None if rest is None else Rest(None, None) if rest == SCRATCH else Rest(rest, key)
    begin = time.perf_counter()
    try:
        settings = settings_of(os.environ)
        plan = Plan(sets, kinds or KINDS, seeds, requests, quiet(settings), over, jobs, every)
        texts = plan.texts()
        with tqdm(desc="encode", total=to_encode(texts, settings, same=same_vectors), unit=" texts") as bar:
            vectors = encode_sets(texts, settings, bar.update, same=same_vectors, jobs=jobs)
        parts = Parts.of("corrections", deciding(settings), {one.name: one.sha256 for one in sets}, fresh=fresh)
        with tqdm(desc="play", total=plan.steps, unit=" requests") as bar:
            runs = measure(plan, vectors, bar.update, parts)
    except (EncoderRefused, HTTPError, NotServing, Refused, SettingsRefused) as refused:
        raise click.ClickException(str(refused) or type(refused).__name__) from None
    seconds = parts.seconds or time.perf_counter() - begin
    click.echo(f"{render(runs)}\n\n{seconds:,.0f} s measured{parts.earlier}, {encoders_of(vectors)}")
    report = as_json(runs, sets, vectors=vectors, seconds=seconds, **parts.told())
    if json_path is not None:
        write_json(json_path, report)
    if png := png or (json_path.with_suffix(".png") if json_path else None):
        draw(report["runs"]).savefig(png, dpi=130)


def draw(lines: Sequence[Line]) -> "Figure":
    """Accuracy over the requests, a panel for each data set and stream."""
    from bench.scoreboard.pictures import curves

    points = [
        {
            **{name: line[name] for name in ("data", "stream", "memory")},
            "requests": (at + 0.5) * line["requests"] / len(line["curve"]),
            "accuracy": share,
        }
        for line in lines
        for at, share in enumerate(line["curve"])
    ]
    streams = dict.fromkeys((line["data"], line["stream"]) for line in lines)
    panels = [(f"{data}, {stream}", {"data": data, "stream": stream}, "accuracy") for data, stream in streams]
    return curves(points, panels=panels, across="requests", of="memory")


def quiet(settings: Settings) -> Settings:
    """The settings with a log that does not disturb a progress bar."""
    from msgspec import structs

    from service.telemetry import configure_logging

    configure_logging("error")
    return structs.replace(settings, log_level="error")
