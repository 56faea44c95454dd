"""`python -m bench inspect`: how long an admin waits who looks into a bank.

- *The ledger*: a hundred thousand corrections of made-up words, put into a database as the service appends them. A search that finds
  nothing reads all of them; the others end with their page. Beside it the list of corrections and the statistics of all their time.
- *The pages*: the calls of the console's pages, over REST, of a service with a bank of as many corrections. Each has the goal of a list,
  but a diff of more corrections than a page asks about at first.
- *The matrix*: a hundred inputs asked of ten snapshots over REST, of a service that was taught beyond its full window. Ten states are more
  than stay in memory, so each call loads them.

Medians of single calls, on SQLite, or with `--postgresql` on a server of its own.
"""

import asyncio
import contextlib
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from statistics import median
from typing import Any

import click
from tqdm import tqdm

from bench.cluster.servers import NotStarted, Postgres
from bench.console_pages import page_times
from bench.large_bank import BEGIN, fill
from bench.running import NotServing, running_service
from bench.subjects import reply_of
from bench.table import write_json
from service.ids import new_id
from service.store import banks, corrections, history, lookup, snapshots, tenants
from service.store.db import Database
from service.store.rows import BankRow, HeadMove, SnapshotDraft
from service.store.schema import migrate

PAGE = 51  # rows that a list asks for
LIST_MS, MATRIX_S = 200.0, 5.0  # the goals
INPUTS, VERSIONS = 100, 10

Look = Callable[[Any], Awaitable[object]]


@click.command("inspect")
@click.option("--corrections", "many", default=100_000, show_default=True, type=click.IntRange(1_000), help="In the ledger.")
@click.option("--lessons", default=3_500, show_default=True, type=click.IntRange(VERSIONS), help="Taught to the service for the matrix.")
@click.option("--calls", default=15, show_default=True, type=click.IntRange(1), help="Of each kind.")
@click.option("--postgresql", is_flag=True, help="The ledger on PostgreSQL.")
@click.option("--check", is_flag=True, help="Exit with 1 when a goal is missed.")
@click.option("--json", "json_path", type=click.Path(dir_okay=False, path_type=Path), help="Also write every figure to this file.")
def command(many: int, lessons: int, calls: int, postgresql: bool, check: bool, json_path: Path | None) -> None:
    """Milliseconds of searches, lists, statistics and the console's pages in a large ledger, and seconds of a probe matrix."""
    try:
        looks = asyncio.run(_ledger(many, calls, postgresql=postgresql))
        pages = asyncio.run(page_times(many, calls))
        matrix = asyncio.run(_matrix(lessons))
    except (NotStarted, NotServing) as error:
        raise click.ClickException(str(error)) from None
    for name, taken in looks.items():
        click.echo(f"{name:<28} {median(taken):8.1f} ms  (slowest {max(taken):.1f})")
    for call, taken in pages.items():
        click.echo(f"{call.name:<64} {median(taken):8.1f} ms  (slowest {max(taken):.1f}){'' if call.opens else '  by a button'}")
    for name, seconds in zip(("matrix", "matrix, again"), matrix, strict=True):
        click.echo(f"{name:<28} {seconds:8.2f} s")
    if json_path is not None:
        write_json(
            json_path,
            {
                "corrections": many,
                "lessons": lessons,
                "postgresql": postgresql,
                "looks_ms": looks,
                "pages_ms": {call.name: taken for call, taken in pages.items()},
                "matrix_s": matrix,
            },
        )
    missed = [name for name, taken in looks.items() if median(taken) > LIST_MS]
    missed += [call.name for call, taken in pages.items() if not call.patient and median(taken) > LIST_MS]
    missed += ["matrix"] * (max(matrix) > MATRIX_S)
    if missed:
        click.echo(f"goals missed: {', '.join(missed)}")
        if check:
            raise SystemExit(1)


