"""Every memory on every stream, in this process or spread over several; vectors of all texts are computed first, once.

A unit of work is one stream under one seed: all memories play it, one after the other, in one process. What a run gives depends on its
unit only, so the number of processes changes no figure but the times.
"""

import asyncio
import multiprocessing
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import product
from multiprocessing.queues import Queue
from typing import Any

from msgspec import structs

from bench.data import DataSet
from bench.rivals import RIVALS
from bench.scoreboard.parts import Parts
from bench.starts import unseen
from bench.streams import Kind, Memory, Request, play, stream
from bench.subjects import engine_memory, rest_memory
from bench.table import Run
from bench.vectors import VectorFile, Vectors, encode_all
from service.embedded import load_encoder
from service.processes.parts import encoder_digest
from service.settings import Settings
from workers.encoding import own_words

ENGINE, REST = "Palimpsest", "Palimpsest over REST"
TOLD_EVERY = 50  # requests between two words of a process to its parent

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Rest:
    """The running service to be measured; without an address one is started for each stream."""

    url: str | None
    key: str | None


@dataclass(frozen=True, slots=True)
class Unit:
    """A stream, the vectors of its texts, and how Palimpsest is set."""

    data: str
    kind: Kind
    seed: int
    requests: list[Request]
    vectors: Vectors
    settings: Settings
    rest: Rest | None
    every: int | None  # requests between two consolidations of Palimpsest; None: whenever its settings call for it

    @property
    def named(self) -> dict[str, Any]:
        """What tells this stream from others of the same data and options."""
        vectors = self.vectors
        encoders = [vectors.digest, vectors.rivals.digest]
        return {
            "data": self.data,
            "stream": self.kind,
            "seed": self.seed,
            "requests": len(self.requests),
            "every": self.every,
            "encoders": encoders,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    sets: Sequence[DataSet]
    kinds: Sequence[Kind]
    seeds: int
    requests: int
    settings: Settings
    rest: Rest | None
    jobs: int
    every: int | None = None

    @property
    def steps(self) -> int:
        """Requests that all memories together answer."""
        memories = len(RIVALS) + 1 + (self.rest is not None)
        return len(self.sets) * len(self.kinds) * self.seeds * self.requests * memories

    def texts(self) -> dict[str, list[str]]:
        """Of each data set the texts of its streams, and the words of its answers; a short stream does not need all of its file."""
        found: dict[str, list[Request]] = {}
        for data, _, _, requests in self._streams():
            found.setdefault(data.name, []).extend(requests)
        return {name: _distinct(requests) for name, requests in found.items()}

    def units(self, vectors: Mapping[str, Vectors]) -> list[Unit]:
        """The work, in the order of the table; `vectors` as `encode_sets` gave them."""
        return [
            Unit(
                data.name,
                kind,
                seed,
                requests,
                vectors[data.name].only(_distinct(requests)),
                unseen(self.settings, data.name),
                self.rest,
                self.every,
            )
            for data, kind, seed, requests in self._streams()
        ]

    def _streams(self) -> Iterator[tuple[DataSet, Kind, int, list[Request]]]:
        for data, kind, seed in product(self.sets, self.kinds, range(self.seeds)):
            yield data, kind, seed, stream(data.rows, kind, seed=seed, requests=self.requests)


def encodings(settings: Settings, *, same: bool) -> list[Settings]:
    """Those of the encoder that the settings name and those of the same without its start, which rivals have; `same`: the first only."""
    if same or encoder_digest(settings) == encoder_digest(
        plain := structs.replace(settings, encoder_start="none", encoder_start_sha256="")
    ):
        return [settings]
    return [settings, plain]


def to_encode(texts: Mapping[str, Sequence[str]], settings: Settings, *, same: bool) -> int:
    """How much progress `encode_sets` will tell of."""
    return sum(len(set(some)) * len(encodings(unseen(settings, name), same=same)) for name, some in texts.items())


def encode_sets(
    texts: Mapping[str, Sequence[str]], settings: Settings, progress: Progress, *, same: bool, jobs: int = 1
) -> dict[str, Vectors]:
    """The vectors of each data set's texts, by the encoder with a start that has not learned from it (`bench.starts`).

    Raises:
        EncoderRefused: files of the encoder are not there, or not the expected ones.
    """
    return {name: encode_both(some, unseen(settings, name), progress, same=same, jobs=jobs) for name, some in texts.items()}


def encode_both(texts: Sequence[str], settings: Settings, progress: Progress, *, same: bool, jobs: int = 1) -> Vectors:
    """The vectors of all distinct `texts` for Palimpsest, with those for its rivals beside them.

    Raises:
        EncoderRefused: files of the encoder are not there, or not the expected ones.
    """
    ours, *plain = [encode(texts, one, progress, jobs=jobs) for one in encodings(settings, same=same)]
    return replace(ours, plain=plain[0]) if plain else ours


def encode(texts: Sequence[str], settings: Settings, progress: Progress, *, jobs: int = 1) -> Vectors:
    """The vectors of all distinct `texts`, from earlier runs or by the encoder that the settings name.

    Raises:
        EncoderRefused: its files are not there, or not the expected ones.
    """
    encoder = load_encoder(settings)
    kept = VectorFile.of(encoder.digest)
    if jobs == 1:
        return encode_all(encoder, texts, progress, kept)
    distinct = list(dict.fromkeys(texts))
    known = kept.find(distinct)
    missing = [text for text in distinct if text not in known]
    progress(len(known))
    with _pool(jobs, progress) as pool:
        list(pool.map(_encode_there, [settings] * jobs, [missing[part::jobs] for part in range(jobs)]))
    return encode_all(encoder, texts, lambda done: None, kept)  # by now all of them are in the file


def measure(plan: Plan, vectors: Mapping[str, Vectors], progress: Progress, parts: Parts) -> list[Run]:
    """All runs of the plan, in the order of the table whichever ends first; a stream that `parts` knows is not played again."""
    units = dict(enumerate(plan.units(vectors)))
    ended: dict[int, list[Run]] = {}
    for place, unit in units.items():
        kept = None if unit.rest else parts.find(unit.named, progress, product=True)
        if kept is not None:
            ended[place] = [Run.of_json(line) for line in kept]
    missing = {place: unit for place, unit in units.items() if place not in ended}

    def end(place: int, runs: list[Run]) -> None:
        ended[place], unit = runs, units[place]
        if not unit.rest:
            seconds = sum(run.tally.seconds for run in runs)
            parts.keep(unit.named, [run.as_json() for run in runs], len(runs) * len(unit.requests), seconds, product=True)

    if plan.jobs == 1:
        for place, unit in missing.items():
            end(place, asyncio.run(play_unit(unit, progress)))
    elif missing:
        with _pool(plan.jobs, progress) as pool:
            futures: dict[Future[list[Run]], int] = {pool.submit(_play_there, unit): place for place, unit in missing.items()}
            try:
                for future in as_completed(futures):
                    end(futures[future], future.result())
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)  # one failed: the others' hours are not waited for
                raise
    return [run for place in sorted(ended) for run in ended[place]]


