"""`python -m bench cluster-failover`: how long a bank is silent when its worker is killed or drained, and how long a cold start takes.

One client asks all the time, as people's agents do: what is refused for the moment, it asks again. Silence is the time from the signal to
the first right answer that was asked for after it.
"""

import asyncio
import contextlib
import signal
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.cluster.running import Cluster, Process, Shape, cluster
from bench.cluster.servers import NotStarted
from bench.cluster.traffic import FOR_THE_MOMENT
from bench.running import client_of
from bench.table import write_json

HEARTBEAT_S = 8.0
LESSONS = 300  # of each bank: a snapshot every 64, and a tail to fold
SETTINGS = {"HEARTBEAT_S": str(HEARTBEAT_S), "SNAPSHOT_EVERY": "64", "LOG_LEVEL": "warning"}
ASKED, RIGHT = "what is the house rule for case 7?", "ruling 7"
GOALS_S = {"failover": HEARTBEAT_S + 2, "drain": 1.0, "cold": 1.0}  # p99


@click.command("cluster-failover")
@click.option("--times", default=10, show_default=True, type=click.IntRange(1), help="Kills and drains, each so many times.")
@click.option("--banks", default=30, show_default=True, type=click.IntRange(1), help="Cold starts.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def command(times: int, banks: int, json_path: Path | None) -> None:
    """Silence after a kill and after a drain, and cold starts from S3; on a cluster of its own with two workers."""
    with tqdm(total=2 * times + banks, unit="times") as bar:
        try:
            found = asyncio.run(measure(times, banks, bar.update))
        except NotStarted as error:
            raise click.ClickException(str(error)) from None
    for name, seconds in found.items():
        click.echo(f"{name:9} {told(seconds)}   goal p99 {GOALS_S[name]:g} s")
    if json_path is not None:
        write_json(json_path, {"benchmark": "cluster-failover", **found})


def told(seconds: list[float]) -> str:
    """Median, p99 and the longest, for people."""
    ordered = sorted(seconds)
    median, p99 = ordered[len(ordered) // 2], ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return f"median {median:.3f} s, p99 {p99:.3f} s, longest {ordered[-1]:.3f} s of {len(ordered)}"


async def measure(times: int, banks: int, progress: Callable[[int], object]) -> dict[str, list[float]]:
    """Seconds of silence after kills and drains, and of cold starts.

    Raises:
        NotStarted: a part of the cluster did not come up.
    """
    shape = Shape(apis=1, workers=2, settings=SETTINGS)
    found: dict[str, list[float]] = {"failover": [], "drain": [], "cold": []}
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as home:
        async with cluster(Path(home), shape) as running, client_of(running.urls["api-1"], running.key) as client:
            names = [f"bank {place}" for place in range(banks)]
            for name in names:
                await _taught(client, name)
            for kind, number in (("failover", signal.SIGKILL), ("drain", signal.SIGTERM)):
                for place in range(times):
                    found[kind].append(await _silence(running, client, names[place % banks], number))
                    progress(1)
            await _all_cold(running)
            for name in names:
                found["cold"].append(await _first_answer(client, name, time.perf_counter()))
                progress(1)
    return found


async def _taught(client: httpx.AsyncClient, name: str) -> None:
    (await client.post("/v1/banks", json={"name": name})).raise_for_status()
    for begin in range(0, LESSONS, 100):
        items = [{"input": f"what is the house rule for case {n}?", "right": f"ruling {n}"} for n in range(begin, begin + 100)]
        (await client.post("/v1/corrections/batch", json={"bank": name, "items": items})).raise_for_status()


async def _silence(running: Cluster, client: httpx.AsyncClient, bank: str, number: signal.Signals) -> float:
    """Signal the worker that has the bank warm, and put it back afterwards."""
    victim = await _owner(running, client, bank)
    begin = time.perf_counter()
    victim.signal(number)
    if number == signal.SIGKILL:
        await victim.kill()
    seconds = await _first_answer(client, bank, begin)
    if number == signal.SIGTERM:
        seconds = max(seconds, await _longest_gap(client, bank, victim))
    await victim.stop()
    await victim.start()
    await victim.ready()
    return seconds


async def _longest_gap(client: httpx.AsyncClient, bank: str, victim: Process) -> float:
    """The longest silence while the worker hands over."""
    longest = 0.0
    while victim.alive:
        longest = max(longest, await _first_answer(client, bank, time.perf_counter()))
    return longest


async def _owner(running: Cluster, client: httpx.AsyncClient, bank: str) -> Process:
    """The worker whose number of questions answered rises when the bank is asked."""
    before = await _reads(running)
    await _first_answer(client, bank, 0.0)
    after = await _reads(running)
    return running.processes[max(after, key=lambda name: after[name] - before[name])]


async def _reads(running: Cluster) -> dict[str, float]:
    counts = {}
    async with httpx.AsyncClient() as client:
        for process in running.of("worker"):
            lines = (await client.get(f"{process.health}/metrics")).text.splitlines()
            counts[process.name] = sum(
                float(line.split()[-1]) for line in lines if line.startswith('palimpsest_stage_seconds_count{stage="read"')
            )
    return counts


async def _all_cold(running: Cluster) -> None:
    """Stop every worker, so that no bank is in any memory, and start them again."""
    for step in ("stop", "start", "ready"):
        await asyncio.gather(*(getattr(process, step)() for process in running.of("worker")))
    await asyncio.sleep(1.5)  # the api has seen them


async def _first_answer(client: httpx.AsyncClient, bank: str, begin: float) -> float:
    """Seconds from `begin` to a right answer.

    Raises:
        AssertionError: an answer was wrong.
    """
    while True:
        with contextlib.suppress(httpx.TransportError):
            response = await client.post("/v1/recall", json={"bank": bank, "input": ASKED})
            if response.status_code == 200:
                said: list[dict[str, Any]] = response.json()["answers"]
                assert [answer["value"] for answer in said] == [RIGHT], f"{bank}: {said}"
                return time.perf_counter() - begin
            assert response.status_code in FOR_THE_MOMENT, response.text
        await asyncio.sleep(0.01)
