"""What must be so on the remains of a process that died, whatever it was doing: looked at as they lie, and lived on by a new process."""

import contextlib
import dataclasses
import hashlib
import os
import shutil
import time
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from pathlib import Path
from unittest.mock import patch

from fault_operations import Operation, ended
from fault_points import Points, Remains
from fault_world import LOST, LOST_RIGHT, OTHER, SECRET, SECRET_RIGHT, SETTINGS, TAUGHT, Process, Rows, World, rows_of, run_out, url_of
from fixtures_service import client_of, serving

from service.embedded import utc_now
from service.errors import TaintedSnapshot
from service.store import db
from service.store.ledger import verify_chain
from workers.encoding import own_words

GRACE = timedelta(hours=2)  # longer than any save: what was being written then and is needed by nothing is left over
Fold = Callable[[Sequence[tuple[str, str]]], str]


async def examine(remains: Remains, operation: Operation, world: World, encoder, fold: Fold, url: str = "") -> None:
    """Fail unless everything is so. `url`: the PostgreSQL database; without one it is the SQLite file of the remains."""
    rows = rows_of(url) if url else _rows_of_copy(remains.directory)
    _check_store(rows, remains.directory)
    happened = operation.happened(rows, world)
    assert happened or not remains.acknowledged, "what was acknowledged is lost"
    if url:
        run_out(url)
    restarted = serving(remains.directory, encoder, database=url, sweep_s=1, **SETTINGS)
    async with unsynced(), restarted as service, client_of(service) as client:
        process = Process(service, client, Points())
        await _check_nothing_forgotten_is_answered(process, world, secret=operation.forgets and happened)
        await _until_jobs_ended(process)
        if happened:
            rows = rows_of(url or url_of(remains.directory))
            assert operation.ended(rows, world), "its job was lost"
            check_erased(operation.erases, encoder, rows)
            if operation.forgets and operation.erases:
                check_nothing_is_left_over(rows, remains.directory)  # the job has said that it succeeded
        await _check_weights(process, world, fold, operation.lessons(happened))
        await operation.again(process, world, happened)
        await _until_jobs_ended(process)
        if operation.erases:
            check_nothing_is_left_over(rows_of(url or url_of(remains.directory)), remains.directory)
        await _check_weights(process, world, fold, operation.lessons(happened, again=True))
        await _check_nothing_forgotten_is_answered(process, world, secret=operation.forgets)
        await _check_ledger(process, world, erased=SECRET in operation.erases)
        await _check_snapshots(process, world, secret=operation.forgets)
        await tidied_later(process)
    rows = rows_of(url or url_of(remains.directory))
    _check_store(rows, remains.directory)
    check_nothing_is_left_over(rows, remains.directory)
    check_erased(operation.erases, encoder, rows, remains.directory)


@contextlib.asynccontextmanager
async def unsynced() -> AsyncIterator[None]:
    """No waiting for the disk: here processes die, and the power stays on."""
    pragmas = tuple(said for said in db.PRAGMAS if not said.startswith("synchronous"))
    with patch.object(db, "PRAGMAS", (*pragmas, "synchronous=OFF")), patch("os.fsync", lambda handle: None):
        yield


def _check_store(rows: Rows, directory: Path) -> None:
    """Every blob has a row, every kept snapshot its blobs, whole, and every bank a head that is kept."""
    noted = {(row["tenant"], row["sha256"]): row["state"] for row in rows["blob"]}
    stored = _stored(directory)
    erased = {row["id"] for row in rows["erased_tenant"]}
    untold = {(tenant, digest) for tenant, digest in stored.keys() - noted.keys() if tenant not in erased}
    assert not untold, "bytes in the store that nothing tells of"
    kept = {row["id"]: row for row in rows["snapshot"] if row["destroyed_at"] is None}
    for row in kept.values():
        for level in row["levels"]:
            name = row["tenant"], level["sha256"]
            assert noted.get(name) == "live", f"blob of {row['kind']} snapshot {row['id']} is {noted.get(name)}"
            assert name in stored, f"bytes of {row['kind']} snapshot {row['id']} are missing"
            assert hashlib.sha256(stored[name].read_bytes()).hexdigest() == level["sha256"]
    heads = {(row["bank"], row["version"]): row["snapshot"] for row in rows["head"]}
    for bank in rows["bank"]:
        assert heads[bank["id"], bank["head_version"]] in kept, "the head is a destroyed snapshot"


def check_nothing_is_left_over(rows: Rows, directory: Path) -> None:
    """Fail if there is a byte in the store that no kept snapshot needs, or a row that tells of one."""
    needed = {(row["tenant"], level["sha256"]) for row in rows["snapshot"] if row["destroyed_at"] is None for level in row["levels"]}
    assert {(row["tenant"], row["sha256"]): row["state"] for row in rows["blob"]} == dict.fromkeys(needed, "live")
    assert _stored(directory).keys() == needed
    half = [path.name for path in (directory / "objects").rglob("*") if path.is_file() and len(path.name) != 64]
    assert half == [], "half-written files that no row tells of"


