"""`python -m bench abstention`: does a memory know what it was never taught? CLINC150 with its out-of-scope questions.

All training utterances are taught, in random order; Palimpsest is consolidated by itself as often as a running service would. Then the
4,500 test utterances of the taught classes (*inside*) and the 1,000 out-of-scope ones (*outside*) are asked for the best answer and its
confidence.

- *AUROC*: how often an inside question is surer than an outside one
- *recall at 95*: share of outside questions refused by the threshold that 95 % of the inside ones pass
- *calibration*: expected calibration error of the confidence, inside, 15 bins; a cosine is no probability and has none
- *refused*, *silenced*: outside questions met with silence, and right answers to inside ones that were, by the memory's own threshold
"""

from collections.abc import Sequence
from functools import partial
from statistics import fmean
from typing import TypeVar

import click
import numpy as np

from bench.asking import Asked, Palimpsest, Progress, Said
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.measures import auroc, calibration_error, threshold_keeping
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import intents
from bench.scoreboard.stores import STORE, Store

T = TypeVar("T")
KEPT = 0.95
TABLES = (
    Table(
        "abstention",
        "CLINC150, out-of-scope questions",
        ("memory", "taught"),
        (
            Figure("auroc", "AUROC"),
            Figure("recall_95", "recall at 95"),
            Figure("accuracy", "accuracy inside"),
            Figure("calibration", "calibration error"),
            Figure("refused", "refused"),
            Figure("silenced", "silenced"),
        ),
    ),
)


@click.command("abstention")
@options(seeds=3)
@click.option("--taught", type=click.IntRange(1), help="Training utterances that are taught. Default: all 15,000.")
@click.option("--asked", type=click.IntRange(1), help="Test utterances asked, inside and outside each. Default: all.")
@click.option("--consolidate", is_flag=True, help="Also ask after a consolidation.")
def command(chosen: Chosen, taught: int | None, asked: int | None, consolidate: bool) -> None:
    """Out-of-scope questions: AUROC, recall at 95 % in-scope, calibration error of the confidence."""
    loaded = data_of(lambda below: intents("clinc150", below))
    data = loaded.holds
    inside, outside = evenly(data.test, asked), evenly(data.outside, asked)
    orders = [
        [data.train[place] for place in np.random.default_rng(seed).permutation(len(data.train))[:taught]] for seed in range(chosen.seeds)
    ]
    rows = list(dict.fromkeys(row for order in orders for row in order))
    texts = [*(text for text, _ in (*rows, *inside)), *outside, *words_of(data.classes)]
    asks = len(inside) + len(outside)
    passes = 2 + (chosen.rest is not None)
    steps = sum(passes * (len(order) + asks) + (passes - 1) * asks * consolidate for order in orders)

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []

        async def asked_all(memory: Asked, told: Progress, name: str, taught: int, seed: int) -> Line:
            said = await memory.ask_many([*(text for text, _ in inside), *outside], told)
            figures = figures_of(said[: len(inside)], inside, said[len(inside) :], cosine=name == STORE)
            return {"table": "abstention", "memory": name, "taught": taught, "seed": seed, **figures}

        async def played(memory: Palimpsest, told: Progress, *, name: str, order: Sequence[Row], seed: int) -> list[Line]:
            await memory.tell_many(order, told)
            found = [await asked_all(memory, told, name, len(order), seed)]
            if consolidate:
                await memory.consolidate()
                found.append(await asked_all(memory, told, f"{name}, consolidated", len(order), seed))
            return found

        for seed, order in enumerate(orders):
            for name, product in bench.on("clinc150").products(by_itself=True):
                named = {"seed": seed, "memory": name}
                lines += await bench.use(named, product, partial(played, name=name, order=order, seed=seed), progress)
            store = Store(bench.rivals)
            await store.tell_many(order, progress)
            lines.append(await asked_all(store, progress, STORE, len(order), seed))
        return lines

    given = {"taught": taught, "asked": asked, "consolidate": consolidate}
    run_board("abstention", TABLES, chosen, [loaded], {"clinc150": texts}, measure, steps=steps, given=given)


def figures_of(inside: Sequence[Said], rows: Sequence[Row], outside: Sequence[Said], *, cosine: bool) -> Line:
    """The figures from what was said to `rows` and to questions of no class."""
    right = [said.value == intent for said, (_, intent) in zip(inside, rows, strict=True)]
    sure, unsure = [said.confidence for said in inside], [said.confidence for said in outside]
    threshold = threshold_keeping(sure, KEPT)
    return {
        "auroc": auroc(sure, unsure),
        "recall_95": fmean(confidence < threshold for confidence in unsure),
        "accuracy": fmean(right),
        "calibration": None if cosine else calibration_error(sure, right),
        "refused": fmean(said.silent for said in outside),
        "silenced": fmean(said.silent for said, hit in zip(inside, right, strict=True) if hit) if any(right) else None,
    }


def evenly(rows: Sequence[T], number: int | None) -> list[T]:
    """So many of the rows, evenly over the file, which has its classes one after the other; all without a number."""
    if number is None or number >= len(rows):
        return list(rows)
    return [rows[place] for place in np.linspace(0, len(rows) - 1, number).astype(int)]
