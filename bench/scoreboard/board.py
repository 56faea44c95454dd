"""What the boards share: their options, the encoder, the product under test, and the way from figures to a table, JSON and PNG."""

import asyncio
import contextlib
import functools
import os
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from tqdm import tqdm

from bench.asking import Palimpsest, Progress
from bench.corrections import FRESH, SAME_VECTORS, SCRATCH, quiet
from bench.data import DataAbsent, directory
from bench.scoreboard.parts import Parts, deciding
from bench.scoreboard.report import Line, Table, as_text
from bench.scoreboard.sources import Loaded
from bench.starts import settings_of, unseen
from bench.table import report, write_json
from service.settings import Settings, SettingsRefused

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from bench.vectors import Vectors

T = TypeVar("T")
Decorated = Callable[..., Any]
Draw = Callable[[Sequence[Line]], "Figure"]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What was chosen on the command line of any board."""

    seeds: int
    rest: str | None
    key: str | None
    json_path: Path | None
    png: Path | None
    same_vectors: bool = False
    fresh: bool = False


@dataclass(frozen=True, slots=True)
class Bench:
    """What a board measures with."""

    settings: Settings
    vectors: "Vectors"
    chosen: Chosen
    parts: Parts
    sets: Mapping[str, "Vectors"] = field(default_factory=dict)

    def on(self, name: str) -> "Bench":
        """The same for a data set that has vectors of its own (`bench.starts`)."""
        return replace(self, settings=unseen(self.settings, name), vectors=self.sets[name])

    @property
    def rivals(self) -> "Vectors":
        """The vectors that rivals are given."""
        return self.vectors.rivals

    async def use(
        self,
        named: Mapping[str, Any],
        product: AbstractAsyncContextManager[Palimpsest],
        work: Callable[[Palimpsest, Progress], Awaitable[list[Line]]],
        progress: Progress,
    ) -> list[Line]:
        """What `work` finds with a new bank, or found in an earlier run (`bench.scoreboard.parts`); `named` has the memory's name."""
        from bench.runs import REST
        from bench.subjects import EngineMemory

        async def opened(told: Progress) -> list[Line]:
            async with product as memory:
                lines = await work(memory, told)
                if not isinstance(memory, EngineMemory) or memory.by_itself is None:
                    return lines
                refused = sum(not one.passed for one in memory.done)
                return [{**line, "by_itself": {"consolidations": len(memory.done), "refused": refused}} for line in lines]

        if named["memory"] == REST:  # who serves there, nobody knows the next time
            return await opened(progress)
        return await self.parts.part(named, opened, progress, product=True)

    def products(self, *, by_itself: bool = False, apart: bool = False) -> list[tuple[str, AbstractAsyncContextManager[Palimpsest]]]:
        """A new bank of the product at its engine port, and one of the running service if that is to be measured too; to be opened.

        `by_itself`: the first is consolidated when the settings call for it, as a running service does it anyway. `apart`: in a process
        of its own, as there.
        """
        from bench.runs import ENGINE, REST
        from bench.subjects import engine_memory, rest_memory

        opened: list[tuple[str, AbstractAsyncContextManager[Palimpsest]]] = [
            (ENGINE, engine_memory(self.settings, self.vectors, by_itself=by_itself, apart=apart))
        ]
        if self.chosen.rest is not None:
            opened.append((REST, rest_memory(None if self.chosen.rest == SCRATCH else self.chosen.rest, self.chosen.key, self.settings)))
        return opened


def options(seeds: int) -> Callable[[Decorated], Decorated]:
    """The options that every board has; they arrive as one `chosen`."""

    path = click.Path(dir_okay=False, path_type=Path)
    over = "Also measure a running service at URL (on banks that are deleted afterwards); without URL, one started for it."

    def decorate(command: Decorated) -> Decorated:
        @click.option("--seeds", default=seeds, show_default=True, type=click.IntRange(1), help="Number of random orders.")
        @click.option("--rest", is_flag=False, flag_value=SCRATCH, metavar="[URL]", help=over)
        @click.option("--key", envvar="PALIMPSEST_KEY", help="Key for --rest URL; it must be an admin's.")
        @click.option("--same-vectors", is_flag=True, help=SAME_VECTORS)
        @click.option("--fresh", is_flag=True, help=FRESH)
        @click.option("--json", "json_path", type=path, help="Also write everything measured to this file.")
        @click.option("--png", type=path, help="Curves, where the board has some. Default: beside the JSON.")
        @functools.wraps(command)  # with the options that were given below this one
        def called(
            seeds: int,
            rest: str | None,
            key: str | None,
            json_path: Path | None,
            png: Path | None,
            same_vectors: bool,
            fresh: bool,
            **others: object,
        ) -> None:
            if rest not in (None, SCRATCH) and not key:
                raise click.UsageError("--rest URL needs --key or PALIMPSEST_KEY")
            command(chosen=Chosen(seeds, rest, key, json_path, png, same_vectors, fresh), **others)

        return called

    return decorate


