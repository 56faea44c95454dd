"""`python -m bench cluster-contention`: several workers that all believe they own the same banks, on one PostgreSQL; nothing may diverge.

The apis' routing keeps a bank with one worker. Here it is passed by: each client calls a worker of its own, so that every bank changes its
owner all the time, often while the last owner is in the middle of an append. After each part of the corrections every worker is asked for
the digest of every bank: all are that of the fold of the ledger made outside; each acknowledged correction is in the ledger once, where
the acknowledgement said, and no seq is missing.
"""

import asyncio
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.cluster.running import Cluster, Shape, cluster
from bench.cluster.servers import NotStarted
from bench.cluster.taught import TaughtBank
from bench.killing import Fold, consolidated_at
from bench.promises import Broken
from bench.running import client_of
from bench.starts import encoder_of
from bench.table import write_json
from model import Recall, RecallConfig
from service import wire
from service.cluster.client import FrameClient, Refused
from service.cluster.engine import Actor
from service.cluster.redis_coord import RedisCoord
from service.cluster.rpc import METHODS
from service.errors import PalimpsestError, WriterBusy

PARTS = 10  # times that everything is compared
TOGETHER, IN_A_ROW = 8, 6  # corrections of a call, and calls to the same worker, at most
ACTOR = Actor(key_id="contention", request_id="contention")
DEADLINE_S = 120.0
FIRST_WAIT_S, LAST_WAIT_S = 0.05, 2.0  # at most, before the first retry and before late ones
SETTINGS = {"SNAPSHOT_EVERY": "64", "AUTO_SNAPSHOTS": "2", "LOG_LEVEL": "warning"}
ANSWERS = [f"answer {number}" for number in range(40)]


@dataclass(slots=True)
class Report:
    """The figures."""

    owners: int
    appended: int = 0
    calls: Counter[str] = field(default_factory=Counter)  # by outcome
    ownerships: int = 0  # times that a worker took a bank
    compared: int = 0  # digests
    broken: list[Broken] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        kinds = Counter(each.kind for each in self.broken)
        return {
            "benchmark": "cluster-contention",
            "owners": self.owners,
            "appended": self.appended,
            "calls": dict(self.calls),
            "ownerships": self.ownerships,
            "compared": self.compared,
            "lost": kinds["lost"],
            "doubled": kinds["duplicated"],
            "diverged": kinds["digest"],
            "other": kinds["other"],
            "broken": [f"{each.kind}: {each.what}" for each in self.broken],
        }

    def __str__(self) -> str:
        """For people."""
        told = self.as_json()
        lines = [
            f"{self.appended:,} corrections appended by {self.owners} owners in {self.calls['done']:,} calls, "
            f"{self.calls['busy']:,} were refused for the moment; a bank changed its owner {self.ownerships:,} times",
            f"{self.compared:,} digests compared: "
            + ", ".join(f"{told[name]} {name}" for name in ("lost", "doubled", "diverged", "other")),
        ]
        return "\n".join(lines + [f"  {what}" for what in told["broken"]])


@click.command("cluster-contention")
@click.option("--appends", default=10_000, show_default=True, type=click.IntRange(1), help="Corrections.")
@click.option("--owners", default=3, show_default=True, type=click.IntRange(2, 16), help="Workers.")
@click.option("--banks", default=4, show_default=True, type=click.IntRange(1))
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def command(appends: int, owners: int, banks: int, seed: int, json_path: Path | None) -> None:
    """Let workers contend for the same banks; exit 1 if anything was lost, doubled or diverged."""
    with tqdm(total=appends, desc="corrections", unit="rows") as bar:
        try:
            report = asyncio.run(run(appends, owners, banks, seed, bar.update))
        except NotStarted as error:
            raise click.ClickException(str(error)) from None
    click.echo(str(report))
    if json_path is not None:
        write_json(json_path, report.as_json())
    if report.broken:
        raise SystemExit(1)


