"""`python -m bench cluster-crash`: a cluster whose parts are killed, stopped, cut apart or filled under load; every promise must hold.

In each round clients teach and ask two banks through all apis, an operation (consolidation, rebuild, erasure or rollback) is under way, and
one fault strikes. After it: every acknowledged correction is in the ledger, once, where the acknowledgement said; seqs have no gap; no
answer came from a state before an acknowledged write; the digests are those of a fold of the ledgers made outside the service; the
operation is whole. A round does not wait until whom it killed is back, only until somebody serves: the next fault may meet the start.
"""

import asyncio
import contextlib
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx
from tqdm import tqdm

from bench.cluster.faults import CLAIM_TTL_S, FAULTS, HEARTBEAT_S, Done, strike
from bench.cluster.rounds import Round, add_round, as_json, read_rounds, table
from bench.cluster.running import Cluster, Shape, cluster
from bench.cluster.servers import NotStarted
from bench.cluster.taught import TaughtBank
from bench.cluster.traffic import Traffic, until_answered
from bench.killing import Fold
from bench.operations import KINDS, Operation, Refused
from bench.promises import Broken
from bench.running import client_of
from bench.starts import encoder_of
from bench.table import write_json
from model import Recall, RecallConfig

LEAD_S, AFTER_S = 0.6, 0.6  # of load before and after the fault, at most
BANKS, REPLACED = 2, 25  # banks that are taught; rounds after which they are looked at from the beginning, and others taken
ANSWERS = [f"answer {number}" for number in range(40)]
SETTINGS = {
    "HEARTBEAT_S": str(HEARTBEAT_S),
    "SNAPSHOT_EVERY": "64",
    "AUTO_SNAPSHOTS": "2",
    "SWEEP_S": "0.5",
    "CLAIM_TTL_S": str(CLAIM_TTL_S),
    "LOG_LEVEL": "warning",
}
PATH = click.Path(dir_okay=False, path_type=Path)


@click.command("cluster-crash")
@click.option("--rounds", default=50, show_default=True, type=click.IntRange(0), help="0: only show the ledger's table.")
@click.option("--writers", default=4, show_default=True, type=click.IntRange(1, 64))
@click.option("--fault", "wanted", multiple=True, help=f"Only faults that begin so; several times for several. All: {', '.join(FAULTS)}.")
@click.option("--seed", type=int, help="Default: one that is not in the ledger.")
@click.option("--ledger", type=PATH, help="Add each round to this file as it ends, and tell of all that it has.")
@click.option("--json", "json_path", type=PATH, help="Also write the figures to this file.")
@click.option("--home", type=click.Path(file_okay=False, path_type=Path), help="Keep logs and data here, in an empty folder.")
def command(
    rounds: int, writers: int, wanted: tuple[str, ...], seed: int | None, ledger: Path | None, json_path: Path | None, home: Path | None
) -> None:
    """Break a cluster again and again; exit 1 if any promise broke."""
    faults = [name for name in FAULTS if name.startswith(wanted or "")]
    if not faults:
        raise click.UsageError(f"no fault begins with {' or '.join(wanted)}; there are {', '.join(FAULTS)}")
    told = read_rounds(ledger) if ledger else []
    seed = max((each.seed for each in told), default=0) + 1 if seed is None else seed

    def progress(done: Round) -> None:
        told.append(done)
        if ledger:
            add_round(ledger, done)
        bar.update(1)

    with tqdm(total=rounds, desc="faults", unit="rounds") as bar:
        try:
            asyncio.run(run(rounds, writers, faults, seed, progress, home=home))
        except NotStarted as error:
            raise click.ClickException(str(error)) from None
    click.echo(table(told))
    if json_path is not None:
        write_json(json_path, as_json(told))
    if any(each.broken for each in told):
        raise SystemExit(1)


async def run(
    rounds: int,
    writers: int,
    faults: list[str],
    seed: int,
    progress: Callable[[Round], object],
    *,
    in_turn: bool = False,
    home: Path | None = None,
) -> None:
    """The rounds on a cluster of its own; see the module. Faults are drawn by weight, or come `in_turn`; `progress` is told each round.

    Raises:
        NotStarted: a part of the cluster did not come up.
    """
    if not rounds:
        return
    encoder = encoder_of(os.environ)
    fold = Fold(Recall(RecallConfig(encoder_digest=encoder.digest)), encoder)
    with tempfile.TemporaryDirectory(prefix="palimpsest-cluster-") as scratch:
        place = home or Path(scratch)
        place.mkdir(parents=True, exist_ok=True)
        async with cluster(place, Shape(jobs=2, breakable=True, settings=SETTINGS)) as running, contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client_of(url, running.key)) for url in running.urls.values()]
            rig = Rig(running, clients, seed, fold, place)
            for number in range(1, rounds + 1):
                names = [faults[(number - 1) % len(faults)]] if in_turn else faults
                progress(await rig.round(number, writers, names, last=number == rounds))


