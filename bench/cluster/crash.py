"""`python -m bench cluster-crash`: a cluster whose parts are killed, stopped, cut apart and flushed under load; every promise must hold.

In each round clients teach and ask through all apis, an operation (consolidation, rebuild, erasure or rollback) is under way, and one fault
strikes. After it: every acknowledged correction is in the ledger, once, where the acknowledgement said; seqs have no gap; no answer came
from a state before an acknowledged write; the digest is that of a fold of the ledger made outside the service; the operation is whole.
"""

import asyncio
import contextlib
import random
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.cluster.faults import FAULTS, HEARTBEAT_S, strike
from bench.cluster.running import Cluster, Shape, cluster
from bench.cluster.servers import NotStarted
from bench.cluster.traffic import Traffic
from bench.killing import Fold
from bench.operations import KINDS, Operation, Refused
from bench.promises import NAMES, Broken
from bench.running import client_of
from bench.table import write_json
from model import Recall, RecallConfig
from model.encoder import Encoder, find_weights

LEAD_S, AFTER_S = 0.7, 1.0  # of load before and after the fault
PAGE = 200
ANSWERS = [f"answer {number}" for number in range(40)]
SETTINGS = {
    "HEARTBEAT_S": str(HEARTBEAT_S),
    "SNAPSHOT_EVERY": "64",
    "AUTO_SNAPSHOTS": "2",
    "SWEEP_S": "0.5",
    "CLAIM_TTL_S": "3",
    "LOG_LEVEL": "warning",
}


@dataclass(slots=True)
class Report:
    """The figures."""

    rounds: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    operations: Counter[str] = field(default_factory=Counter)
    acknowledged: int = 0
    asked: int = 0
    replayed: int = 0
    waits_s: list[float] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def tell(self, *broken: Broken) -> None:
        """Add what broke; what is seen again counts once."""
        self.broken += [each for each in broken if each not in self.broken]

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        counts = {name: sum(each.kind == kind for each in self.broken) for kind, name in NAMES.items()}
        return {
            "benchmark": "cluster-crash",
            "rounds": self.rounds,
            "faults": dict(self.faults),
            "operations": dict(self.operations),
            "acknowledged": self.acknowledged,
            "asked": self.asked,
            "replayed": self.replayed,
            "sent_again": len(self.waits_s),
            "sent_again_median_s": round(median(self.waits_s or [0.0]), 3),
            "sent_again_max_s": round(max(self.waits_s, default=0.0), 3),
            **counts,
            "broken": [f"{each.kind}: {each.what}" for each in self.broken],
        }

    def __str__(self) -> str:
        """For people."""
        lines = [
            f"{self.rounds} rounds: " + ", ".join(f"{number} {name}" for name, number in sorted(self.faults.items())),
            f"{self.acknowledged:,} corrections acknowledged, {self.asked:,} questions answered or refused",
            f"{len(self.waits_s):,} corrections sent again (median {median(self.waits_s or [0.0]):.2f} s, longest "
            f"{max(self.waits_s, default=0.0):.2f} s), {self.replayed:,} of them answered from what was committed before",
            ", ".join(f"{sum(each.kind == kind for each in self.broken)} {name}" for kind, name in NAMES.items()),
        ]
        return "\n".join(lines + [f"  {each.kind}: {each.what}" for each in self.broken])


