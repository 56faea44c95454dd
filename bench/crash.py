"""`python -m bench crash`: `kill -9` at random moments under concurrent writers, jobs and rollbacks; all that was promised must hold.

After every restart: each acknowledged correction is in the ledger where the acknowledgement said, seqs have no gap, what was not
acknowledged is sent again under its key and is there exactly once, and the digest is that of an uninterrupted fold of the same ledger made
outside the service. The operation that was under way (consolidation, rebuild, erasure or rollback) is whole. Between kill and restart the
hash chain of every bank holds.
"""

import asyncio
import os
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.killing import Fold, Victim, Writers, settled_digest
from bench.operations import KINDS, Operation
from bench.promises import Broken, Report
from bench.remains import examine
from bench.running import NotServing
from bench.starts import encoder_of
from bench.table import write_json
from model import Recall, RecallConfig
from model.encoder import Encoder

WINDOW_S = 1.6  # a process lives at most so long after it was ready
LEAD_S = 1.0  # an operation is sent at most so long before the kill: the kill meets it at its begin, within it or after its reply
STARTING_S = 4.0  # about as long as a start takes
RESENDING_S = 0.3
KILLED_STARTING = KILLED_RESENDING = 0.12  # part of the rounds in which a second kill meets the start, or the clients that send again
SNAPSHOTS = 0.3  # part of the rounds in which somebody saves the bank; a snapshot takes 15 MB of the scratch directory
ANSWERS = [f"answer {number}" for number in range(40)]
PAGE = 200


@click.command()
@click.option("--rounds", default=200, show_default=True, type=click.IntRange(1))
@click.option("--writers", default=4, show_default=True, type=click.IntRange(1, 64), help="Concurrent writers.")
@click.option("--seed", default=1, show_default=True)
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write the figures to this file.")
def crash(rounds: int, writers: int, seed: int, json_path: Path | None) -> None:
    """Kill a service again and again; exit 1 if any promise broke. About six seconds and 10 MB of scratch space a round."""
    with tqdm(total=rounds, desc="kill -9", unit="rounds") as bar:
        try:
            report = asyncio.run(run(rounds, writers, seed, bar.update))
        except NotServing as error:
            raise click.ClickException(str(error)) from None
    click.echo(str(report))
    if json_path is not None:
        write_json(json_path, report.as_json())
    if report.broken:
        raise SystemExit(1)


async def run(rounds: int, writers: int, seed: int, progress: Callable[[int], object]) -> Report:
    """The rounds on a scratch directory; see the module.

    Raises:
        NotServing: the service did not come back; nothing is worse than that.
    """
    encoder = encoder_of(os.environ)
    recall = Recall(RecallConfig(encoder_digest=encoder.digest))
    with tempfile.TemporaryDirectory(prefix="palimpsest-crash-") as scratch:
        rig = Rig(Victim(Path(scratch)), random.Random(seed), encoder, recall)
        try:
            await rig.first()
            for _ in range(rounds):
                await rig.round(writers)
                progress(1)
            await rig.last()
        finally:
            await rig.victim.kill()
    return rig.report