async def run(appends: int, owners: int, banks: int, seed: int, progress: Callable[[int], object]) -> Report:
    """Contend on a cluster of its own; see the module.

    Raises:
        NotStarted: a part of the cluster did not come up.
    """
    encoder = encoder_of(os.environ)
    fold = Fold(Recall(RecallConfig(encoder_digest=encoder.digest)), encoder)
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as home:
        settings = SETTINGS | {"BLOBS": Path(home, "objects").as_uri()}  # what is tried is PostgreSQL: quicker than a store of S3
        async with cluster(Path(home), Shape(apis=1, workers=owners, jobs=1, settings=settings)) as running:
            contest = Contest(running, random.Random(seed), Report(owners), progress)
            await contest.prepare([TaughtBank(f"bank {place}", fold.empty()) for place in range(banks)])
            try:
                for part in range(PARTS):
                    await contest.append(appends * (part + 1) // PARTS)
                    await contest.compare()
                await contest.count()
            finally:
                await contest.close()
    return contest.report


class Contest:
    """The workers of one cluster, each called by clients that know only it."""

    def __init__(self, running: Cluster, dice: random.Random, report: Report, progress: Callable[[int], object]) -> None:
        self._running, self._dice, self._progress, self.report = running, dice, progress, report
        self._workers: list[FrameClient] = []
        self._banks: list[TaughtBank] = []
        self._tenant, self._sent = "", 0

    async def prepare(self, banks: Sequence[TaughtBank]) -> None:
        """Make the banks and find the workers."""
        self._banks = list(banks)
        async with client_of(self._running.urls["api-1"], self._running.key) as client:
            for bank in banks:
                (await client.post("/v1/banks", json={"name": bank.name})).raise_for_status()
        coord = RedisCoord(self._running.redis.url())
        self._workers = [FrameClient(worker.address, worker=worker.id) for worker in await coord.workers()]
        await coord.close()
        ((self._tenant, _),) = await self._asked("SELECT tenant, sum(epoch) FROM bank GROUP BY tenant")

    async def append(self, until: int) -> None:
        """Teach until so many corrections are in all ledgers, two clients for each worker."""
        await asyncio.gather(*(self._contend(worker, until) for worker in self._workers for _ in range(2)))

    async def compare(self) -> None:
        """Ask every worker for every digest, and look at every ledger."""
        async with client_of(self._running.urls["api-1"], self._running.key) as client:
            for bank in self._banks:
                broken, digests = await self._looked_at(client, bank)
                self.report.broken += broken
                self.report.compared += len(digests)
                for place, digest in enumerate(digests):
                    if digest != bank.fold.state.digest():
                        self.report.broken.append(Broken("digest", f"{bank.name}: worker {place} has other weights than its ledger"))

    async def _looked_at(self, client: httpx.AsyncClient, bank: TaughtBank) -> tuple[list[Broken], list[str]]:
        """What is wrong with a bank's ledger, and each worker's digest, all of one head: banks are consolidated by themselves meanwhile."""
        broken: list[Broken] = []
        while True:
            before = await consolidated_at(client, bank.name)
            broken += await bank.look(client)
            digests = [(await self._call(worker, "memory", bank.name)).digest for worker in self._workers]
            if await consolidated_at(client, bank.name) == before:
                return broken, digests

    async def count(self) -> None:
        """How often a bank was taken."""
        ((_, epochs),) = await self._asked("SELECT tenant, sum(epoch) FROM bank GROUP BY tenant")
        self.report.ownerships = int(epochs)

    async def close(self) -> None:
        """Close the connections."""
        await asyncio.gather(*(worker.close() for worker in self._workers))

    async def _contend(self, worker: FrameClient, until: int) -> None:
        while self._sent < until:
            bank = self._dice.choice(self._banks)
            for _ in range(self._dice.randint(1, IN_A_ROW)):
                size = min(self._dice.randint(1, TOGETHER), until - self._sent)
                if size > 0:
                    self._sent += size
                    await self._teach(worker, bank, [self._correction(place) for place in range(self._sent - size, self._sent)])

    def _correction(self, place: int) -> wire.NewCorrection:
        text = f"customer {place} asks about {self._dice.choice(ANSWERS)}"
        return wire.NewCorrection(input=text, right=self._dice.choice(ANSWERS))

    async def _teach(self, worker: FrameClient, bank: TaughtBank, items: Sequence[wire.NewCorrection]) -> None:
        """Until it is done; what was refused for the moment was not kept."""
        longest = FIRST_WAIT_S
        while True:
            try:
                taught = await self._call(worker, "teach", bank.name, items, actor=ACTOR, idempotency_key=None)
            except (Refused, WriterBusy):
                self.report.calls["busy"] += 1
                await asyncio.sleep(self._dice.uniform(0, longest))
                longest = min(2 * longest, LAST_WAIT_S)
                continue
            except PalimpsestError as error:
                self.report.broken.append(Broken("other", f"{bank.name}: {type(error).__name__}: {error.detail}"))
                return
            self.report.calls["done"] += 1
            for item, told in zip(items, taught, strict=True):
                bank.acknowledged(item.input, told.seq, item.right)
            self.report.appended += len(items)
            self._progress(len(items))
            return

    async def _call(self, worker: FrameClient, name: str, bank: str, *arguments: object, **more: object) -> Any:  # noqa: ANN401
        """What the engine's method returns there."""
        method = METHODS[name]
        tenant, given = method.bind((self._tenant, bank, *arguments), more)
        return method.decode_result(await worker.call(name, tenant, method.encode(given), DEADLINE_S))

    async def _asked(self, query: str) -> list[tuple[Any, ...]]:
        """The rows that a statement of the superuser gives, who sees every tenant's."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self._running.postgres.url("palimpsest")) as connection:
            return await (await connection.execute(query)).fetchall()