@click.command("cluster-crash")
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(1))
@click.option("--writers", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--fault", "faults", multiple=True, type=click.Choice(tuple(FAULTS)), help="Only these; several times for several.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def command(rounds: int, writers: int, faults: tuple[str, ...], seed: int, json_path: Path | None) -> None:
    """Break a cluster again and again; exit 1 if any promise broke."""
    with tqdm(total=rounds, desc="faults", unit="rounds") as bar:
        try:
            report = asyncio.run(run(rounds, writers, list(faults or FAULTS), seed, bar.update))
        except NotStarted as error:
            raise click.ClickException(str(error)) from None
    click.echo(str(report))
    if json_path is not None:
        write_json(json_path, report.as_json())
    if report.broken:
        raise SystemExit(1)


async def run(
    rounds: int, writers: int, faults: list[str], seed: int, progress: Callable[[int], object], *, in_turn: bool = False
) -> Report:
    """The rounds on a cluster of its own; see the module. Faults are drawn by weight, or come `in_turn`.

    Raises:
        NotStarted: a part of the cluster did not come up.
    """
    encoder = Encoder.load(find_weights(None))
    recall = Recall(RecallConfig(encoder_digest=encoder.digest))
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as scratch:
        async with cluster(Path(scratch), Shape(relays=True, settings=SETTINGS)) as running:
            rig = Rig(running, random.Random(seed), Fold(recall, encoder), Path(scratch))
            for place in range(rounds):
                await rig.round(writers, [faults[place % len(faults)]] if in_turn else faults)
                progress(1)
    return rig.report


class Rig:
    """One cluster, its clients, and what is known of both."""

    def __init__(self, running: Cluster, dice: random.Random, fold: Fold, home: Path) -> None:
        self._cluster, self._dice, self._fold, self._home = running, dice, fold, home
        self._traffic = Traffic(list(running.urls.values()), running.key, random.Random(dice.random()), ANSWERS)
        self._rows: list[tuple[str, str]] = []  # what the ledger was seen to hold: input, right
        self._cursor: str | None = None
        self.report = Report()

    async def round(self, writers: int, faults: list[str]) -> None:
        """Load, a fault, and a look at everything."""
        stop = asyncio.Event()
        async with self._client() as client:
            operation = Operation(self._dice.choice(KINDS), self._dice.getrandbits(40))
            await operation.prepare(client)
            work = [self._traffic.write(stop) for _ in range(writers)]
            beside = [self._traffic.ask(stop), _begin(operation, client, self._dice.uniform(0, 2 * LEAD_S))]
            tasks = [asyncio.ensure_future(each) for each in (*work, *beside)]
            await asyncio.sleep(self._dice.uniform(0.1, LEAD_S))
            done = await strike(self._cluster, self._dice, faults)
            await asyncio.sleep(self._dice.uniform(0.1, AFTER_S))
            stop.set()
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if ended is not None:
                    self.report.tell(Broken("other", f"round {self.report.rounds} ({done.name} {done.victim}): {ended!r}"))
        await asyncio.gather(*(process.ready() for process in self._cluster.processes.values()))
        self.report.rounds += 1
        self.report.faults[done.name] += 1
        self.report.operations[operation.kind] += 1
        async with self._client() as client:
            where = f"round {self.report.rounds} ({done.name} {done.victim})"
            broken = [*await operation.settle(client, self._fold, self._home), *await self._look(client)]
            self.report.tell(*(Broken(each.kind, f"{where}: {each.what}") for each in (*broken, *self._traffic.broken)))
        self._traffic.broken.clear()
        self.report.acknowledged, self.report.asked = len(self._traffic.acked), self._traffic.asked
        self.report.replayed, self.report.waits_s = self._traffic.replayed, self._traffic.waits_s

    def _client(self) -> httpx.AsyncClient:
        return client_of(self._dice.choice(list(self._cluster.urls.values())), self._cluster.key)

    async def _look(self, client: httpx.AsyncClient) -> list[Broken]:
        """The ledger and the weights of the bank that the writers teach."""
        fresh = await self._new_rows(client)
        digest = (await client.get("/v1/memory")).json()["digest"]
        broken = []
        if self._fold.learn(fresh) != digest:
            broken.append(Broken("digest", "the bank's digest is not that of the fold of its ledger"))
        seen = Counter(text for text, _ in self._rows)
        broken += [Broken("duplicated", f"{text!r} is in the ledger {number} times") for text, number in seen.items() if number > 1]
        for text, (seq, right) in self._traffic.acked.items():
            if seq > len(self._rows) or self._rows[seq - 1] != (text, right):
                broken.append(Broken("lost", f"{text!r} was acknowledged as seq {seq} and is not there"))
        strange = set(seen) - set(self._traffic.acked)
        return broken + [Broken("other", f"{text!r} is in the ledger and was never acknowledged") for text in strange]

    async def _new_rows(self, client: httpx.AsyncClient) -> list[tuple[str, str]]:
        rows: list[dict[str, Any]] = []
        while True:
            params = {"limit": PAGE} | ({"cursor": self._cursor} if self._cursor else {})
            listed = (await client.get("/v1/events", params=params)).json()
            rows += listed["items"]
            if listed["next_cursor"] is None:
                break
            self._cursor = listed["next_cursor"]  # the last page is read again next time
        fresh = [(row["input"], row["right"]) for row in rows if row["seq"] > len(self._rows)]
        self._rows += fresh
        return fresh


async def _begin(operation: Operation, client: httpx.AsyncClient, wait_s: float) -> None:
    """Send it once; what is refused for the moment, or lost, is sent again under its key when all is well."""
    with contextlib.suppress(Refused):
        await operation.begin(client, wait_s)