class Rig:
    """One service, its writers, and what is known of both."""

    def __init__(self, victim: Victim, dice: random.Random, encoder: Encoder, recall: Recall) -> None:
        self.victim, self.dice, self.report = victim, dice, Report()
        self._encoder, self._recall = encoder, recall
        self._fold = Fold(recall, encoder)
        self._writers = Writers(random.Random(dice.random()), ANSWERS)
        self._rows: list[tuple[str, str]] = []  # what the ledger was seen to hold: input, right
        self._cursor: str | None = None

    async def first(self) -> None:
        """The start on an empty directory, which is killed, too."""
        await self._kill_while_starting()
        await self.victim.start()

    async def round(self, writers: int) -> None:
        """Write until the kill, start again, look."""
        operation = await self._until_killed(writers)
        self.report.rounds += 1
        remains = await examine(self.victim.var_dir)
        self.report.tell(*remains.broken)
        self.report.operations[operation.kind] += 1
        self.report.answered[operation.kind] += operation.reply is not None
        self.report.interrupted[operation.kind] += operation.was_interrupted(remains)
        self.report.resent += len(self._writers.waiting)
        if self.dice.random() < KILLED_STARTING:
            await self._kill_while_starting()
        if self.dice.random() < KILLED_RESENDING:
            await self._kill_while_resending()
        self.report.restart_s.append(await self.victim.start())
        async with self.victim.client() as client:
            await self._writers.settle(client)
            self.report.tell(*self._writers.broken, *await operation.settle(client, self._fold, self.victim.var_dir))
            await self._look(client)
        self.report.acknowledged, self.report.replayed = len(self._writers.acked), self._writers.replayed
        self.report.settle_s = self._writers.settle_s

    async def last(self) -> None:
        """The whole ledger read once more, and folded once more from its beginning; with the process gone, the hash chains."""
        seen, self._rows, self._cursor = self._rows, [], None
        async with self.victim.client() as client:
            await self._new_rows(client)
        if self._rows != seen:
            self.report.tell(Broken("lost", "the ledger is not what it was seen to be"))
        whole = self._fold.empty()
        whole.learn(self._rows)
        if whole.consolidate(self._fold.consolidations) != self._fold.state.digest():
            self.report.tell(Broken("digest", "the fold of the whole ledger is not the fold of its parts"))
        if code := await self.victim.stop():
            self.report.tell(Broken("other", f"SIGTERM: exit code {code}"))
        self.report.tell(*(await examine(self.victim.var_dir)).broken)

    async def _until_killed(self, writers: int) -> Operation:
        moment = self.dice.uniform(0.0, WINDOW_S)
        lead = self.dice.uniform(0.0, LEAD_S)
        async with self.victim.client() as client:
            operation = Operation(self.dice.choice(KINDS), self.dice.getrandbits(40))
            await operation.prepare(client)
            work = [self._writers.write(client) for _ in range(writers)]
            beside = [operation.begin(client, max(0.0, moment - lead)), _ask(client)]
            if self.dice.random() < SNAPSHOTS:
                beside.append(_save(client))
            tasks = [asyncio.ensure_future(each) for each in (*work, *beside)]
            await asyncio.sleep(moment)
            await self._kill()
            await self._end(tasks)
        return operation

    async def _kill_while_starting(self) -> None:
        await self.victim.spawn()
        await asyncio.sleep(self.dice.uniform(0.0, STARTING_S))
        await self._kill()
        self.report.kills_while_starting += 1

    async def _kill_while_resending(self) -> None:
        await self.victim.start()
        async with self.victim.client() as client:
            task = asyncio.ensure_future(self._writers.settle(client))
            await asyncio.sleep(self.dice.uniform(0.0, RESENDING_S))
            await self._kill()
            await self._end([task])
        self.report.kills_while_resending += 1

    async def _kill(self) -> None:
        await self.victim.kill()
        self.report.kills += 1

    async def _end(self, tasks: Sequence[asyncio.Future[None]]) -> None:
        """Wait for what the kill has cut off."""
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if ended is not None and not isinstance(ended, httpx.TransportError):
                self.report.tell(Broken("other", f"round {self.report.rounds}: {ended!r}"))

    async def _look(self, client: httpx.AsyncClient) -> None:
        """Compare the ledger and the weights with what the writers were told."""
        fresh = await self._new_rows(client)
        self._fold.learn(fresh or [])
        after, told = await settled_digest(client)
        digest = self._fold.consolidate(after)
        if told != digest:
            self.report.tell(Broken("digest", f"round {self.report.rounds}: {told}, the ledger folds to {digest}"))
        known: dict[str, int] = {}
        for seq, (text, _) in enumerate(self._rows, start=1):
            if text in known:
                self.report.tell(Broken("duplicated", f"{text!r} at {known[text]} and {seq}"))
            known.setdefault(text, seq)
        lost = [text for text, (seq, right) in self._writers.acked.items() if self._rows[seq - 1 : seq] != [(text, right)]]
        self.report.tell(
            *(Broken("lost", f"{text!r}: acknowledged as {self._writers.acked[text]}, is at {known.get(text)}") for text in lost)
        )
        strange = [text for text in known if text not in self._writers.acked]
        self.report.tell(*(Broken("other", f"{text!r} is in the ledger and was never acknowledged") for text in strange))
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
            self.report.tell(Broken("other", f"round {self.report.rounds}: the seqs {seqs[0]} to {seqs[-1]} have gaps"))
        fresh = [(row["input"], row["right"]) for row in rows if row["seq"] > len(self._rows)]
        self._rows += fresh
        return fresh


async def _ask(client: httpx.AsyncClient) -> None:
    """Questions, beside the writing."""
    while True:
        for answer in ANSWERS:
            (await client.post("/v1/recall", json={"input": f"somebody asks about {answer}"})).raise_for_status()


async def _save(client: httpx.AsyncClient) -> None:
    """A snapshot, beside the writing."""
    (await client.post("/v1/snapshots", json={})).raise_for_status()
