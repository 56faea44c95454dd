"""`python -m bench crash`: `kill -9` at random moments under concurrent writers, jobs and rollbacks; all that was promised must hold.

After every restart: each acknowledged correction is in the ledger where the acknowledgement said, seqs have no gap, what was not
acknowledged is sent again under its key and is there exactly once, and the digest is that of an uninterrupted fold of the same ledger made
outside the service. The operation that was under way (consolidation, rebuild, erasure or rollback) is whole.
"""

import asyncio
import contextlib
import random
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.killing import Fold, Victim, Writers
from bench.operations import KINDS, Operation
from bench.running import NotServing
from bench.table import write_json
from model import Recall, RecallConfig
from model.encoder import Encoder, find_weights

WINDOW_S = 1.2  # a process lives at most so long after it was ready
STARTING_S = 4.0  # about as long as a start takes
KILLED_STARTING = 0.15  # part of the rounds in which a start is killed, too
ANSWERS = [f"answer {number}" for number in range(40)]
PAGE = 200


@dataclass(slots=True)
class Report:
    """What happened, and every promise that broke."""

    rounds: int = 0
    kills: int = 0
    kills_while_starting: int = 0
    acknowledged: int = 0
    events: int = 0
    resent: int = 0
    replayed: int = 0
    operations: dict[str, int] = field(default_factory=dict)
    restart_s: list[float] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """For people."""
        did = ", ".join(f"{number} {name}" for name, number in sorted(self.operations.items()))
        return "\n".join(
            [
                f"{self.rounds} rounds, {self.kills} kills ({self.kills_while_starting} of them while starting)",
                f"{self.acknowledged:,} corrections acknowledged, {self.events:,} events in the ledger",
                f"{self.resent:,} requests sent again after a kill, {self.replayed:,} of them answered from what was committed before it",
                f"operations under way at a kill: {did}",
                f"restart {median(self.restart_s):.1f} s (longest {max(self.restart_s):.1f} s)",
                "every promise held" if not self.broken else f"{len(self.broken)} promises broken:\n  " + "\n  ".join(self.broken),
            ]
        )


