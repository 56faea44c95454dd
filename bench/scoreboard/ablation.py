"""`python -m bench ablation`: what is lost when a level of the memory is left out, with everything else as it is?

- *without the slow level*: nothing is consolidated. A consolidation that trains no slow level changes no answer
- *without the middle level*: pairs that leave the window are gone
- *without the fast level*: the window has room for what comes between two writes of the middle level, and for nothing else
- *without the start*: the encoder is the plain one

Two things are measured with each and with all levels, on the same orders:

- *classes*: the class-incremental protocol (`bench.scoreboard.incremental`): the share of the test utterances whose best guess is right
  when all classes were taught, one task after the other, before a consolidation and after it
- *stream*: policy change (`bench.streams`): avoidable mistakes, accuracy at the end, and corrections that were right before a consolidation
  and wrong after it; the bank is consolidated each time after so many requests. A candidate that its gate refuses is *refused*
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from typing import Any

import click
from matplotlib.figure import Figure as Picture

from bench.asking import Palimpsest, Progress
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.incremental import Course, course, taught
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table, spread
from bench.scoreboard.sources import INTENTS, intents
from bench.streams import Request, play, stream

WITH, NO_SLOW, NO_MIDDLE, NO_FAST = "all levels", "without the slow level", "without the middle level", "without the fast level"
PLAIN = "without the start"
CHANGES: Mapping[str, Mapping[str, Any]] = {NO_MIDDLE: {"frequencies": 0}, NO_FAST: {"window": 33}}  # 32 may come between two writes
TABLES = (
    Table(
        "ablation",
        "With all levels, and without each",
        ("data", "memory"),
        (
            Figure("before", "classes, before consolidation", ".1f", 100.0),
            Figure("guess", "classes, after", ".1f", 100.0),
            Figure("guess", "spread", ".1f", 100.0, spread),
            Figure("mistakes", "stream, mistakes", ",.0f"),
            Figure("avoidable", "stream, avoidable", ",.0f"),
            Figure("avoidable", "spread", ",.0f", 1, spread),
            Figure("end", "stream, end"),
            Figure("lost", "lost to consolidation", ",.0f"),
            Figure("refused", "refused", ",.1f"),
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
    """Class-incremental accuracy and a stream with a policy change, with all levels and without each."""
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
    steps = sum(4 * _steps(one) + 5 * len(streams[key]) for key, one in courses.items())

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for (data, seed), one in courses.items():
            full = bench.on(data)
            plain = replace(full, vectors=full.rivals)
            variants = {WITH: full, NO_MIDDLE: full, NO_FAST: full}
            if plain.vectors.digest != full.vectors.digest:  # where there is a start to leave out
                variants[PLAIN] = plain
            found: dict[str, Line] = {}
            for label, on in variants.items():
                named = {"data": data, "seed": seed, "memory": label, "of": "classes"}
                work = partial(taught, "", one=whole(one), when="end")
                before, after = await on.use(named, _product(on, label), work, progress)
                found[label] = {**_classes(after), "before": before["guess"]}
                if label == WITH:
                    found[NO_SLOW] = {**_classes(before), "before": before["guess"]}
            for label, line in found.items():
                on = variants.get(label, full)
                named = {"data": data, "seed": seed, "memory": label, "of": "stream"}
                asked = partial(_streamed, bench=on, requests=streams[data, seed], every=None if label == NO_SLOW else every)
                (streamed,) = await on.use(named, _product(on, label), asked, progress)
                lines.append({"table": "ablation", "data": data, "seed": seed, "memory": label, **line, **streamed})
        return lines

    given = {"per_class": per_class, "requests": requests, "every": every}
    run_board("ablation", TABLES, chosen, list(loaded.values()), texts, measure, steps=steps, given=given, draw=draw)


def whole(one: Course) -> Course:
    """The course as one task: everything in the same order, and all of it asked once, at the end."""
    return Course(
        (tuple(intent for task in one.tasks for intent in task),),
        (tuple(row for rows in one.train for row in rows),),
        (tuple(row for rows in one.test for row in rows),),
    )


def _product(bench: Bench, label: str) -> AbstractAsyncContextManager[Palimpsest]:
    """A new bank at the engine port, also where a running service could be measured: what is left out is told to the engine alone."""
    from bench.subjects import engine_memory

    return engine_memory(bench.settings, bench.vectors, **CHANGES.get(label, {}))


async def _streamed(memory: Palimpsest, progress: Progress, *, bench: Bench, requests: Sequence[Request], every: int | None) -> list[Line]:
    tally = await play(memory, requests, bench.vectors, progress, every=every)
    figures = {name: getattr(tally, name) for name in ("mistakes", "avoidable", "end", "curve")}
    lost, refused = tally.lost if every is not None else None, sum(not one.passed for one in tally.consolidations)
    return [{**figures, "lost": lost, "refused": refused}]


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
