"""A service that is killed again and again on one directory, and what a client knows of its ledger.

Everything here is what a user has: the command, its HTTP, its files. The expected weights are folded in this process from the texts alone.
"""

import asyncio
import os
import random
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any

import httpx

from bench.ending import end_with_parent
from bench.promises import Broken
from bench.running import address_of, client_of, until_ready
from model import Lesson, Recall, State
from model.consolidation import Trained, Work, consolidate
from model.encoder import Encoder
from workers.encoding import own_words
from workers.reading import Keys

SNAPSHOT_EVERY = 16  # events: automatic snapshots and their retention run all the time
SETTINGS = {"SNAPSHOT_EVERY": str(SNAPSHOT_EVERY), "AUTO_SNAPSHOTS": "2", "SWEEP_S": "0.5", "LOG_LEVEL": "error"}
AT_ONCE_S = 10.0  # a lease that had to run out would take two minutes


class Unacknowledged(Exception):
    """A correction was refused."""


class Victim:
    """The command `palimpsest serve` on one directory, started and killed by turns."""

    def __init__(self, directory: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.directory, self.var_dir, self.key, self.url = directory, directory / "var", token_urlsafe(32), ""
        own = {**SETTINGS, "VAR_DIR": str(self.var_dir), "PORT": "0", "HOST": "127.0.0.1", "BOOTSTRAP_KEY": self.key}
        self._environ = {**environ, **{f"PALIMPSEST_{name}": value for name, value in own.items()}}
        self._process: asyncio.subprocess.Process | None = None

    async def spawn(self) -> None:
        """Start the process and do not wait for anything."""
        with (self.directory / "log").open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.cli", "serve"),
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                env=self._environ,
                preexec_fn=end_with_parent,
            )

    async def start(self) -> float:
        """Start the process; the seconds until it was ready.

        Raises:
            NotServing: it did not start; the message has what it said.
        """
        begin = time.perf_counter()
        await self.spawn()
        assert self._process is not None
        self.url = await address_of(self._process, self.directory / "log")
        await until_ready(self.url, self.directory / "log")
        return time.perf_counter() - begin

    async def kill(self) -> None:
        """`kill -9`, and wait until the process is gone; one that is gone already is left alone."""
        assert self._process is not None
        if self._process.returncode is None:
            self._process.kill()
        await self._process.communicate()

    async def stop(self) -> int | None:
        """Let the process end in order; its exit code."""
        assert self._process is not None
        self._process.terminate()
        await self._process.communicate()
        return self._process.returncode

    @property
    def pid(self) -> int:
        """The process that runs."""
        assert self._process is not None
        return self._process.pid

    def client(self) -> httpx.AsyncClient:
        """An admin's client."""
        return client_of(self.url, self.key)


async def consolidated_at(client: httpx.AsyncClient, bank: str | None = None) -> list[int]:
    """The positions up to which the bank's weights were consolidated, oldest first: those from its head back, not refused candidates."""
    named: dict[str, str | int] = {"limit": 200} if bank is None else {"limit": 200, "bank": bank}
    kept = {one["id"]: one for one in (await client.get("/v1/snapshots", params=named)).json()["items"]}
    found, at = [], next(iter(name for name, one in kept.items() if one["is_head"]), None)
    while at in kept:
        if kept[at]["kind"] == "consolidation":
            found.append(kept[at]["seq"])
        at = kept[at]["parent"]
    return found[::-1]


async def settled_digest(client: httpx.AsyncClient, bank: str | None = None) -> tuple[list[int], str]:
    """Where the bank's weights were consolidated, and their digest then: read between two looks that agree, as one may end in between."""
    named = {} if bank is None else {"bank": bank}
    while True:
        after = await consolidated_at(client, bank)
        digest = str((await client.get("/v1/memory", params=named)).json()["digest"])
        if await consolidated_at(client, bank) == after:
            return after, digest


