"""`python -m bench latency`: what the service adds to its model, with one client, and what is left of its throughput with 32.

The model's bare step (`bench.step`: encoder and memory) is most of a request and nobody can have it for less, so everything is told over
it, and over its encoder call alone, with the same texts in the same run: step and request alternate text by text, the bursts of 32 clients
alternate with bursts of the bare encoder, and noise hits both alike.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TypeVar

import click
from tqdm import tqdm

from bench.cluster.running import Shape, cluster
from bench.cluster.servers import NotStarted
from bench.data import DataAbsent, Row, directory, load
from bench.line import Line, ask_all, request_bytes
from bench.running import NotServing, Running, running_service
from bench.starts import encoder_of
from bench.step import BareStep, Took
from bench.table import write_json
from bench.vectors import BATCH
from model.encoder import Encoder

Asked = TypeVar("Asked")

CLIENTS = 32
TAUGHT = 300  # corrections that the bank holds when it is asked
RECALL_MS, TEACH_MS, SHARE = 5.0, 10.0, 0.8  # the goals, over the encoder
STEP_MS, STEP_P99_MS = 3.0, 10.0  # and of a cluster, over the model's bare step


@dataclass(frozen=True, slots=True)
class Paired:
    """Requests of one kind, each after the model's bare step with its text; milliseconds."""

    encoder_ms: list[float]  # the part of the bare step that is the encoder
    step_ms: list[float]
    asked_ms: list[float]

    @property
    def adds_ms(self) -> float:
        """Median over texts of the request minus the bare encoder call."""
        return median(_less(self.asked_ms, self.encoder_ms))

    @property
    def adds_to_step_ms(self) -> float:
        """Median over texts of the request minus the bare step."""
        return median(_less(self.asked_ms, self.step_ms))

    @property
    def adds_to_step_p99_ms(self) -> float:
        """The same at the slowest hundredth of the differences."""
        return _hundredth(_less(self.asked_ms, self.step_ms))

    @property
    def adds_to_step_at_best_ms(self) -> float:
        """The fastest tenth of the requests against the fastest tenth of the bare steps: what a busy machine adds least to."""
        return _tenth(self.asked_ms) - _tenth(self.step_ms)

    @property
    def reaches_step(self) -> bool:
        """Whether the goals over the bare step are reached."""
        return self.adds_to_step_ms <= STEP_MS and self.adds_to_step_p99_ms <= STEP_P99_MS


@dataclass(frozen=True, slots=True)
class Latency:
    """One run. Throughput in texts a second."""

    recall: Paired
    teach: Paired
    keyed: Paired  # a correction under an Idempotency-Key: two durable transactions more; no goal was set for it
    encoder_per_s: list[float]
    service_per_s: list[float]
    in_cluster: bool = False

    @property
    def shares(self) -> list[float]:
        """For each repetition, the service's throughput over that of the encoder before and after it."""
        around = zip(self.encoder_per_s, self.encoder_per_s[1:], strict=False)
        return [2 * asked / (before + after) for asked, (before, after) in zip(self.service_per_s, around, strict=True)]

    @property
    def missed(self) -> list[str]:
        """The goals that were not reached."""
        recall, teach = self.recall, self.teach
        figures = (
            ("recall", recall.reaches_step if self.in_cluster else recall.adds_ms <= RECALL_MS),
            ("corrections", teach.reaches_step if self.in_cluster else teach.adds_ms <= TEACH_MS),
            ("throughput", median(self.shares) >= SHARE),
        )
        return [name for name, reached in figures if not reached]


@click.command()
@click.option("--requests", default=400, show_default=True, type=click.IntRange(8), help="Requests of each kind with one client.")
@click.option("--bursts", default=5, show_default=True, type=click.IntRange(1), help="Repetitions with 32 clients.")
@click.option("--burst", default=1_500, show_default=True, type=click.IntRange(CLIENTS), help="Requests in one of them.")
@click.option("--cluster", "in_cluster", is_flag=True, help="Of a cluster on this machine: api, worker, PostgreSQL, Redis, S3.")
@click.option("--check", is_flag=True, help="Exit with 1 when a goal is missed.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write every figure to this file.")
def latency(requests: int, bursts: int, burst: int, in_cluster: bool, check: bool, json_path: Path | None) -> None:
    """What the service adds to a bare call of its model.

    Starts a service of its own on a scratch directory. The texts are BANKING77's when the data sets are there, made up otherwise.
    """
    rows = some_rows(rows_for(requests))
    try:
        found = asyncio.run(measure(rows, requests, bursts, burst, in_cluster=in_cluster))
    except (NotServing, NotStarted) as error:
        raise click.ClickException(str(error)) from None
    click.echo(render(found))
    if json_path is not None:
        write_json(json_path, {"benchmark": "latency", **asdict(found), "shares": found.shares, "missed": found.missed})
    if check and found.missed:
        raise SystemExit(1)


def render(found: Latency) -> str:
    """The figures and their goals, for people."""
    bare = [*found.recall.encoder_ms, *found.keyed.encoder_ms]
    lines = [
        f"one client, {len(found.recall.asked_ms)} requests of each kind, medians (quartiles)",
        f"  bare encoder call           {_spread(bare)} ms",
        *_paired("recall", found.recall, RECALL_MS),
        *_paired("correction, durable", found.teach, TEACH_MS),
        *_paired("the same, Idempotency-Key", found.keyed, None),
        f"  goals over the bare step, of a cluster: median {STEP_MS:.0f}, slowest hundredth {STEP_P99_MS:.0f}",
        f"{CLIENTS} clients, {len(found.service_per_s)} bursts, medians (quartiles)",
        f"  encoder alone, batches      {_spread(found.encoder_per_s)} texts/s",
        f"  recalls                     {_spread(found.service_per_s)} /s   share {_spread(found.shares)}, goal {SHARE}",
        "missed: " + ", ".join(found.missed) if found.missed else "all goals reached",
    ]
    return "\n".join(lines)


