"""`python -m bench facts`: single facts, edited one after the other. Kept, found by another wording, and nothing else touched?

The edits of a file in random order, taught one after the other. After T of them (all, where a file has fewer) everything is asked about
those T, figures from 0 to 1:

- *reliability*: the edited prompt is answered with its latest target; `oldest`, `newest` are that of the first and last tenth of the edits
- *generality*: its rephrasing is
- *near*: silence at a prompt of the same relation about another subject (CounterFact's locality prompt): there was silence before
- *far*: silence at questions that have to do with nothing (those of Natural Questions that come with zsRE)

A memory answers above a threshold. One threshold for all streams is chosen for each memory on validation edits (`counterfact_val`, never
in a stream): of how far reliability, generality and near have come from their goals (`GOALS`) towards 1 the least is highest there. The
product is shown at its own default as well. It is consolidated by itself as often as a running service would; `--consolidate` plays it once
more, consolidated before each time that it is asked.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import fmean

import click
import numpy as np
from matplotlib.figure import Figure as Picture

from bench.asking import Asked, Consolidating, Palimpsest, Progress, Said
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.measures import auroc
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import Fact, facts, far_questions
from bench.scoreboard.stores import STORE, Store

SIZES = (1, 10, 100, 1_000, 5_000)
STREAMS = ("counterfact", "zsre")
DEFAULT, CONSOLIDATED = "its default threshold", ", consolidated"
SHARES = ("reliability", "generality", "near", "far")
TRIED = 500  # thresholds, about
GOALS = (0.99, 0.95, 0.93)  # of the first three, at 1,000 edits
TABLES = (
    Table(
        "facts",
        "Edited facts after T edits, one threshold chosen on validation edits",
        ("stream", "T", "memory"),
        (
            *(Figure(share, share) for share in SHARES),
            Figure("oldest", "oldest tenth"),
            Figure("newest", "newest tenth"),
            Figure("apart", "AUROC rephrased/near"),
            Figure("threshold", "threshold"),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Probes:
    """What is asked after some edits: for each edit its latest target; `far` is asked once."""

    edits: Sequence[Fact]
    targets: Sequence[str]
    near: Sequence[str]  # no prompt of an edit
    far: Sequence[str]

    @classmethod
    def of(cls, edits: Sequence[Fact], far: Sequence[str]) -> "Probes":
        """Of these edits, in the order of the stream."""
        latest = {edit.prompt: edit.target for edit in edits}
        near = [edit.near for edit in edits if edit.near and edit.near not in latest]
        return cls(edits, [latest[edit.prompt] for edit in edits], near, far)

    @property
    def texts(self) -> list[str]:
        """All of them, in the order that `Answers` takes them."""
        return [*(edit.prompt for edit in self.edits), *(edit.rephrase for edit in self.edits), *self.near, *self.far]


@dataclass(frozen=True, slots=True)
class Answers:
    """What a memory said to all probes."""

    probes: Probes
    said: Sequence[Said]

    def line(self, threshold: float | None) -> Line:
        """The figures at a threshold; None: the memory's own silence counts."""
        probes, edits = self.probes, len(self.probes.edits)
        near_end = 2 * edits + len(probes.near)
        given = [said.answer if threshold is None else said.value if said.confidence >= threshold else None for said in self.said]
        kept = [answer == target for answer, target in zip(given[:edits], probes.targets, strict=True)]
        found = [answer == target for answer, target in zip(given[edits : 2 * edits], probes.targets, strict=True)]
        tenth = max(1, edits // 10)
        sure = [said.confidence for said in self.said]
        return {
            "reliability": fmean(kept),
            "generality": fmean(found),
            "near": _silence(given[2 * edits : near_end]),
            "far": _silence(given[near_end:]),
            "oldest": fmean(kept[:tenth]),
            "newest": fmean(kept[-tenth:]),
            "apart": auroc(sure[edits : 2 * edits], sure[2 * edits : near_end]) if probes.near else None,
            "threshold": threshold,
        }

    def best_threshold(self) -> float:
        """Where the least of the ways of reliability, generality and near from goal to 1 is longest; of equal ones the lowest."""
        edits, near_end = len(self.probes.edits), 2 * len(self.probes.edits) + len(self.probes.near)
        sure = np.array([said.confidence for said in self.said])
        right = np.array([one.value == target for one, target in zip(self.said, [*self.probes.targets] * 2, strict=False)])
        tried = np.unique(sure[: 2 * edits])
        tried = tried[:: max(1, len(tried) // TRIED)]
        given = sure[None] >= tried[:, None]
        shares = [
            (right[:edits] & given[:, :edits]).mean(axis=1),
            (right[edits:] & given[:, edits : 2 * edits]).mean(axis=1),
            (~given[:, 2 * edits : near_end]).mean(axis=1) if self.probes.near else np.ones(len(tried)),
        ]
        least = np.min([(share - goal) / (1.0 - goal) for share, goal in zip(shares, GOALS, strict=True)], axis=0)
        return float(tried[least.argmax()])


@click.command("facts")
@options(seeds=3)
@click.option(
    "--stream", "streams", multiple=True, type=click.Choice(STREAMS), default=STREAMS, show_default=True, help="Several for several."
)
@click.option("--size", "sizes", multiple=True, type=click.IntRange(1), default=SIZES, show_default=True, help="T; several for several.")
@click.option("--validation", default=979, show_default=True, type=click.IntRange(10), help="Validation edits.")
@click.option("--far", "far_rows", default=1_000, show_default=True, type=click.IntRange(1), help="Unrelated questions.")
@click.option("--consolidate", is_flag=True, help="Also consolidate before each time that is asked.")
def command(chosen: Chosen, streams: tuple[str, ...], sizes: tuple[int, ...], validation: int, far_rows: int, consolidate: bool) -> None:
    """Edited facts: reliability, generality, locality near and far, by age, at one threshold chosen on validation rows."""
    valid = data_of(lambda below: facts("counterfact_val", below))
    loaded = {name: data_of(lambda below, name=name: facts(name, below)) for name in streams}  # type: ignore[misc]
    questions = data_of(far_questions)
    far = [question for question, _ in questions.holds[:far_rows]]
    chosen_on = valid.holds[:validation]
    played = {name: [in_order(one.holds, seed)[: max(sizes)] for seed in range(chosen.seeds)] for name, one in loaded.items()}
    edits = [*chosen_on, *(edit for orders in played.values() for order in orders for edit in order)]
    texts = [*(text for edit in edits for text in (edit.prompt, edit.rephrase, edit.near)), *far, *words_of(edit.target for edit in edits)]
    passes = 1 + (1 + consolidate) * (1 + (chosen.rest is not None))
    steps = passes * (_steps(chosen_on, (len(chosen_on),), ()) + sum(_steps(order, sizes, far) for one in played.values() for order in one))

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        aside = Course(chosen_on, (len(chosen_on),), ())
        thresholds = {label: await threshold(bench, label, aside, progress) for label in _memories(bench, consolidate)}
        lines: list[Line] = []
        for name, orders in played.items():
            for seed, order in enumerate(orders):
                for label, at in thresholds.items():
                    course = Course(order, sizes, far)
                    named = {
                        "data": ["counterfact_val", name, "nq"],
                        "seed": seed,
                        "T": reached(sizes, order),
                        "threshold": at,
                    }
                    shown = partial(lines_of, name, seed, label, threshold=at)
                    lines += await played_by(bench, label, named, course, shown, progress)
        return lines

    given = {"validation": validation, "far": far_rows}
    run_board("facts", TABLES, chosen, [valid, *loaded.values(), questions], texts, measure, steps=steps, given=given, draw=draw)


def in_order(edits: Sequence[Fact], seed: int) -> list[Fact]:
    """The stream of a seed."""
    return [edits[place] for place in np.random.default_rng(seed).permutation(len(edits))]


def reached(sizes: Sequence[int], edits: Sequence[Fact]) -> list[int]:
    """After how many of the edits is asked, ascending; a size that a file does not have is all of it."""
    return sorted({min(size, len(edits)) for size in sizes})


@dataclass(frozen=True, slots=True)
class Course:
    """A stream of edits, after how many of them is asked, and the unrelated questions of the day."""

    edits: Sequence[Fact]
    sizes: Sequence[int]
    far: Sequence[str]


async def answers_after(memory: Asked, course: Course, progress: Progress, *, consolidate: bool = False) -> list[Answers]:
    """Teach the edits one after the other, and ask after each of the sizes."""
    found, done = [], 0
    for size in reached(course.sizes, course.edits):
        await memory.tell_many([(edit.prompt, edit.target) for edit in course.edits[done:size]], progress)
        done = size
        if consolidate and isinstance(memory, Consolidating):
            await memory.consolidate()
        probes = Probes.of(course.edits[:size], course.far)
        found.append(Answers(probes, await memory.ask_many(probes.texts, progress)))
    return found


def _memories(bench: Bench, consolidate: bool) -> list[str]:
    """Names of all that play: the product, once more consolidated, and its rival."""
    hows = ("", CONSOLIDATED) if consolidate else ("",)
    return [f"{name}{how}" for name, _ in bench.products(by_itself=True) for how in hows] + [STORE]


async def played_by(
    bench: Bench, label: str, named: Line, course: Course, shown: Callable[[Sequence[Answers]], list[Line]], progress: Progress
) -> list[Line]:
    """What is `shown` of the answers of one memory on a stream, from its beginning."""
    if label == STORE:
        return shown(await answers_after(Store(bench.rivals), course, progress))
    name = label.removesuffix(CONSOLIDATED)
    product = dict(bench.products(by_itself=True))[name]

    async def work(memory: Palimpsest, told: Progress) -> list[Line]:
        return shown(await answers_after(memory, course, told, consolidate=label != name))

    return await bench.use({**named, "memory": name, "consolidated": label != name}, product, work, progress)


async def threshold(bench: Bench, label: str, aside: Course, progress: Progress) -> float:
    """The threshold that a memory has on validation edits."""
    found = await played_by(
        bench,
        label,
        {"data": ["counterfact_val"], "of": "threshold"},
        aside,
        lambda answers: [{"at": answers[0].best_threshold()}],
        progress,
    )
    return float(found[0]["at"])


def lines_of(stream: str, seed: int, memory: str, answers: Sequence[Answers], *, threshold: float) -> list[Line]:
    """The runs of one memory on one stream; a memory that can be silent by itself is shown so as well."""
    lines = []
    for one in answers:
        named = {"table": "facts", "stream": stream, "seed": seed, "T": len(one.probes.edits)}
        lines.append({**named, "memory": memory, **one.line(threshold)})
        if any(said.silent for said in one.said):
            lines.append({**named, "memory": f"{memory}, {DEFAULT}", **one.line(None)})
    return lines


def draw(lines: Sequence[Line]) -> Picture:
    """Each share over the number of edits, a panel for each stream."""
    return curves(
        lines,
        panels=[
            (f"{stream}: {share}", {"stream": stream}, share)
            for stream in dict.fromkeys(line["stream"] for line in lines)
            for share in SHARES
        ],
        across="T",
        of="memory",
        log=True,
    )


def _silence(given: Sequence[str | None]) -> float | None:
    return fmean(answer is None for answer in given) if given else None


def _steps(edits: Sequence[Fact], sizes: Sequence[int], far: Sequence[str]) -> int:
    asked_at = reached(sizes, edits)
    return asked_at[-1] + sum(len(Probes.of(edits[:size], far).texts) for size in asked_at)