@dataclass(slots=True)
class Fold:
    """The weights that a ledger should have, folded from its texts and consolidated where the service has done so."""

    recall: Recall
    encoder: Encoder
    words: dict[str, Keys] = field(default_factory=dict)  # own words of responses, encoded
    state: State = field(init=False)
    consolidations: list[int] = field(default_factory=list)  # after so many lessons
    _lessons: list[Lesson] = field(default_factory=list)
    _settled: State = field(init=False)  # as the last consolidation left it
    _known: dict[tuple[tuple[str, str], ...], str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.state, self._settled = self.recall.initial(), self.recall.initial()

    def empty(self) -> "Fold":
        """Another one that has learned nothing."""
        return Fold(self.recall, self.encoder, self.words)

    def learn(self, taught: Sequence[tuple[str, str]]) -> str:
        """Fold `(input, right)` in order; the digest then."""
        encoded = self.encoder.encode([text for text, _ in taught])
        for place, (_, right) in enumerate(taught):
            own = self._own_words(right)
            lesson = Lesson(encoded.vectors[place], right, encoded.tokens[place], self.state.watermark + 1, own)
            self.recall.apply_(self.state, lesson)
            self._lessons.append(lesson)
        return self.state.digest()

    def consolidate(self, after: Sequence[int]) -> str:
        """Consolidate after so many lessons each time, in order, where that was not done yet; the digest then."""
        for number in after[len(self.consolidations) :]:
            begun = self.consolidations[-1] if self.consolidations else 0
            state = self.recall.fold(self._settled.to("cpu"), self._lessons[begun:number])
            self._settled = _done(consolidate(self.recall.config, state, self._lessons[:number])).state
            self.consolidations.append(number)
            self.state = self.recall.fold(self._settled.to("cpu"), self._lessons[number:])
        return self.state.digest()

    def of(self, taught: Sequence[tuple[str, str]]) -> str:
        """The digest of these alone, from the initial weights."""
        events = tuple(taught)
        if events not in self._known:
            self._known[events] = self.empty().learn(events)
        return self._known[events]

    def _own_words(self, right: str) -> Keys | None:
        text = own_words(right)
        if text is not None and text not in self.words:
            self.words[text] = self.encoder.encode([text]).vectors[0]
        return None if text is None else self.words[text]


def _done(work: Work) -> Trained:
    while True:
        try:
            next(work)
        except StopIteration as ended:
            done: Trained = ended.value
            return done


@dataclass(slots=True)
class Writers:
    """Clients that teach corrections of their own, each under an Idempotency-Key, and remember what they were told."""

    dice: random.Random
    answers: Sequence[str]
    waiting: dict[str, list[dict[str, Any]]] = field(default_factory=dict)  # sent or about to be, and not acknowledged
    acked: dict[str, tuple[int, str]] = field(default_factory=dict)  # input -> seq, right
    broken: list[Broken] = field(default_factory=list)
    settle_s: list[float] = field(default_factory=list)
    replayed: int = 0
    sent: int = 0

    async def write(self, client: httpx.AsyncClient) -> None:
        """Teach until the service is killed."""
        while True:
            size = 3 if self.dice.random() < 0.15 else 1
            items = [self._fresh() for _ in range(size)]
            key = f"key-{self.sent}"
            self.waiting[key] = items
            await self._send(client, key)

    async def settle(self, client: httpx.AsyncClient) -> None:
        """Send again what was not acknowledged, under the same keys: each is answered with 201, and at once."""
        for key in list(self.waiting):
            begin = time.perf_counter()
            try:
                await self._send(client, key)
            except Unacknowledged as error:
                self.broken.append(Broken("other", f"sent again: {error}"))
                del self.waiting[key]
            self.settle_s.append(time.perf_counter() - begin)
            if self.settle_s[-1] > AT_ONCE_S:
                self.broken.append(Broken("other", f"sent again: {key} was answered after {self.settle_s[-1]:.1f} s"))

    def _fresh(self) -> dict[str, Any]:
        self.sent += 1
        return {"input": f"customer {self.sent} asks about {self.dice.choice(self.answers)}", "right": self.dice.choice(self.answers)}

    async def _send(self, client: httpx.AsyncClient, key: str) -> None:
        items = self.waiting[key]
        headers = {"Idempotency-Key": key}
        if len(items) == 1:
            response = await client.post("/v1/corrections", json=items[0], headers=headers)
            told = [response.json()] if response.status_code == 201 else []
        else:
            response = await client.post("/v1/corrections/batch", json={"items": items}, headers=headers)
            told = response.json()["items"] if response.status_code == 201 else []
        if response.status_code != 201:
            raise Unacknowledged(f"{key}: {response.status_code} {response.text}")
        self.replayed += "idempotent-replayed" in response.headers
        for item, taught in zip(items, told, strict=True):
            self.acked[item["input"]] = (taught["seq"], item["right"])
        del self.waiting[key]
