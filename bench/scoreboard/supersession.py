"""`python -m bench supersession`: thirteen years of a cheat-sheet and its corrections. Is the newest answer told, and what after an undo?

Entries whose command was really corrected at least once, all in one stream ordered by time. Three streams: *corrections*, the first command
and each real correction of it; *versions*, every dated version, also those that only reword or re-style; and by request *sheet*,
corrections of the whole cheat-sheet, where seven of eight entries were never corrected and many are like another one, so that it shows
where what is alike is taken for a correction. Afterwards each entry is asked with the wording it began with and with its latest one.
Shares, which sum to 1: *current* the latest command, *stale* an earlier one of the same entry, *wrong* anything else, *silent* nothing.

Undo: the last correction of a sample of entries is forgotten. Each is then asked with the wording of the correction before it; *returned*
is how many are answered with that one's command, at once and when the weights are rebuilt. Palimpsest is consolidated by itself as often
as a running service would.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import click
import numpy as np

from bench.asking import Asked, Palimpsest, Progress, Said
from bench.data import Row
from bench.scoreboard.board import Bench, Chosen, data_of, options, run_board, words_of
from bench.scoreboard.report import Figure, Line, Table
from bench.scoreboard.sources import Item, Version, cheat_sheet
from bench.scoreboard.stores import OLDEST, STORE, Store

Stream = Literal["corrections", "versions", "sheet"]
STREAMS: tuple[Stream, ...] = ("corrections", "versions", "sheet")
OUTCOMES = ("current", "stale", "wrong", "silent")
TABLES = (
    Table(
        "supersession",
        "Cheat-sheet history, the latest command asked",
        ("stream", "wording", "memory"),
        (Figure("items", "entries", ",.0f"), *(Figure(outcome, outcome) for outcome in OUTCOMES)),
    ),
    Table(
        "undo",
        "The last correction forgotten, the command before it asked for",
        ("stream", "memory"),
        (Figure("undone", "undone", ",.0f"), Figure("at_once", "returned at once"), Figure("rebuilt", "after the rebuild")),
    ),
)


@dataclass(frozen=True, slots=True)
class Write:
    """A correction of the stream: of which entry, and the how-manieth of it."""

    item: int
    number: int
    version: Version

    @property
    def row(self) -> Row:
        """What is taught."""
        return self.version.wording, self.version.command


def corrected(items: Sequence[Item], number: int | None = None) -> list[Item]:
    """The entries with at least one real correction; only a number of them, spread over the file, if one is given."""
    found = [item for item in items if sum(version.corrected for version in item) > 1]
    if number is None or number >= len(found):
        return found
    return [found[place] for place in np.linspace(0, len(found) - 1, number).astype(int)]


def writes(items: Sequence[Item], stream: Stream) -> list[Write]:
    """The stream in the order of time; what has the same time stays in the order of the file."""
    made = []
    for place, item in enumerate(items):
        kept = [version for version in item if stream == "versions" or version.corrected]
        made += [Write(place, number, version) for number, version in enumerate(kept)]
    return sorted(made, key=lambda write: write.version.time)


def outcome(said: Said, commands: Sequence[str]) -> str:
    """Which of `OUTCOMES` an answer is, where `commands` were right, the latest last."""
    if said.answer is None:
        return "silent"
    if said.answer == commands[-1]:
        return "current"
    return "stale" if said.answer in commands else "wrong"


def undoable(stream: Sequence[Write], sample: int, seed: int) -> list[tuple[Write, Write]]:
    """Pairs of an entry's last write and the one before it, whose command is another and whose wording no other write has."""
    of: dict[int, list[Write]] = {}
    for write in stream:
        of.setdefault(write.item, []).append(write)
    users: dict[str, set[int]] = {}
    for write in stream:
        users.setdefault(write.version.wording, set()).add(write.item)
    pairs = [(own[-1], own[-2]) for own in of.values() if len(own) > 1]
    pairs = [(last, before) for last, before in pairs if last.version.command != before.version.command]
    pairs = [(last, before) for last, before in pairs if len(users[before.version.wording]) == 1]
    chosen = np.random.default_rng(seed).permutation(len(pairs))[:sample]
    return [pairs[place] for place in sorted(chosen.tolist())]


