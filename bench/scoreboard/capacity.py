"""`python -m bench capacity`: one bank of fixed size, and more and more corrections. What does it still know, and how fast?

A hundred thousand corrections of real rows, all kinds mixed in random order, each text once:

- utterances of BANKING77, CLINC150 and HWU64 (training and validation rows) with their intents
- prompts of CounterFact and zsRE edits with the new answer; prompts near them and unrelated questions with the true one
- the latest wording of every cheat-sheet entry, with its command
- rephrasings of CounterFact's training edits, and sentences of novels with the name of their book, up to the number that is wanted

At each size up to 500 of each kind are asked: corrections *verbatim* (and of these the *oldest* tenth), *rephrased* facts, other *wordings*
of entries, *other* utterances (test rows) of the intents. Silence is wrong. Times are medians of single requests without the encoder;
those of Palimpsest may be of an earlier run than those of the store. Palimpsest is consolidated by itself as often as a running service
would. It has no start here (`bench.starts`): it has learned from rows of nearly every kind that is taught.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median
from typing import Any

import click
import numpy as np
from matplotlib.figure import Figure as Picture

from bench.asking import Palimpsest, Progress
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, timed_ms, unheard, words_of
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import INTENTS, Loaded, cheat_sheet, facts, far_questions, intents, sentences
from bench.scoreboard.stores import STORE, Store
from bench.starts import EVERYTHING

SIZES = (1_000, 10_000, 100_000)
PROBES = 500  # asked of each kind
TIMED = 100  # single requests of which the median is taken
KINDS = ("verbatim", "oldest", "rephrased", "wordings", "other")
TABLES = (
    Table(
        "capacity",
        "One bank, more and more corrections",
        ("corrections", "memory"),
        (
            *(Figure(kind, kind) for kind in KINDS),
            Figure("ask_ms", "ask ms", ".2f"),
            Figure("teach_ms", "teach ms", ".2f"),
            Figure("bytes", "MiB", ".1f", 1 / 2**20),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class World:
    """Everything that can be taught, and what is asked by other words. A paraphrase belongs to the row whose text it names."""

    rows: tuple[Row, ...]  # by other kinds first
    more: tuple[Row, ...]  # to fill up with
    rephrased: tuple[tuple[str, Row], ...]  # text of the taught row, and what is asked
    wordings: tuple[tuple[str, Row], ...]
    other: tuple[Row, ...]

    def order(self, seed: int, number: int) -> list[Row]:
        """So many corrections in the order of a seed, or as many as there are; each text once."""
        first = list({text: (text, right) for text, right in self.rows}.values())
        known = {text for text, _ in first}
        more = [row for row in {text: (text, right) for text, right in self.more}.values() if row[0] not in known]
        kept = first + more[: max(0, number - len(first))]
        return [kept[place] for place in np.random.default_rng(seed).permutation(len(kept))[:number]]


def world(below: Path) -> tuple[World, list[Loaded[Any]]]:
    """All real rows. Raises DataAbsent."""
    sets = [intents(name, below) for name in INTENTS]
    edits = [facts(name, below) for name in ("counterfact", "counterfact_val", "zsre")]
    training, far, sheet, novels = facts("counterfact_train", below), far_questions(below), cheat_sheet(below), sentences(below)
    every = [edit for one in (*edits, training) for edit in one.holds]
    rows = [row for one in sets for row in (*one.holds.train, *one.holds.valid)]
    rows += [(edit.near, edit.near_answer) for edit in every if edit.near] + list(far.holds)
    rows += [(edit.prompt, edit.target) for edit in every]  # after the near ones: where a prompt is both, the edit holds
    rows += [(item[-1].wording, item[-1].command) for item in sheet.holds]
    latest = dict(rows)
    held = [(edit.prompt, (edit.rephrase, edit.target)) for one in edits for edit in one.holds]
    reworded = [(item[-1].wording, (old.wording, item[-1].command)) for item in sheet.holds for old in item[:-1]]
    more = [(edit.rephrase, edit.target) for edit in training.holds] + list(novels.holds)
    return World(
        tuple(rows),
        tuple(more),
        tuple((text, asked) for text, asked in held if latest[text] == asked[1] and asked[0] not in latest),
        tuple((text, asked) for text, asked in reworded if latest[text] == asked[1] and asked[0] not in latest),
        tuple(row for one in sets for row in one.holds.test if row[0] not in latest),
    ), [*sets, *edits, training, far, sheet, novels]


def probes(all_rows: World, taught: Sequence[Row], seed: int) -> dict[str, list[Row]]:
    """What is asked when these rows were taught."""
    random = np.random.default_rng(seed)
    known, answers = {text for text, _ in taught}, {right for _, right in taught}

    def some(rows: Sequence[Row]) -> list[Row]:
        return [rows[place] for place in random.permutation(len(rows))[:PROBES]]

    return {
        "verbatim": some(taught),
        "oldest": some(taught[: max(1, len(taught) // 10)]),
        "rephrased": some([asked for text, asked in all_rows.rephrased if text in known and asked[0] not in known]),
        "wordings": some([asked for text, asked in all_rows.wordings if text in known]),
        "other": some([row for row in all_rows.other if row[1] in answers]),
    }


@click.command("capacity")
@options(seeds=1)
@click.option("--size", "sizes", multiple=True, type=click.IntRange(10), default=SIZES, show_default=True, help="Several for several.")
def command(chosen: Chosen, sizes: tuple[int, ...]) -> None:
    """A bank with 1,000, 10,000, 100,000 corrections: accuracy, latency, bytes."""
    all_rows, loaded = data_of(world)
    sizes = tuple(sorted(set(sizes)))
    orders = [all_rows.order(seed, sizes[-1]) for seed in range(chosen.seeds)]
    asked = [[probes(all_rows, order[:size], seed) for size in sizes] for seed, order in enumerate(orders)]
    texts = [text for order in orders for text, _ in order]
    texts += [text for of_seed in asked for of_size in of_seed for rows in of_size.values() for text, _ in rows]
    passes = 2 + (chosen.rest is not None)
    steps = passes * sum(len(order) for order in orders)
    steps += passes * sum(sum(map(len, of_size.values())) for of_seed in asked for of_size in of_seed)

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for seed, order in enumerate(orders):
            for name, product in bench.on(EVERYTHING).products(by_itself=True):
                named = {"seed": seed, "memory": name, "sizes": list(sizes)}
                work = partial(filled, name, order=order, sizes=sizes, asked=asked[seed], seed=seed)
                lines += await bench.use(named, product, work, progress)
            lines += await filled(STORE, Store(bench.rivals), progress, order=order, sizes=sizes, asked=asked[seed], seed=seed)
        return lines

    answers = {right for order in orders for _, right in order}
    run_board("capacity", TABLES, chosen, loaded, {EVERYTHING: [*texts, *words_of(answers)]}, measure, steps=steps, draw=draw)


async def filled(
    name: str,
    memory: Palimpsest | Store,
    progress: Progress,
    *,
    order: Sequence[Row],
    sizes: Sequence[int],
    asked: Sequence[dict[str, list[Row]]],
    seed: int,
) -> list[Line]:
    """One memory, filled step by step; the runs at each size."""
    lines, done = [], 0
    for size, kinds in zip(sizes, asked, strict=True):
        single = order[max(done, size - TIMED) : size]
        await memory.tell_many(order[done : max(done, size - TIMED)], progress)
        teach_ms = [await timed_ms(memory.tell_many([row], progress)) for row in single]
        done = size
        line: Line = {"table": "capacity", "corrections": size, "memory": name, "seed": seed}
        for kind, rows in kinds.items():
            said = await memory.ask_many([text for text, _ in rows], progress)
            line[kind] = fmean(one.answer == right for one, (_, right) in zip(said, rows, strict=True)) if rows else None
        ask_ms = [await timed_ms(memory.ask_many([text], unheard)) for text, _ in kinds["verbatim"][:TIMED]]
        lines.append({**line, "ask_ms": median(ask_ms), "teach_ms": median(teach_ms), "bytes": await memory.size_bytes()})
    return lines


def draw(lines: Sequence[Line]) -> Picture:
    """Each kind over the number of corrections, and the times."""
    shown = (*KINDS, "ask_ms", "teach_ms", "bytes")
    return curves(lines, panels=[(kind, {}, kind) for kind in shown], across="corrections", of="memory", log=True)