async def _ledger(many: int, calls: int, *, postgresql: bool) -> dict[str, list[float]]:
    async with _database(postgresql=postgresql) as database:
        bank = await _fill(database, many)

        async def found(asked: str, conn: Any) -> object:  # noqa: ANN401
            seqs = await lookup.search(conn, bank.tenant, bank.id, lookup.words_of(asked), None, PAGE)
            return await corrections.shown(conn, bank.tenant, bank, await history.by_seqs(conn, bank.tenant, bank.id, seqs))

        async def listed(conn: Any) -> object:  # noqa: ANN401
            return await corrections.shown(conn, bank.tenant, bank, await history.page(conn, bank.tenant, bank.id, many // 2, PAGE))

        async def course(conn: Any) -> object:  # noqa: ANN401
            return await lookup.course(conn, bank.tenant, bank.id, "day", BEGIN, BEGIN + timedelta(days=900))

        looks: dict[str, Look] = {
            "search, found nowhere": lambda conn: found("zqzqzq", conn),
            "search, two words, rare": lambda conn: found("w17 w19333", conn),
            "search, found everywhere": lambda conn: found("w1", conn),
            "corrections, a page": listed,
            "statistics": course,
        }
        taken: dict[str, list[float]] = {name: [] for name in looks}
        for _ in range(calls):  # in turn, so that noise hits all alike
            for name, look in looks.items():
                begin = time.perf_counter()
                async with database.read(bank.tenant) as conn:
                    await look(conn)
                taken[name].append(1e3 * (time.perf_counter() - begin))
        return taken


@contextlib.asynccontextmanager
async def _database(*, postgresql: bool) -> AsyncIterator[Database]:
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        server = Postgres(Path(scratch) / "postgres") if postgresql else None
        url = f"sqlite+aiosqlite:///{scratch}/palimpsest.db"
        if server is not None:
            await server.start()
            await server.create("palimpsest")
            url = server.url("palimpsest")
        try:
            await asyncio.to_thread(migrate, url)
            database = Database(url)
            yield database
            await database.close()
        finally:
            if server is not None:
                server.kill()


async def _fill(database: Database, many: int) -> BankRow:
    """A bank whose ledger has so many corrections."""
    tenant, now = new_id("ten"), BEGIN
    async with database.write(tenant) as conn:
        await tenants.create_tenant(conn, tenant, tenant, now)
        bank = await banks.create_bank(conn, tenant, "default", id=new_id("bank"), config_hash="c", encoder_digest="e", now=now)
        genesis = SnapshotDraft(
            id=new_id("snap"),
            kind="genesis",
            parent=None,
            seq=0,
            spans=(),
            digest="d",
            config_hash="c",
            clock={},
            levels=(),
            label=None,
            note=None,
            pinned=True,
            created_by="bench",
            gate=None,
        )
        head = HeadMove(expected_version=0, moved_by="bench", reason="created")
        await snapshots.commit_snapshot(conn, tenant, bank.id, genesis, now=now, epoch=None, move_head=head)
        row = await banks.find_bank(conn, tenant, bank.id)
    await fill(database, row, many)
    async with database.read(tenant) as conn:
        return await banks.find_bank(conn, tenant, bank.id)


async def _matrix(lessons: int) -> tuple[float, float]:
    async with running_service() as running, running.client() as client:
        names = []
        for step in tqdm(range(VERSIONS), desc="teach", unit=" tenths"):
            texts = [f"what is the answer to question {number} of part {step}" for number in range(lessons // VERSIONS)]
            for start in range(0, len(texts), 500):
                items = [{"input": text, "right": f"answer {number % 70}"} for number, text in enumerate(texts[start : start + 500])]
                reply_of(await client.post("/v1/corrections/batch", json={"items": items}, timeout=600))
            names.append(reply_of(await client.post("/v1/snapshots", json={}))["id"])
        taken = []
        for again in range(2):
            asked = [f"tell me the answer to question {number} again, {again}" for number in range(INPUTS)]
            begin = time.perf_counter()
            reply_of(await client.post("/v1/memory/probe", json={"inputs": asked, "at": names}))
            taken.append(time.perf_counter() - begin)
        return taken[0], taken[1]