@click.command("supersession")
@options(seeds=1)
@click.option(
    "--stream", "streams", multiple=True, type=click.Choice(STREAMS), default=STREAMS[:2], show_default=True, help="Several for several."
)
@click.option(
    "--items",
    "number",
    type=click.IntRange(2),
    help="Entries; the first ones for sheet. Default: all that were corrected, 2,277 of the public half; 17,086.",
)
@click.option("--undo", "sample", default=200, show_default=True, type=click.IntRange(1, 1_000), help="Corrections that are undone.")
def command(chosen: Chosen, streams: tuple[Stream, ...], number: int | None, sample: int) -> None:
    """Corrections that replace earlier ones: current, stale, wrong, silent; and whether an undo brings the earlier answer back.

    The order is that of time; seeds only choose what is undone.
    """
    loaded = data_of(cheat_sheet)
    chosen_items = {stream: loaded.holds[:number] if stream == "sheet" else corrected(loaded.holds, number) for stream in streams}
    played = {stream: writes(items, stream) for stream, items in chosen_items.items()}
    every = [version for items in chosen_items.values() for item in items for version in item]
    texts = [*(version.wording for version in every), *words_of(version.command for version in every)]
    passes = 2 + (chosen.rest is not None)
    steps = chosen.seeds * sum(
        passes * (len(made) + 2 * len(chosen_items[stream]) + 2 * sample) + len(made) + 2 * len(chosen_items[stream])
        for stream, made in played.items()
    )

    async def measure(bench: Bench, progress: Progress) -> list[Line]:
        lines: list[Line] = []
        for stream, made in played.items():
            for seed in range(chosen.seeds):
                script = Script(chosen_items[stream], stream, made, undoable(made, sample, seed), seed)
                for name, product in bench.products(by_itself=True):
                    named = {"stream": stream, "seed": seed, "memory": name}
                    lines += await bench.use(named, product, partial(play, name, script=script), progress)
                for name, store in ((STORE, Store(bench.rivals)), (OLDEST, Store(bench.rivals, newest=False))):
                    lines += await play(name, store, progress, script=script)
        return lines

    given = {"items": number, "undo": sample}
    run_board("supersession", TABLES, chosen, [loaded], texts, measure, steps=steps, given=given)


@dataclass(frozen=True, slots=True)
class Script:
    """What is played: entries and the stream of their corrections, and the pairs of which the first is undone."""

    items: Sequence[Item]
    stream: Stream
    made: Sequence[Write]
    undone: Sequence[tuple[Write, Write]]
    seed: int


async def play(name: str, memory: Palimpsest | Store, progress: Progress, *, script: Script) -> list[Line]:
    """Teach the stream, ask every entry, undo, ask what was undone."""
    items, made, undone = script.items, script.made, script.undone
    names = await memory.tell_many([write.row for write in made], progress)
    named = {"stream": script.stream, "memory": name, "seed": script.seed}
    commands: list[list[str]] = [[] for _ in items]
    for write in made:
        commands[write.item].append(write.version.command)
    lines: list[Line] = []
    for wording, place in (("first", 0), ("latest", -1)):
        said = await memory.ask_many([item[place].wording for item in items], progress)
        found = [outcome(one, right) for one, right in zip(said, commands, strict=True)]
        shares = {each: found.count(each) / len(found) for each in OUTCOMES}
        lines.append({"table": "supersession", **named, "wording": wording, "items": len(items), **shares})
    if name == OLDEST:
        return lines  # it has no undo to speak of: the first answer was told all along
    of = {(write.item, write.number): each for write, each in zip(made, names, strict=True)}
    await memory.forget([of[last.item, last.number] for last, _ in undone])
    at_once = await returned(memory, undone, progress)
    rebuilt = None
    if not isinstance(memory, Store):
        await memory.rebuild()
        rebuilt = await returned(memory, undone, progress)
    lines.append({"table": "undo", **named, "undone": len(undone), "at_once": at_once, "rebuilt": rebuilt})
    return lines


async def returned(memory: Asked, undone: Sequence[tuple[Write, Write]], progress: Progress) -> float:
    """The share of undone corrections whose predecessor's command is told again."""
    said = await memory.ask_many([before.version.wording for _, before in undone], progress)
    return sum(one.answer == before.version.command for one, (_, before) in zip(said, undone, strict=True)) / max(1, len(undone))
