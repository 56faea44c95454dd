"""`python -m bench cluster-scaling`: how many more recalls two workers answer than one, behind one api.

Two workers need two devices, and the api, the database and the clients want cores besides. Where a machine has not so many, `--share`
holds each worker to a part of a core, as a slower device would be: it is stopped and goes on ten times a second. What is measured
then is whether anything but the workers sets the pace. One worker and two take turns, in one run. Each turn has banks of its own, made
while both workers are there: a bank stays where it is warm, so those that one worker had alone would stay there when the other comes back.
"""

import asyncio
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from statistics import median
from types import TracebackType

import click
from tqdm import tqdm

from bench.cluster.running import Cluster, Process, Shape, cluster
from bench.cluster.servers import NotStarted
from bench.line import ask_all, request_bytes
from bench.running import client_of
from bench.table import write_json

BANKS, LESSONS, CLIENTS = 32, 20, 64
PERIOD_S = 0.1
GOAL = 1.7


class Held(AbstractContextManager["Held"]):
    """Processes that run for a share of the time, each in a part of the period of its own."""

    def __init__(self, processes: Sequence[Process], share: float) -> None:
        self._processes, self._share, self._over = processes, share, threading.Event()
        self._threads = [threading.Thread(target=self._hold, args=(each, place)) for place, each in enumerate(processes)]

    def __enter__(self) -> "Held":
        if self._share < 1:
            for thread in self._threads:
                thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None) -> None:
        self._over.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()

    def _hold(self, process: Process, place: int) -> None:
        time.sleep(place * PERIOD_S / len(self._processes))
        while not self._over.is_set():
            process.signal(signal.SIGSTOP)
            time.sleep((1 - self._share) * PERIOD_S)
            process.signal(signal.SIGCONT)
            time.sleep(self._share * PERIOD_S)


@click.command("cluster-scaling")
@click.option("--turns", default=5, show_default=True, type=click.IntRange(1), help="Measurements of one worker and of two.")
@click.option(
    "--requests", default=600, show_default=True, type=click.IntRange(CLIENTS), help="Recalls with one worker; twice as many with two."
)
@click.option(
    "--share",
    default=1.0,
    show_default=True,
    type=click.FloatRange(0.05, 1),
    help="Part of a core that each worker gets; 1: all it can get.",
)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def command(turns: int, requests: int, share: float, json_path: Path | None) -> None:
    """Recalls a second of one worker and of two, on a cluster of its own."""
    with tqdm(total=turns, unit="turns") as bar:
        try:
            one, two = asyncio.run(measure(turns, requests, share, bar.update))
        except NotStarted as error:
            raise click.ClickException(str(error)) from None
    times = sorted(more / fewer for fewer, more in zip(one, two, strict=True))
    click.echo(f"one worker   {median(one):7.1f} recalls/s ({min(one):.1f} to {max(one):.1f}), each held to {share:g} of a core")
    click.echo(f"two workers  {median(two):7.1f} recalls/s ({min(two):.1f} to {max(two):.1f})")
    click.echo(f"times        {median(times):7.2f} ({times[0]:.2f} to {times[-1]:.2f} of {turns} turns)   goal {GOAL}")
    if json_path is not None:
        write_json(json_path, {"benchmark": "cluster-scaling", "share": share, "one_per_s": one, "two_per_s": two, "times": times})


async def measure(turns: int, requests: int, share: float, progress: Callable[[int], object]) -> tuple[list[float], list[float]]:
    """Recalls a second with one worker, and with two, of each turn.

    Raises:
        NotStarted: a part of the cluster did not come up.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as home:
        async with cluster(Path(home), Shape(apis=1, workers=2, settings={"LOG_LEVEL": "warning"})) as running:
            first, second = running.of("worker")
            one, two = [], []
            for turn in range(turns):
                await asyncio.sleep(1)  # the api has seen who is there
                banks = await _taught(running, turn)
                two.append(await _rate(running, [first, second], banks, 2 * requests, share))
                await second.stop()
                one.append(await _rate(running, [first], banks, requests, share))
                await second.start()
                await second.ready()
                progress(1)
    return one, two


async def _taught(running: Cluster, turn: int) -> list[str]:
    """The names of new banks that have learned something."""
    names = [f"bank {turn}.{place}" for place in range(BANKS)]
    items = [{"input": f"what is the house rule for case {n}?", "right": f"ruling {n}"} for n in range(LESSONS)]
    async with client_of(running.urls["api-1"], running.key) as client:
        for name in names:
            (await client.post("/v1/banks", json={"name": name})).raise_for_status()
            (await client.post("/v1/corrections/batch", json={"bank": name, "items": items})).raise_for_status()
    return names


async def _rate(running: Cluster, workers: Sequence[Process], banks: Sequence[str], requests: int, share: float) -> float:
    url = running.urls["api-1"]
    asked = [
        request_bytes(url, running.key, "/v1/recall", {"bank": banks[n % BANKS], "input": f"somebody asks about case {n % LESSONS}"})
        for n in range(requests)
    ]
    await asyncio.sleep(1)  # the api has seen who is there
    await ask_all(url, asked[: 4 * BANKS], CLIENTS)  # each bank is warm where it will be asked
    with Held(workers, share):
        begin = time.perf_counter()
        await ask_all(url, asked, CLIENTS)
        return requests / (time.perf_counter() - begin)