def _paired(name: str, kind: Paired, goal: float | None) -> tuple[str, str, str]:
    step = f"adds {kind.adds_to_step_ms:.2f} ms (at best {kind.adds_to_step_at_best_ms:.2f}, p99 {kind.adds_to_step_p99_ms:.2f})"
    return (
        f"  {name:27} {_spread(kind.asked_ms)} ms",
        f"    over the bare step        {_spread(kind.step_ms)} ms   {step}",
        f"    over its encoder call     adds {kind.adds_ms:.2f} ms" + ("" if goal is None else f", goal of one process {goal:.0f}"),
    )


def _less(values: Sequence[float], others: Sequence[float]) -> list[float]:
    return [value - other for value, other in zip(values, others, strict=True)]


def _hundredth(values: Sequence[float]) -> float:
    return sorted(values)[int(0.99 * (len(values) - 1))]


def _tenth(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 10]


def _spread(values: Sequence[float]) -> str:
    ordered = sorted(values)
    low, high = ordered[len(ordered) // 4], ordered[(3 * len(ordered)) // 4]
    return f"{median(ordered):8.2f} ({low:.2f} to {high:.2f})"


def rows_for(requests: int) -> int:
    """How many rows a run of so many requests of each kind takes."""
    return TAUGHT + 3 * requests


def some_rows(number: int) -> list[Row]:
    """Texts and their right answers, of 77 kinds."""
    try:
        rows = load("banking77", directory(os.environ)).rows
    except DataAbsent:
        rows = tuple(
            (f"Question {place}: where do I find my {place % 77}th statement, please?", f"intent {place % 77}") for place in range(9_999)
        )
    step = max(1, len(rows) // number)
    return [rows[(place * step) % len(rows)] for place in range(number)]


async def measure(rows: Sequence[Row], requests: int, bursts: int, burst: int, *, in_cluster: bool = False) -> Latency:
    """One run over `rows_for(requests)` rows on a service of its own.

    Raises:
        NotServing, NotStarted: it did not start.
    """
    encoder = encoder_of(os.environ)
    step = BareStep(encoder)
    async with _running(in_cluster) as service:
        for begin in range(0, TAUGHT, 100):
            items = [{"input": text, "right": right} for text, right in rows[begin : begin + 100]]
            async with service.client() as client:
                (await client.post("/v1/corrections/batch", json={"items": items})).raise_for_status()
            for text, right in rows[begin : begin + 100]:
                step.teach(text, right)
        kinds = [rows[begin : begin + requests] for begin in range(TAUGHT, rows_for(requests), requests)]
        single = await asyncio.to_thread(_one_client, step, service, *kinds)
        many = await _many_clients(encoder, service, [text for text, _ in rows[TAUGHT:]], bursts, burst)
    return Latency(*single, *many, in_cluster)


@contextlib.asynccontextmanager
async def _running(in_cluster: bool) -> AsyncIterator[Running]:
    if not in_cluster:
        async with running_service({**os.environ, "PALIMPSEST_LOG_LEVEL": "info"}) as service:
            yield service
        return
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as home:
        async with cluster(Path(home), Shape(apis=1, workers=1)) as made:
            yield Running(made.urls["api-1"], made.key)


def _one_client(
    step: BareStep, service: Running, asked: Sequence[Row], taught: Sequence[Row], keyed: Sequence[Row]
) -> tuple[Paired, Paired, Paired]:
    recall, teach, once = Paired([], [], []), Paired([], [], []), Paired([], [], [])
    triples = list(zip(asked, taught, keyed, strict=True))
    with Line(service.url) as line:
        for place, ((text, _), lesson, other) in enumerate(tqdm(triples, desc="one client", unit="texts")):
            request = request_bytes(service.url, service.key, "/v1/recall", {"input": text})
            _note(recall, step.ask(text), _timed_ms(line.ask, request))
            for kind, (said, right), name in ((teach, lesson, ""), (once, other, f"{place}")):
                body = {"input": said, "right": right}
                request = request_bytes(service.url, service.key, "/v1/corrections", body, once=name)
                _note(kind, step.teach(said, right), _timed_ms(line.ask, request))
    return recall, teach, once


def _note(kind: Paired, bare: Took, asked_ms: float) -> None:
    kind.encoder_ms.append(bare.encoder_ms)
    kind.step_ms.append(bare.whole_ms)
    kind.asked_ms.append(asked_ms)


def _timed_ms(work: Callable[[Asked], object], asked: Asked) -> float:
    begin = time.perf_counter()
    work(asked)
    return 1e3 * (time.perf_counter() - begin)


async def _many_clients(
    encoder: Encoder, service: Running, texts: Sequence[str], bursts: int, burst: int
) -> tuple[list[float], list[float]]:
    chosen = [texts[place % len(texts)] for place in range(burst)]
    requests = [request_bytes(service.url, service.key, "/v1/recall", {"input": text}) for text in chosen]
    bare, served = [_encoder_rate(encoder, chosen)], []
    for _ in tqdm(range(bursts), desc=f"{CLIENTS} clients", unit="bursts"):
        begin = time.perf_counter()
        await ask_all(service.url, requests, CLIENTS)
        served.append(burst / (time.perf_counter() - begin))
        bare.append(_encoder_rate(encoder, chosen))
    return bare, served


def _encoder_rate(encoder: Encoder, texts: Sequence[str]) -> float:
    begin = time.perf_counter()
    for start in range(0, len(texts), BATCH):
        encoder.encode(texts[start : start + BATCH])
    return len(texts) / (time.perf_counter() - begin)