def data_of(load: Callable[[Path], T]) -> T:
    """What `load` finds in the directory of the data sets, or one clear message."""
    try:
        return load(directory(os.environ))
    except DataAbsent as absent:
        raise click.ClickException(str(absent)) from None


def run_board(
    name: str,
    tables: Sequence[Table],
    chosen: Chosen,
    data: Sequence[Loaded[Any]],
    texts: Iterable[str] | Mapping[str, Iterable[str]],
    measure: Callable[[Bench, Progress], Awaitable[list[Line]]],
    *,
    steps: int,
    given: Mapping[str, object] | None = None,
    draw: Draw | None = None,
) -> None:
    """Encode the texts, measure, print the tables, write the files. `steps` is how much progress `measure` will tell of.

    `given`: the options of the board on which the figures of its parts depend. `texts` by the names of intent sets: each set is played by
    `Bench.on`, with a start that has not learned from it.
    """
    begin = time.perf_counter()
    with told():
        from bench.runs import encode_sets, to_encode  # torch loads from here on, after all that can be refused at once
        from bench.vectors import encoders_of

        settings = quiet(settings_of(os.environ))
        by_set = texts if isinstance(texts, Mapping) else {"": texts}
        wanted = {name: list(dict.fromkeys(text for text in some if text)) for name, some in by_set.items()}
        with tqdm(desc="encode", total=to_encode(wanted, settings, same=chosen.same_vectors), unit=" texts") as bar:
            vectors = encode_sets(wanted, settings, bar.update, same=chosen.same_vectors)
        of = {name: [some.digest, some.rivals.digest] for name, some in vectors.items()}
        every = [digest for digests in of.values() for digest in digests]
        digests = {loaded.name: [loaded.sha256, *of.get(loaded.name, every)] for loaded in data}
        parts = Parts.of(name, {**(given or {}), **deciding(settings)}, digests, fresh=chosen.fresh)
        bench = Bench(settings, next(iter(vectors.values())), chosen, parts, vectors)

        async def measured() -> list[Line]:
            with tqdm(desc=name, total=steps, unit=" steps") as bar:
                return await measure(bench, bar.update)

        lines = asyncio.run(measured())
    seconds = parts.seconds or time.perf_counter() - begin
    click.echo(f"{as_text(tables, lines)}\n\n{seconds:,.0f} s measured{parts.earlier}, {encoders_of(vectors)}")
    if chosen.json_path is not None:
        facts = [{"name": loaded.name, "rows": loaded.rows, "sha256": loaded.sha256} for loaded in data]
        write_json(chosen.json_path, report(name, lines, facts, vectors=vectors, seconds=seconds, **parts.told()))
    png = chosen.png or (chosen.json_path.with_suffix(".png") if chosen.json_path else None)
    if draw is not None and png is not None:
        png.parent.mkdir(parents=True, exist_ok=True)
        draw(lines).savefig(png, dpi=130)


@contextlib.contextmanager
def told() -> Iterator[None]:
    """Errors that are the user's to repair end in one message."""
    from httpx import HTTPError

    from bench.consolidating import Unfinished
    from bench.running import NotServing
    from bench.subjects import Refused
    from model.encoder import EncoderRefused

    try:
        yield
    except (DataAbsent, EncoderRefused, HTTPError, NotServing, Refused, SettingsRefused, Unfinished) as refused:
        raise click.ClickException(str(refused) or type(refused).__name__) from None


def words_of(answers: Iterable[str]) -> Iterator[str]:
    """The words that the product reads of answers when it meets them first; they have to be encoded as well."""
    from workers.encoding import own_words

    for answer in dict.fromkeys(answers):
        if words := own_words(answer):
            yield words


async def timed_ms(work: Awaitable[object]) -> float:
    """How long it took."""
    begin = time.perf_counter()
    await work
    return 1e3 * (time.perf_counter() - begin)


def unheard(done: int) -> None:
    """Progress that nobody is told of."""
