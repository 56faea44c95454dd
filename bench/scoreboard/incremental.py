"""`python -m bench incremental`: classes arrive task after task, and nothing old is shown again. Who still knows the first ones at the end?

The published protocol (InCA, VAG, KLDA): CLINC150 in 10 tasks of 15 classes (its domains), BANKING77 in 7 of 11, HWU64 in 8 of 8. All
training utterances of a task are taught, in random order, as corrections; then all test utterances of the classes met so far are asked.
Order 0 is the published order of classes (domains; alphabetical), the others are random ones. With R[t][j] the accuracy on the classes of
task j after task t, and A_t that on all classes met so far:

- *last* A_T; *average* the mean of A_1 … A_T; *spread* how far *last* lies apart over the orders
- *BWT* the mean over old tasks of R[T][j] − R[j][j]; *forgetting* that of the best earlier R[t][j] minus R[T][j]

Both of these fall without any forgetting as classes are added; compare them with the heads that keep sums. A memory's silence counts as
wrong; *best guess* counts its best answer instead. Where `--consolidate` says so the product consolidates at the end, and *last* is asked
again; `each` does it after every task.

Hyperparameters of the heads are chosen once for a data set on validation rows (CLINC150 `val`, HWU64 `valid`, 1,000 rows of BANKING77's
training file), then all training rows are learned, as the product does.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean
from typing import TYPE_CHECKING, Literal

import click
import numpy as np
from matplotlib.figure import Figure as Picture

from bench.asking import Palimpsest, Progress, Said
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, unheard, words_of
from bench.scoreboard.heads import (
    FEATURES,
    ClassMean,
    Floats,
    Head,
    Labels,
    Lda,
    NearestNeighbour,
    accuracy,
    best_klda,
    best_lda,
    fourier,
)
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table, spread
from bench.scoreboard.sources import INTENTS, Intents, intents

if TYPE_CHECKING:
    from bench.vectors import Vectors

When = Literal["never", "end", "each"]
WHEN: tuple[When, ...] = ("never", "end", "each")
PERCENT = 100.0
TABLES = (
    Table(
        "incremental",
        "Class-incremental accuracy, per cent, after the last task",
        ("data", "memory"),
        (
            Figure("last", "last", ".1f", PERCENT),
            Figure("last", "spread", ".1f", PERCENT, spread),
            Figure("average", "average", ".1f", PERCENT),
            Figure("bwt", "BWT", ".1f", PERCENT),
            Figure("forgetting", "forgetting", ".1f", PERCENT),
            Figure("guess", "best guess", ".1f", PERCENT),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Course:
    """What is learned in which order: rows of each task, and the rows of its classes that are asked."""

    tasks: tuple[tuple[str, ...], ...]
    train: tuple[tuple[Row, ...], ...]
    test: tuple[tuple[Row, ...], ...]


def course(data: Intents, seed: int, per_class: int | None = None) -> Course:
    """Order `seed`: 0 is the published one. With `per_class` only so many rows of each class, for a short form."""
    random = np.random.default_rng(seed)
    tasks = data.tasks
    if seed:
        shuffled = [data.classes[place] for place in random.permutation(len(data.classes))]
        ends = np.cumsum([len(task) for task in tasks])
        tasks = tuple(tuple(shuffled[end - len(task) : end]) for end, task in zip(ends.tolist(), tasks, strict=True))
    train = []
    for task in tasks:
        rows = _of(data.train, task, per_class)
        train.append(tuple(rows[place] for place in random.permutation(len(rows))))
    return Course(tasks, tuple(train), tuple(tuple(_of(data.test, task, per_class)) for task in tasks))


def _of(rows: Sequence[Row], classes: Sequence[str], per_class: int | None) -> list[Row]:
    found: dict[str, list[Row]] = {intent: [] for intent in classes}
    for row in rows:
        if row[1] in found and (per_class is None or len(found[row[1]]) < per_class):
            found[row[1]].append(row)
    return [row for own in found.values() for row in own]


@dataclass(frozen=True, slots=True)
class Marks:
    """Right answers: `hits[t][j]` of the test rows of task j after task t, j ≤ t."""

    hits: list[list[int]]
    sizes: list[int]  # test rows of each task

    def figures(self) -> Line:
        """Last, average, BWT and forgetting."""
        last = len(self.hits) - 1
        after = [sum(row) / sum(self.sizes[: len(row)]) for row in self.hits]
        share = [[hit / size for hit, size in zip(row, self.sizes, strict=False)] for row in self.hits]
        old = range(last)
        return {
            "last": after[-1],
            "average": fmean(after),
            "bwt": fmean(share[last][j] - share[j][j] for j in old) if last else None,
            "forgetting": fmean(max(share[t][j] for t in range(j, last)) - share[last][j] for j in old) if last else None,
            "after": after,
        }


@click.command("incremental")
@options(seeds=5)
@click.option("--data", "names", multiple=True, type=click.Choice(INTENTS), default=INTENTS, show_default=True, help="Several for several.")
@click.option("--consolidate", "when", default="end", show_default=True, type=click.Choice(WHEN), help="When the product consolidates.")
@click.option("--per-class", type=click.IntRange(1), help="Rows of each class, for a short form. Default: all.")
@click.option("--features", default=FEATURES, show_default=True, type=click.IntRange(2), help="Random features of KLDA.")
@click.option("--heads/--no-heads", default=True, help="Whether to run the rivals.")
def command(chosen: Chosen, names: tuple[str, ...], when: When, per_class: int | None, features: int, heads: bool) -> None:
    """Class-incremental intents: last, average, BWT and forgetting over class orders, beside the heads of the literature."""
    loaded = {name: data_of(lambda below, name=name: intents(name, below)) for name in dict.fromkeys(names)}  # type: ignore[misc]
    courses = {name: [course(one.holds, seed, per_class) for seed in range(chosen.seeds)] for name, one in loaded.items()}
    texts = {name: list(_texts(courses[name], one.holds, per_class)) for name, one in loaded.items()}
    passes = 1 + (chosen.rest is not None)
    steps = passes * sum(_steps(one, when) for orders in courses.values() for one in orders)

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for name, orders in courses.items():
            for seed, one in enumerate(orders):
                for label, product in bench.on(name).products():
                    named = {"data": name, "seed": seed, "memory": label, "consolidate": when}
                    work = partial(taught, label, one=one, when=when)
                    lines += [{"data": name, "seed": seed, **line} for line in await bench.use(named, product, work, progress)]
            if heads:
                contest = Contest(bench.on(name).rivals, loaded[name].holds, orders, per_class, features)
                lines += [{"data": name, **line} for line in await rivals(bench, name, contest)]
        return [{"table": "incremental", **line} for line in lines]

    given = {"per_class": per_class}
    run_board("incremental", TABLES, chosen, list(loaded.values()), texts, measure, steps=steps, given=given, draw=draw)


async def taught(name: str, memory: Palimpsest, progress: Progress, *, one: Course, when: When) -> list[Line]:
    """The product through a course; a second line tells what it knows after a consolidation at the end."""
    hits, guesses = [], [0]
    for task, rows in enumerate(one.train):
        await memory.tell_many(rows, progress)
        if when == "each":
            await memory.consolidate()
        asked = [row for test in one.test[: task + 1] for row in test]
        said = await memory.ask_many([text for text, _ in asked], progress)
        hits.append(_hits(said, one.test[: task + 1]))
        guesses.append(sum(one_said.value == right for one_said, (_, right) in zip(said, asked, strict=True)))
    sizes = [len(test) for test in one.test]
    lines = [{"memory": name + (", consolidated after each task" if when == "each" else ""), **Marks(hits, sizes).figures()}]
    lines[0]["guess"] = guesses[-1] / sum(sizes)
    if when == "end":
        consolidated = await memory.consolidate()
        asked = [row for test in one.test for row in test]
        said = await memory.ask_many([text for text, _ in asked], progress)
        guess = sum(one_said.value == right for one_said, (_, right) in zip(said, asked, strict=True)) / sum(sizes)
        again = Marks([*hits[:-1], _hits(said, one.test)], sizes).figures()
        how = {"consolidation_s": consolidated.seconds, "gate_passed": consolidated.passed}
        lines.append({"memory": f"{name}, consolidated at the end", **again, "guess": guess, **how})
    return lines


def _hits(said: Sequence[Said], tests: Sequence[Sequence[Row]]) -> list[int]:
    given = iter(said)
    return [sum(next(given).answer == right for _, right in test) for test in tests]


@dataclass(frozen=True, slots=True)
class Contest:
    """What the heads are compared on: the courses of one data set, its vectors, and the rows on which they choose."""

    vectors: "Vectors"
    data: Intents
    courses: Sequence[Course]
    per_class: int | None
    features: int

    def arrays(self, rows: Sequence[Row]) -> tuple[Floats, Labels]:
        """Vectors (n, width) and classes (n,) of rows."""
        number = {intent: place for place, intent in enumerate(self.data.classes)}
        return np.stack([self.vectors[text] for text, _ in rows]), np.array([number[intent] for _, intent in rows])

    def choices(self) -> Line:
        """What is chosen on validation rows, once for all orders."""
        from bench.scoreboard.gradient_heads import best_decay, best_pull  # torch

        valid_rows = _of(self.data.valid, self.data.classes, self.per_class)
        aside = set(valid_rows) if self.data.valid_is_train else set()
        valid = self.arrays(valid_rows)
        first = [self.arrays(kept) for rows in self.courses[0].train if (kept := [row for row in rows if row not in aside])]
        x, y = (np.concatenate(part) for part in zip(*first, strict=True))
        classes = len(self.data.classes)
        beta, kernel_ridge = best_klda(x, y, *valid, classes, self.features)
        return {
            "LDA": {"ridge": best_lda(x, y, *valid, classes)},
            "KLDA": {"beta": beta, "ridge": kernel_ridge},
            "EWC, linear head": {"pull": best_pull(first, *valid, classes)},
            "joint linear probe": {"decay": best_decay(x, y, *valid, classes)},
        }

    def results(self, seed: int, picked: Line) -> Iterator[Line]:
        """Every head through the course of an order."""
        from bench.scoreboard.gradient_heads import Ewc, Probe, Replay  # torch

        one, classes, width = self.courses[seed], len(self.data.classes), self.vectors.keys.shape[1]
        kernel = picked["KLDA"]
        made: dict[str, Head] = {
            "1-nearest neighbour": NearestNeighbour(),
            "class mean": ClassMean(classes),
            "LDA": Lda(classes, picked["LDA"]["ridge"]),
            "KLDA": Lda(classes, kernel["ridge"], fourier(width, kernel["beta"], features=self.features)),
            "EWC, linear head": Ewc(width, classes, picked["EWC, linear head"]["pull"], seed),
            "replay, linear head": Replay(width, classes, seed=seed),
        }
        train, test = [self.arrays(rows) for rows in one.train], [self.arrays(rows) for rows in one.test]
        for name, head in made.items():
            hits = []
            for task, (rows, labels) in enumerate(train):
                head.learn(rows, labels)
                hits.append([int((head.predict(asked) == right).sum()) for asked, right in test[: task + 1]])
            yield {"memory": name, "seed": seed, **Marks(hits, [len(right) for _, right in test]).figures(), "chosen": picked.get(name)}
        joint = picked["joint linear probe"]
        probe = Probe(width, classes, joint["decay"], seed)
        probe.learn(*(np.concatenate(part) for part in zip(*train, strict=True)))
        asked, right = (np.concatenate(part) for part in zip(*test, strict=True))
        yield {"memory": "joint linear probe", "seed": seed, "last": accuracy(probe.predict(asked), right), "chosen": joint}


async def rivals(bench: Bench, name: str, contest: Contest) -> list[Line]:
    """Every head through every course; a part for what is chosen, and one for each order."""

    async def choosing(told: Progress) -> list[Line]:
        return [contest.choices()]

    async def playing(told: Progress, seed: int) -> list[Line]:
        return list(contest.results(seed, picked))

    named: Line = {"data": name, "features": contest.features}
    (picked,) = await bench.parts.part({**named, "chosen": True}, choosing, unheard, product=False)
    lines: list[Line] = []
    for seed in range(len(contest.courses)):
        work = partial(playing, seed=seed)
        lines += await bench.parts.part({**named, "seed": seed, "chosen": picked}, work, unheard, product=False)
    return lines


def draw(lines: Sequence[Line]) -> Picture:
    """Accuracy on all classes met so far, over the tasks."""
    points = [
        {"data": line["data"], "memory": line["memory"], "task": task, "accuracy": share}
        for line in lines
        for task, share in enumerate(line.get("after") or [], 1)
    ]
    return curves(
        points, panels=[(name, {"data": name}, "accuracy") for name in dict.fromkeys(p["data"] for p in points)], across="task", of="memory"
    )


def _texts(courses: Sequence[Course], data: Intents, per_class: int | None) -> Iterator[str]:
    for one in courses:
        yield from (text for part in (*one.train, *one.test) for text, _ in part)
    yield from (text for text, _ in _of(data.valid, data.classes, per_class))
    yield from words_of(data.classes)


def _steps(one: Course, when: When) -> int:
    asked = sum(sum(len(test) for test in one.test[: task + 1]) for task in range(len(one.test)))
    return sum(map(len, one.train)) + asked + (sum(map(len, one.test)) if when == "end" else 0)