@click.command()
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(1))
@click.option("--writers", default=4, show_default=True, type=click.IntRange(1, 64), help="Concurrent writers.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def crash(rounds: int, writers: int, seed: int, json_path: Path | None) -> None:
    """Kill a service again and again; exit 1 if anything acknowledged was lost. About six seconds a round."""
    with tqdm(total=rounds, desc="kill -9", unit="rounds") as bar:
        try:
            report = asyncio.run(run(rounds, writers, seed, bar.update))
        except NotServing as error:
            raise click.ClickException(str(error)) from None
    click.echo(str(report))
    if json_path is not None:
        write_json(json_path, {"benchmark": "crash", **asdict(report)})
    if report.broken:
        raise SystemExit(1)


async def run(rounds: int, writers: int, seed: int, progress: Callable[[int], object]) -> Report:
    """The rounds on a scratch directory; see the module.

    Raises:
        NotServing: the service did not come back; nothing is worse than that.
    """
    encoder = Encoder.load(find_weights(None))
    recall = Recall(RecallConfig(encoder_digest=encoder.digest))
    with tempfile.TemporaryDirectory(prefix="palimpsest-crash-") as scratch:
        rig = Rig(Victim(Path(scratch)), random.Random(seed), encoder, recall)
        await rig.victim.start()
        for _ in range(rounds):
            await rig.round(writers)
            progress(1)
        await rig.victim.stop()
        await rig.last(Path(scratch))
    return rig.report


class Rig:
    """One service, its writers, and what is known of both."""

    def __init__(self, victim: Victim, dice: random.Random, encoder: Encoder, recall: Recall) -> None:
        self.victim, self.dice, self.report = victim, dice, Report()
        self._encoder, self._recall = encoder, recall
        self._fold = Fold(recall, encoder)
        self._writers = Writers(random.Random(dice.random()), ANSWERS)
        self._rows: list[tuple[str, str]] = []
        self._cursor: str | None = None

    async def round(self, writers: int) -> None:
        """Write until the kill, start again, look."""
        operation = await self._until_killed(writers)
        self.report.rounds += 1
        if self.dice.random() < KILLED_STARTING:
            await self.victim.spawn()
            await asyncio.sleep(self.dice.uniform(0.0, STARTING_S))
            await self.victim.kill()
            self.report.kills += 1
            self.report.kills_while_starting += 1
        self.report.restart_s.append(await self.victim.start())
        self.report.resent += len(self._writers.waiting)
        async with self.victim.client() as client:
            await self._writers.settle(client)
            self.report.broken += await operation.settle(client, Fold(self._recall, self._encoder))
            await self._look(client)
        self.report.acknowledged, self.report.replayed = len(self._writers.acked), self._writers.replayed

    async def last(self, scratch: Path) -> None:
        """With the process gone: the hash chain, and the fold of the whole ledger once more from its beginning."""
        from service.embedded import DEFAULT
        from service.errors import PalimpsestError
        from service.store import banks, ledger, tenants
        from service.store.db import Database

        database = Database(f"sqlite+aiosqlite:///{scratch / 'var' / 'palimpsest.db'}")
        try:
            async with database.read() as conn:
                tenant = await tenants.find_tenant(conn, DEFAULT) or ""
                bank = await banks.find_bank(conn, tenant, DEFAULT)
                await ledger.verify_chain(conn, tenant, bank.id)
        except PalimpsestError as error:
            self.report.broken.append(error.detail)
        finally:
            await database.close()
        if Fold(self._recall, self._encoder).learn(self._rows) != self._fold.state.digest():
            self.report.broken.append("the fold of the whole ledger is not the fold of its parts")

    async def _until_killed(self, writers: int) -> Operation:
        async with self.victim.client() as client:
            operation = Operation(self.dice.choice(KINDS), self.dice.getrandbits(40))
            await operation.prepare(client)
            self.report.operations[operation.kind] = self.report.operations.get(operation.kind, 0) + 1
            work = [self._writers.write(client) for _ in range(writers)]
            tasks = [asyncio.ensure_future(each) for each in (*work, operation.begin(client), _look_around(client))]
            await asyncio.sleep(self.dice.uniform(0.0, WINDOW_S))
            await self.victim.kill()
            self.report.kills += 1
            for ended in await asyncio.gather(*tasks, return_exceptions=True):
                if isinstance(ended, BaseException) and not isinstance(ended, httpx.TransportError):
                    self.report.broken.append(f"round {self.report.rounds}: {ended!r}")
        return operation

    async def _look(self, client: httpx.AsyncClient) -> None:
        fresh = await self._new_rows(client)
        digest = self._fold.learn(fresh) if fresh else self._fold.state.digest()
        told = (await client.get("/v1/memory")).json()["digest"]
        where = f"round {self.report.rounds}"
        if told != digest:
            self.report.broken.append(f"{where}: the digest is {told}, the ledger folds to {digest}")
        known = {text: (seq, right) for seq, (text, right) in enumerate(self._rows, start=1)}
        if len(known) != len(self._rows):
            self.report.broken.append(f"{where}: {len(self._rows) - len(known)} corrections are there twice")
        lost = [text for text, told in self._writers.acked.items() if known.get(text) != told]
        self.report.broken += [f"{where}: acknowledged and not in the ledger as acknowledged: {text}" for text in lost]
        if len(self._rows) != len(self._writers.acked):
            self.report.broken.append(f"{where}: {len(self._rows)} events, {len(self._writers.acked)} acknowledged")
        self.report.events = len(self._rows)

    async def _new_rows(self, client: httpx.AsyncClient) -> list[tuple[str, str]]:
        """The events since the last look, in order."""
        rows: list[dict[str, Any]] = []
        while True:
            params = {"limit": PAGE} | ({"cursor": self._cursor} if self._cursor else {})
            listed = (await client.get("/v1/events", params=params)).json()
            rows += listed["items"]
            if listed["next_cursor"] is None:
                break
            self._cursor = listed["next_cursor"]  # the last page is read again next time
        seqs = [row["seq"] for row in rows]
        if seqs and (seqs != list(range(seqs[0], seqs[0] + len(seqs))) or seqs[0] > len(self._rows) + 1):
            self.report.broken.append(f"the seqs {seqs[0]} to {seqs[-1]} have gaps")
        fresh = [(row["input"], row["right"]) for row in rows if row["seq"] > len(self._rows)]
        self._rows += fresh
        return fresh


async def _look_around(client: httpx.AsyncClient) -> None:
    """What goes on beside writing: questions, and a snapshot."""
    with contextlib.suppress(httpx.TransportError):
        while True:
            for answer in ANSWERS[:8]:
                (await client.post("/v1/recall", json={"input": f"somebody asks about {answer}"})).raise_for_status()
            (await client.post("/v1/snapshots", json={})).raise_for_status()
