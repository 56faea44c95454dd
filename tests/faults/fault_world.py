"""What the operations are done to: a tenant with two banks, snapshots of every kind, something suppressed and something to be erased.

A second tenant has a bank of its own.
"""

import contextlib
import dataclasses
import shutil
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

import httpx
import numpy as np
from fault_points import Points, WatchedBlobs, WatchedDatabase
from fixtures_service import client_of, serving
from saying import PIN, SPAIN
from sqlalchemy import create_engine, delete, insert, select, text

from bench.killing import Fold
from model import Recall, RecallConfig
from model.encoder import Encoded
from service.bell import Bell
from service.embedded import Embedded, utc_now
from service.processes.parts import SYSTEM
from service.processes.sweeping import Sweeper
from service.store import bundles
from service.store.blobs import open_blobs
from service.store.tables import job as job_table
from service.store.tables import metadata
from service.store.tenants import ensure_tenant
from service.wire import NewCorrection

SECRET, SECRET_RIGHT = "What is the safe combination of Mrs Quillfeather?", "twelve forty-nine zebra"
LOST, LOST_RIGHT = "I have lost my card abroad", "call the embassy"
CARD = "Can my daughter get a card?"
NEXT = ("How do I close my account?", "close_account")
TAUGHT = [
    (PIN, "change_pin"),
    (SPAIN, "transfer_time"),
    (SECRET, SECRET_RIGHT),
    (PIN, "ask_the_branch"),
    (CARD, "get_card"),
    (LOST, LOST_RIGHT),
]
OTHER = [*TAUGHT[:2], NEXT]
GUEST = "guest"  # the other tenant
GUESTS = [(text, f"{GUEST} {right}") for text, right in OTHER]
SETTINGS = {"auto_snapshots": 1}

Rows = dict[str, list[dict]]  # by table


@dataclass(frozen=True)
class World:
    """The directory of a service that was stopped, and the names of what is in it."""

    directory: Path
    bank: str
    other: str  # one of its snapshots shares its bytes with `early`
    corrections: list[str]  # of `bank`, in order
    early: str  # a snapshot of `bank` after two corrections
    guest: str  # the second tenant
    bundle: bytes  # of a snapshot of `bank` after five corrections, which was deleted since: its bytes are not in the store
    rows: Rows

    def copy(self, directory: Path) -> "World":
        shutil.copytree(self.directory, directory)
        return dataclasses.replace(self, directory=directory)


@dataclass
class Process:
    """A service, and its administrator's client; `points` tells what of it was watched."""

    service: Embedded
    client: httpx.AsyncClient
    points: Points

    async def do(self, method: str, path: str, body=None, *, expect: int, **more):
        """A call's reply."""
        response = await self.client.request(method, f"/v1/{path}", json=body, **more)
        assert response.status_code == expect, f"{method} {path}: {response.status_code} {response.text}"
        return response.json() if response.content else None

    async def finish(self, job: str) -> None:
        """Do the job here and now."""
        await self.service.runner.run(job)
        found = await self.do("GET", f"jobs/{job}", expect=200)
        assert found["status"] == "succeeded", found


class SilentBell(Bell):
    """Nobody hears it: jobs are done when the test says so."""

    def ring(self, job_id: str, kind: str) -> None:
        pass


class NoSweeper(Sweeper):
    """Not even at the start, whose looks may come late, beside an operation."""

    def start(self) -> None:
        pass


@contextlib.asynccontextmanager
async def watched(directory: Path, encoder, points: Points, **settings) -> AsyncIterator[Process]:
    """The embedded service on the directory, with its database and blobs watched, which does nothing by itself."""
    with contextlib.ExitStack() as patches:
        for module in ("service.embedded", "service.processes.erasing"):
            patches.enter_context(patch(f"{module}.Database", lambda url, **more: WatchedDatabase(url, points, **more)))
        for module in ("service.processes.parts", "service.processes.erasing"):
            patches.enter_context(patch(f"{module}.open_blobs", lambda url: WatchedBlobs(open_blobs(url), points)))
        patches.enter_context(patch("service.bell.Bell", SilentBell))
        patches.enter_context(patch("service.processes.working_off.Sweeper", NoSweeper))
        async with serving(directory, encoder, sweep_s=3_600, **SETTINGS, **settings) as service, client_of(service) as client:
            yield Process(service, client, points)