async def play_unit(unit: Unit, progress: Progress) -> list[Run]:
    """Every memory on one stream."""
    runs = []

    async def one(name: str, memory: Memory) -> None:
        runs.append(Run(unit.data, unit.kind, unit.seed, name, await play(memory, unit.requests, unit.vectors, progress, every=unit.every)))

    for name, rival in RIVALS:
        await one(name, rival(unit.vectors.rivals))
    async with engine_memory(unit.settings, unit.vectors, by_itself=unit.every is None) as memory:
        await one(ENGINE, memory)
    if unit.rest is not None:
        async with rest_memory(unit.rest.url, unit.rest.key, unit.settings) as over_rest:
            await one(REST, over_rest)
    return runs


def _distinct(requests: Sequence[Request]) -> list[str]:
    texts = [text for request in requests for text in (request.text, own_words(request.right)) if text]
    return list(dict.fromkeys(texts))


# --- several processes

_told: "Queue[int | None] | None" = None  # of a child process, set when it starts


@contextmanager
def _pool(jobs: int, progress: Progress) -> Iterator[ProcessPoolExecutor]:
    """Fresh processes (torch does not survive a fork) whose progress is told here."""
    context = multiprocessing.get_context("spawn")
    queue: Queue[int | None] = context.Queue()

    def listen() -> None:
        while (done := queue.get()) is not None:
            progress(done)

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        with ProcessPoolExecutor(jobs, mp_context=context, initializer=_start, initargs=(queue,)) as pool:
            yield pool
    finally:
        queue.put(None)
        listener.join()
        queue.close()
        queue.join_thread()


def _start(queue: "Queue[int | None]") -> None:
    global _told  # noqa: PLW0603 - a pool's initialiser has no other place to leave it
    _told = queue


def _encode_there(settings: Settings, texts: list[str]) -> None:
    """Into the file of vectors, where the parent reads them."""
    assert _told is not None
    encoder = load_encoder(settings)
    encode_all(encoder, texts, _told.put, VectorFile.of(encoder.digest))


def _play_there(unit: Unit) -> list[Run]:
    told, done = _told, 0
    assert told is not None

    def progress(more: int) -> None:
        nonlocal done
        done += more
        if done >= TOLD_EVERY:
            told.put(done)
            done = 0

    runs = asyncio.run(play_unit(unit, progress))
    told.put(done)
    return runs
