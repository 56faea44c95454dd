"""`python -m bench cost`: what corrections cost in milliseconds, bytes and seconds of consolidation; beside mem0 and a vector store.

CLINC150's training utterances in random order, one correction a call, each acknowledged when it is durable (but for the bare store, which
has everything in memory). After every thousand, test utterances are asked one a call. Times are medians in the same run on the same
vectors, without the encoder, whose cost is the same for all. *on disk* is what the directory has grown by, for each correction.

Consolidations are done in a process that is made of the same parts as `palimpsest jobs` (`bench.consolidating`), each in one of its own.
*peak* is the most memory that it had at once meanwhile, all libraries included; *before* is what it had when it was ready; *added* is what
the consolidation brought; *stated* is what the product says that it may bring at most (`model.consolidation.room`).
"""

import contextlib
import tempfile
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from statistics import median

import click
import numpy as np
from matplotlib.figure import Figure as Picture

from bench.asking import Asked, Consolidating, Progress
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, timed_ms, words_of
from bench.scoreboard.peers import MEM0, mem0_memory, why_absent
from bench.scoreboard.pictures import curves
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import intents
from bench.scoreboard.stores import STORE, Store

TESTED = 100  # test utterances asked after each thousand
TABLES = (
    Table(
        "cost",
        "A thousand corrections, and the last hundred questions after them",
        ("corrections", "memory"),
        (
            Figure("teach_ms", "teach ms", ".2f"),
            Figure("batch_ms", "in batches of 200", ".2f"),
            Figure("ask_ms", "ask ms", ".2f"),
            Figure("memory_bytes", "held, MiB", ".1f", 1 / 2**20),
            Figure("disk_bytes", "on disk, KiB each", ".1f", 1 / 2**10),
            Figure("consolidation_s", "consolidation s", ".1f"),
        ),
    ),
    Table(
        "consolidations",
        "What a consolidation takes",
        ("corrections", "memory"),
        (
            Figure("consolidation_s", "s", ".1f"),
            Figure("cpu_s", "of the processor, s", ".1f"),
            Figure("peak_bytes", "peak of its process, MiB", ",.0f", 1 / 2**20),
            Figure("before_bytes", "before, MiB", ",.0f", 1 / 2**20),
            Figure("more_bytes", "added, MiB", ",.0f", 1 / 2**20),
            Figure("stated_bytes", "stated, MiB", ",.0f", 1 / 2**20),
        ),
    ),
)


@click.command("cost")
@options(seeds=1)
@click.option("--corrections", default=3_000, show_default=True, type=click.IntRange(2), help="How many are taught, for the longest.")
@click.option("--step", default=1_000, show_default=True, type=click.IntRange(2), help="Corrections between two looks.")
@click.option("--mem0/--no-mem0", default=True, help="Whether to run mem0 beside it.")
def command(chosen: Chosen, corrections: int, step: int, mem0: bool) -> None:
    """Milliseconds, bytes and seconds of consolidation for a thousand corrections, beside mem0 and a bare vector store."""
    loaded = data_of(lambda below: intents("clinc150", below))
    data = loaded.holds
    orders = [
        [data.train[place] for place in np.random.default_rng(seed).permutation(len(data.train))[:corrections]]
        for seed in range(chosen.seeds)
    ]
    asked = [data.test[place][0] for place in np.random.default_rng(0).permutation(len(data.test))[:TESTED]]
    texts = [*(text for order in orders for text, _ in order), *asked, *words_of(data.classes)]
    if mem0 and (absent := why_absent()):
        click.echo(absent, err=True)
        mem0 = False
    passes = 2 + (chosen.rest is not None) + mem0
    steps = passes * sum(len(order) + len(asked) * -(-len(order) // step) for order in orders)

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for seed, order in enumerate(orders):
            memories: list[tuple[str, AbstractAsyncContextManager[Asked]]] = [*bench.products(apart=True)]
            memories.append((STORE, contextlib.nullcontext(Store(bench.rivals))))
            if mem0:
                memories.append((MEM0, _mem0(bench)))
            for name, opened in memories:
                async with opened as memory:
                    found = await paid(memory, order, step, asked, progress)
                lines += [{"memory": name, "seed": seed, **line} for line in found]
        return lines

    run_board("cost", TABLES, chosen, [loaded], texts, measure, steps=steps, draw=draw)


@contextlib.asynccontextmanager
async def _mem0(bench: Bench) -> AsyncIterator[Asked]:
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch, mem0_memory(bench.rivals, Path(scratch)) as memory:
        yield memory


async def paid(memory: Asked, order: Sequence[Row], step: int, asked: Sequence[str], progress: Progress) -> list[Line]:
    """Teach, half of each step one a call and half in batches; ask; consolidate where that can be done."""
    from model.consolidation import room

    lines: list[Line] = []
    for begin in range(0, len(order), step):
        some = order[begin : begin + step]
        single, batch = some[: len(some) // 2], some[len(some) // 2 :]
        before = await memory.disk_bytes()
        teach_ms = [await timed_ms(memory.tell_many([row], progress)) for row in single]
        batch_ms = await timed_ms(memory.tell_many(batch, progress)) / len(batch)
        after = await memory.disk_bytes()
        ask_ms = [await timed_ms(memory.ask_many([text], progress)) for text in asked]
        consolidation = await memory.consolidate() if isinstance(memory, Consolidating) else None
        lines.append(
            {
                "table": "cost",
                "corrections": begin + len(some),
                "teach_ms": median(teach_ms),
                "batch_ms": batch_ms,
                "ask_ms": median(ask_ms),
                "memory_bytes": await memory.size_bytes(),
                "disk_bytes": None if before is None or after is None else (after - before) / len(some),
                "consolidation_s": consolidation and consolidation.seconds,
                "gate_passed": consolidation and consolidation.passed,
            }
        )
        if consolidation is not None:
            peak, before = consolidation.peak_bytes, consolidation.before_bytes
            took = {
                "consolidation_s": consolidation.seconds,
                "cpu_s": consolidation.cpu_s,
                "peak_bytes": peak,
                "before_bytes": before,
                "more_bytes": None if peak is None or before is None else peak - before,
                "stated_bytes": room(begin + len(some)),
            }
            lines.append({"table": "consolidations", "corrections": begin + len(some), **took})
    return lines


def draw(lines: Sequence[Line]) -> Picture:
    """Times over the number of corrections."""
    shown = ("teach_ms", "ask_ms", "consolidation_s", "disk_bytes")
    return curves(lines, panels=[(figure, {}, figure) for figure in shown], across="corrections", of="memory")