def check_erased(texts: Sequence[str], encoder, rows: Rows, directory: Path | None = None) -> None:
    """None of the texts is in a row (or in a file), nor what the encoder made of it."""
    files = [] if directory is None else [path for path in directory.rglob("*") if path.is_file()]
    for text in texts:
        vectors = [encoder.encode([said]).vectors[0].tobytes() for said in (text, own_words(text))]
        for trace in (text.encode(), *vectors):
            tables = [name for name, each in rows.items() if any(trace in _bytes(value) for row in each for value in row.values())]
            assert not tables, f"what was erased is in rows of {tables}"
            holding = [path.name for path in files if trace in path.read_bytes()]
            assert not holding, f"what was erased is in {holding}"


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


def _stored(directory: Path) -> dict[tuple[str, str], Path]:
    """The blobs in the store, under their names."""
    files = (path for path in (directory / "objects").rglob("*") if path.is_file() and len(path.name) == 64)
    return {(path.parent.parent.name, path.name): path for path in files}


def _rows_of_copy(directory: Path) -> Rows:
    """The rows of a database file whose process died: read from a copy, because reading brings the log into the file."""
    copy = directory.with_name(f"{directory.name}-read")
    copy.mkdir()
    for name in ("palimpsest.db", "palimpsest.db-wal"):
        with contextlib.suppress(FileNotFoundError):
            shutil.copyfile(directory / name, copy / name)
    return rows_of(url_of(copy))


async def _until_jobs_ended(process: Process) -> None:
    for job in (await process.do("GET", "jobs", params={"limit": 200}, expect=200))["items"]:
        await ended(process, job["id"])


async def _check_weights(process: Process, world: World, fold: Fold, lessons: Sequence[tuple[str, str]]) -> None:
    """The weights are those of an uninterrupted fold, warm and loaded anew."""
    banks = [row["id"] for row in (await process.do("GET", "banks", expect=200))["items"]]
    wanted = {world.bank: fold(lessons), world.other: fold(OTHER)}
    for bank in banks:
        warm = (await process.do("GET", "memory", params={"bank": bank}, expect=200))["digest"]
        process.service.engine.banks.drop(bank)
        loaded = (await process.do("GET", "memory", params={"bank": bank}, expect=200))["digest"]
        assert (warm, loaded) == (wanted[bank], wanted[bank]), "the weights are not the fold of the ledger"


async def _check_ledger(process: Process, world: World, *, erased: bool) -> None:
    tenant = process.service.tenant
    for bank in {row["id"] for row in (await process.do("GET", "banks", expect=200))["items"]}:
        async with process.service.database.read(tenant) as conn:
            await verify_chain(conn, tenant, bank)
    rows = (await process.do("GET", "events", params={"bank": world.bank}, expect=200))["items"]
    told = [(None, None) if erased and item[0] == SECRET else item for item in TAUGHT]
    assert [(row["seq"], row["id"]) for row in rows[: len(TAUGHT)]] == list(enumerate(world.corrections, start=1))
    assert [(row["input"], row["right"]) for row in rows[: len(TAUGHT)]] == told, "an acknowledged correction is not as it was taught"


async def _check_nothing_forgotten_is_answered(process: Process, world: World, *, secret: bool) -> None:
    asked = {LOST: LOST_RIGHT} | ({SECRET: SECRET_RIGHT} if secret else {})
    question = {"top_k": 100, "min_confidence": 0.0, "explain": False, "min_seq": None}
    for at in (None, *(row["id"] for row in await _kept(process, world))):
        try:
            found, _, _ = await process.service.engine.recall(process.service.tenant, world.bank, list(asked), **question, at=at)
        except TaintedSnapshot:
            assert at is not None
            continue
        for item in found:
            said = {answer.value for answer in item.answers}
            assert not said & set(asked.values()), f"what was forgotten is answered at {at or 'the head'}"


async def _check_snapshots(process: Process, world: World, *, secret: bool) -> None:
    """Each that is listed can be rolled back to, and then the weights are its own; one that holds the secret is refused."""
    for row in await _kept(process, world):
        tainted = bool(row["tainted_by"])
        assert not tainted or secret
        said = await process.do("POST", "rollback", {"to": row["id"]}, expect=409 if tainted else 200)
        assert not tainted or said["code"] == "tainted-snapshot"
        if not tainted:
            assert (await process.do("GET", "memory", params={"bank": world.bank}, expect=200))["digest"] == row["digest"]


async def _kept(process: Process, world: World) -> list[dict]:
    """The snapshots that are listed; of those with the same weights one."""
    listed = (await process.do("GET", "snapshots", params={"bank": world.bank}, expect=200))["items"]
    return list({row["digest"]: row for row in listed}.values())


async def tidied_later(process: Process) -> None:
    """What is left over is deleted, once all that was under way then must have ended."""
    maintenance, then = process.service.maintenance, time.time() - GRACE.total_seconds()
    for path in (process.service.settings.var_dir / "objects").rglob("*"):
        os.utime(path, (then, then))
    maintenance.versions = dataclasses.replace(maintenance.versions, now=lambda: utc_now() + GRACE)
    await maintenance.tidy()