class Rig:
    """One cluster, its clients, and what is known of the banks that they teach."""

    def __init__(self, running: Cluster, clients: Sequence[httpx.AsyncClient], seed: int, fold: Fold, home: Path) -> None:
        self._cluster, self._clients, self._seed, self._fold, self._home = running, clients, seed, fold, home
        self._dice = random.Random(seed)
        self._banks: list[TaughtBank] = []

    async def round(self, number: int, writers: int, faults: list[str], *, last: bool) -> Round:
        """Load, a fault, and a look at everything."""
        begin, killed_down = time.perf_counter(), self._cluster.postgres.killed_down
        last = last or number % REPLACED == 0
        async with self._serving() as client:
            if not self._banks:
                self._banks = [await self._new_bank(f"round {number} bank {place}") for place in range(BANKS)]
            operation = Operation(self._dice.choice(KINDS), self._dice.getrandbits(40), taught=self._banks[0].name)
            await operation.prepare(client)
            traffic = Traffic(self._clients, self._banks, f"{self._seed}.{number}", self._dice, ANSWERS)
            done, at, broken = await self._struck(traffic, operation, client, writers, faults)
        async with self._serving() as client:
            broken += await operation.settle(client, self._fold, self._home)
            for bank in self._banks:
                broken += await bank.look(client)
                broken += await bank.look_again(client) if last else []
        if last:
            self._banks = []
        broken = list(dict.fromkeys([*traffic.broken, *broken]))
        return Round(
            seed=self._seed,
            number=number,
            fault=done.name,
            victim=done.victim,
            operation=operation.kind,
            at=at,
            seconds=round(time.perf_counter() - begin, 2),
            acknowledged=traffic.acknowledged,
            asked=traffic.asked,
            sent_again=traffic.sent_again,
            replayed=traffic.replayed,
            refused=dict(traffic.refused),
            longest_wait_s=round(traffic.longest_wait_s, 2),
            lost=_number(broken, "lost"),
            doubled=_number(broken, "duplicated"),
            astray=_number(broken, "digest"),
            other=_number(broken, "other"),
            broken=[f"{each.kind}: {each.what}" for each in broken],
            database_killed=self._cluster.postgres.killed_down - killed_down,
        )

    async def _struck(
        self, traffic: Traffic, operation: Operation, client: httpx.AsyncClient, writers: int, faults: list[str]
    ) -> tuple[Done, str, list[Broken]]:
        """The fault and its time, and what went wrong with a client beside it; every client has been answered afterwards."""
        stop = asyncio.Event()
        work = [traffic.write(stop) for _ in range(writers)]
        beside = [traffic.ask(stop), _begin(operation, client, self._dice.uniform(0, 2 * LEAD_S))]
        tasks = [asyncio.ensure_future(each) for each in (*work, *beside)]
        try:
            await asyncio.sleep(self._dice.uniform(0.1, LEAD_S))
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            done = await strike(self._cluster, self._dice, faults)
            await asyncio.sleep(self._dice.uniform(0.1, AFTER_S))
        finally:
            stop.set()
            ended = await asyncio.gather(*tasks, return_exceptions=True)
        return done, at, [Broken("other", f"a client: {each!r}") for each in ended if each is not None]

    @contextlib.asynccontextmanager
    async def _serving(self) -> AsyncIterator[httpx.AsyncClient]:
        """A client of an api that is ready, as soon as somebody serves of every kind."""
        async with httpx.AsyncClient() as asking:
            for command in ("worker", "jobs"):
                await self._cluster.one_ready(command, asking)
            api = await self._cluster.one_ready("api", asking)
        async with client_of(self._cluster.urls[api.name], self._cluster.key) as client:
            yield client

    async def _new_bank(self, name: str) -> TaughtBank:
        def post(client: httpx.AsyncClient) -> Awaitable[httpx.Response]:
            return client.post("/v1/banks", json={"name": name}, headers={"Idempotency-Key": name})

        (await until_answered(self._clients, post, self._dice, Counter()))[0].raise_for_status()
        return TaughtBank(name, self._fold.empty())


async def _begin(operation: Operation, client: httpx.AsyncClient, wait_s: float) -> None:
    """Send it once; what is refused for the moment, or lost, is sent again under its key when all is well."""
    with contextlib.suppress(Refused):
        await operation.begin(client, wait_s)


def _number(broken: Sequence[Broken], kind: str) -> int:
    return sum(each.kind == kind for each in broken)