async def build(directory: Path, encoder) -> World:
    """A world, on SQLite."""
    async with watched(directory, encoder, Points()) as made:
        bank = (await made.do("GET", "banks", expect=200))["items"][0]["id"]
        other = (await made.do("POST", "banks", {"name": "other"}, expect=201))["id"]
        corrections = [await _teach(made, bank, item) for item in TAUGHT[:2]]
        early = (await made.do("POST", "snapshots", {"label": "early"}, expect=201))["id"]
        for item in OTHER:
            await _teach(made, other, item)
            await made.do("POST", "snapshots", {"bank": other}, expect=201)
        corrections.append(await _teach(made, bank, TAUGHT[2]))
        await made.finish((await made.do("POST", "consolidations", {}, expect=202))["job_id"])
        await made.do("POST", "snapshots", {"label": "holds the secret"}, expect=201)
        corrections.append(await _teach(made, bank, TAUGHT[3]))
        await made.service.engine.settle(-1)
        corrections.append(await _teach(made, bank, TAUGHT[4]))
        bundle = await _export(made)
        corrections.append(await _teach(made, bank, TAUGHT[5]))
        await made.do("POST", "forget", {"corrections": corrections[-1:], "mode": "suppress"}, expect=202)
        guest = await _invite(made)
    return World(directory, bank, other, corrections, early, guest, bundle, rows_of(url_of(directory)))


async def _export(made: Process) -> bytes:
    """The bundle of a snapshot of now. Nothing of either is left behind but that the snapshot was deleted."""
    saved = (await made.do("POST", "snapshots", {}, expect=201))["id"]
    job = (await made.do("POST", f"snapshots/{saved}/export", {}, expect=202))["job_id"]
    await made.finish(job)
    name = (await made.do("GET", f"jobs/{job}", expect=200))["result"]["export"]
    bundle = (await made.client.get(f"/v1/exports/{name}")).content
    async with made.service.database.write(made.service.tenant) as conn:
        await bundles.drop(conn, made.service.tenant, [name])
        await conn.execute(delete(job_table).where(job_table.c.id == job))
    await made.do("DELETE", f"snapshots/{saved}", expect=204)
    return bundle


async def _invite(made: Process) -> str:
    """A second tenant."""
    service = made.service
    guest = await ensure_tenant(service.database, GUEST, utc_now())
    bank = await service.engine.create_bank(guest, "default", actor=SYSTEM)
    lessons = [NewCorrection(input=text, right=right) for text, right in GUESTS]
    await service.engine.teach(guest, bank.id, lessons, actor=SYSTEM, idempotency_key=None)
    await service.engine.snapshot(guest, bank.id, label=None, note=None, pin=False, actor=SYSTEM)
    return guest


async def _teach(made: Process, bank: str, item: tuple[str, str]) -> str:
    return (await made.do("POST", "corrections", {"bank": bank, "input": item[0], "right": item[1]}, expect=201))["id"]


def url_of(directory: Path) -> str:
    """The SQLite database in a service's directory."""
    return f"sqlite+aiosqlite:///{directory / 'palimpsest.db'}"


def rows_of(url: str) -> Rows:
    """Every row of a database. On SQLite it must not be in use, and its log is moved into the file."""
    with _connected(url) as connection:
        return {name: [dict(row._mapping) for row in connection.execute(select(table))] for name, table in metadata.tables.items()}


def load(url: str, rows: Rows) -> None:
    """Fill an empty database."""
    with _connected(url) as connection:
        for table in metadata.sorted_tables:
            if rows[table.name]:
                connection.execute(insert(table), rows[table.name])


def run_out(url: str) -> None:
    """Let the time pass after which claims and leases of a process that died are free. A SQLite file's are free at its start."""
    with _connected(url) as connection:
        connection.execute(text("UPDATE job SET claim_until = claim_until - interval '1 hour'"))
        connection.execute(text("UPDATE idempotency SET lease_until = lease_until - interval '1 hour'"))


@contextlib.contextmanager
def _connected(url: str):
    engine = create_engine(url.replace("sqlite+aiosqlite", "sqlite"))
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


class Remembering:
    """An encoder that encodes a text once: what its neighbours in a call are makes no difference."""

    def __init__(self, real) -> None:
        self.digest, self.width, self.words, self._real = real.digest, real.width, real.words, real
        self._known: dict[str, tuple] = {}

    def encode(self, texts: Sequence[str]) -> Encoded:
        new = list(dict.fromkeys(text for text in texts if text not in self._known))
        if new:
            made = self._real.encode(new)
            self._known |= {text: pair for text, *pair in zip(new, made.vectors, made.tokens, strict=True)}
        vectors, tokens = zip(*(self._known[text] for text in texts), strict=True)
        return Encoded(np.stack(vectors), list(tokens))


def folds(encoder) -> Callable[[Sequence[tuple[str, str]]], str]:
    """The digest of the weights that hold just these lessons."""
    recall = Recall(RecallConfig.tiny(encoder_digest=encoder.digest))
    known: dict[tuple, str] = {}

    def fold(taught: Sequence[tuple[str, str]]) -> str:
        name = tuple(taught)
        if name not in known:
            known[name] = Fold(recall, encoder).learn(name) if name else recall.initial().digest()
        return known[name]

    return fold
