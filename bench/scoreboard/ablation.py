"""`python -m bench ablation`: what is lost without the slow level, and without the encoder's start, with everything else as it is?

Two things are measured with and without, on the same orders:

- *classes*: the class-incremental protocol (`bench.scoreboard.incremental`): the share of the test utterances whose best guess is right
  when all classes were taught, one task after the other; with the slow level the bank was consolidated then
- *stream*: policy change (`bench.streams`): avoidable mistakes, accuracy at the end, and corrections that were right before a consolidation
  and wrong after it; with the slow level the bank is consolidated each time after so many requests

Without the slow level nothing is consolidated: a consolidation that trains none changes no answer.
"""

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

import click
from matplotlib.figure import Figure as Picture

from bench.asking import Palimpsest, Progress
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.incremental import Course, course, taught
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import INTENTS, intents
from bench.streams import Request, play, stream

WITH, WITHOUT, PLAIN = "all levels", "without the slow level", "without the start"
TABLES = (
    Table(
        "ablation",
        "With and without a level",
        ("data", "memory"),
        (
            Figure("guess", "classes, best guess", ".1f", 100.0),
            Figure("last", "classes, answered", ".1f", 100.0),
            Figure("mistakes", "stream, mistakes", ",.0f"),
            Figure("avoidable", "stream, avoidable", ",.0f"),
            Figure("end", "stream, end"),
            Figure("lost", "lost to consolidation", ",.0f"),
        ),
    ),
)


@click.command("ablation")
@options(seeds=3)
@click.option("--data", "names", multiple=True, type=click.Choice(INTENTS), default=INTENTS, show_default=True, help="Several for several.")
@click.option("--per-class", type=click.IntRange(1), help="Rows of each class, for a short form. Default: all.")
@click.option("--requests", default=10_000, show_default=True, type=click.IntRange(2), help="Length of the stream.")
@click.option("--every", default=1_000, show_default=True, type=click.IntRange(1), help="Requests between two consolidations.")
def command(chosen: Chosen, names: tuple[str, ...], per_class: int | None, requests: int, every: int) -> None:
    """Class-incremental accuracy and a stream with a policy change, with and without the slow level, and without the start."""
    if chosen.same_vectors:
        raise click.UsageError("ablation has no rivals: --same-vectors says nothing here")
    loaded = {name: data_of(lambda below, name=name: intents(name, below)) for name in dict.fromkeys(names)}  # type: ignore[misc]
    courses = {(name, seed): course(one.holds, seed, per_class) for name, one in loaded.items() for seed in range(chosen.seeds)}
    streams = {
        (name, seed): stream(one.holds.train, "policy-change", seed=seed, requests=requests)
        for name, one in loaded.items()
        for seed in range(chosen.seeds)
    }
    texts: dict[str, list[str]] = {name: [] for name in loaded}
    for (name, seed), one in courses.items():
        texts[name] += [text for part in (*one.train, *one.test) for text, _ in part]
        texts[name] += [request.text for request in streams[name, seed]]
        texts[name] += words_of(sorted({*(request.right for request in streams[name, seed]), *loaded[name].holds.classes}))
    steps = sum(2 * _steps(one) + 3 * len(streams[key]) for key, one in courses.items())

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for (data, seed), one in courses.items():
            full = bench.on(data)
            plain = replace(full, vectors=full.rivals)
            async with _product(full) as memory:
                before, after = await taught("", memory, whole(one), "end", progress)
            found = {WITH: _classes(after), WITHOUT: _classes(before)}
            streamed = [(WITH, every, full), (WITHOUT, None, full)]
            if plain.vectors.digest != full.vectors.digest:  # where there is a start to leave out
                async with _product(plain) as memory:
                    _, unstarted = await taught("", memory, whole(one), "end", progress)
                found[PLAIN] = _classes(unstarted)
                streamed.append((PLAIN, every, plain))
            for label, often, on in streamed:
                async with _product(on) as memory:
                    found[label] |= await _streamed(on, memory, streams[data, seed], often, progress)
            lines += [{"table": "ablation", "data": data, "seed": seed, "memory": memory, **line} for memory, line in found.items()]
        return lines

    run_board("ablation", TABLES, chosen, list(loaded.values()), texts, measure, steps=steps, draw=draw)


def whole(one: Course) -> Course:
    """The course as one task: everything in the same order, and all of it asked once, at the end."""
    return Course(
        (tuple(intent for task in one.tasks for intent in task),),
        (tuple(row for rows in one.train for row in rows),),
        (tuple(row for rows in one.test for row in rows),),
    )


def _product(bench: Bench) -> AbstractAsyncContextManager[Palimpsest]:
    """A new bank at the engine port, also where a running service could be measured: what is left out is told to the engine alone."""
    return bench.products()[0][1]


async def _streamed(bench: Bench, memory: Palimpsest, requests: Sequence[Request], every: int | None, progress: Progress) -> Line:
    tally = await play(memory, requests, bench.vectors, progress, every=every)
    figures = {name: getattr(tally, name) for name in ("mistakes", "avoidable", "end", "curve")}
    return {**figures, "lost": tally.lost if every is not None else None, "refused": sum(not one.passed for one in tally.consolidations)}


def _classes(line: Line) -> Line:
    return {name: line.get(name) for name in ("guess", "last", "consolidation_s", "gate_passed")}


def draw(lines: Sequence[Line]) -> Picture:
    """Accuracy over the stream, a panel for each data set."""
    points = [
        {"data": line["data"], "memory": line["memory"], "part": part, "accuracy": share}
        for line in lines
        for part, share in enumerate(line["curve"], 1)
    ]
    panels = [(name, {"data": name}, "accuracy") for name in dict.fromkeys(point["data"] for point in points)]
    return curves(points, panels=panels, across="part", of="memory")


def _steps(one: Course) -> int:
    rows: list[Row] = [row for part in (*one.train, *one.test, *one.test) for row in part]
    return len(rows)
