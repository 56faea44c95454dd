"""Transactions: all or nothing, durable when they end, and a full disk or a broken reader keeps nothing."""

import asyncio
import contextlib
import os
import resource
from pathlib import Path

import pytest
from fixtures_store import FILE_MAX
from keeping import NOW, append, append_many, chain_length, draft, find, new_bank
from sqlalchemy import func, insert, select, text, update
from waiting import PATIENCE_S

from service.errors import Capacity, NotFound, StorageFull
from service.store import audit, banks, db, forgets, history, ledger
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.tables import bank as bank_table
from service.store.tables import event, metadata, session, tombstone

on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)


@contextlib.contextmanager
def no_file_above(size: int):
    """The operating system refuses to let this process write files beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_exception_rolls_back_everything_of_the_transaction(database, tenant, bank):
    await append(database, bank, draft())

    async def fail() -> None:
        async with database.write(tenant) as conn:
            await ledger.append(conn, tenant, bank.id, [draft("x", "y", session_id="s")], epoch=0, head_version=0, now=NOW)
            await audit.record(conn, tenant, actor="a", request_id="r", action="teach", target="t", detail={}, now=NOW)
            await banks.create_bank(conn, tenant, "half a bank", id="bnk_half", config_hash="c", encoder_digest="e", now=NOW)
            raise LookupError("the caller's own error comes through")

    with pytest.raises(LookupError, match="own error"):
        await fail()
    assert (await find(database, bank)).seq == await chain_length(database, bank) == 1
    async with database.read(tenant) as conn:
        assert [each.id for each in await banks.list_banks(conn, tenant, None, 10, None)] == [bank.id]
        assert await audit.page(conn, tenant, None, 10) == []
        assert (await conn.execute(select(func.count()).select_from(session))).scalar() == 0


async def test_writer_that_is_cancelled_leaves_nothing_and_lets_the_next_one_in(database, bank):
    inside = asyncio.Event()

    async def stuck() -> None:
        async with database.write(bank.tenant) as conn:
            await ledger.append(conn, bank.tenant, bank.id, [draft()], epoch=0, head_version=0, now=NOW)
            inside.set()
            await asyncio.Event().wait()

    writer = asyncio.create_task(stuck())
    await inside.wait()
    waiting = asyncio.create_task(append(database, bank, draft()))
    await asyncio.sleep(0.01)
    waiting.cancel()
    writer.cancel()
    for task in (writer, waiting):
        with pytest.raises(asyncio.CancelledError):
            await task
    (row,) = await asyncio.wait_for(append(database, bank, draft("after")), PATIENCE_S)
    assert row.seq == await chain_length(database, bank) == 1


async def test_other_connections_see_a_write_when_it_has_ended_and_not_before(database, database_url, bank):
    other = Database(database_url)
    async with database.write(bank.tenant) as conn:
        await ledger.append(conn, bank.tenant, bank.id, [draft()], epoch=0, head_version=0, now=NOW)
        assert (await find(other, bank)).seq == 0
    assert (await find(other, bank)).seq == 1
    await other.close()


async def test_reader_sees_one_state_from_its_first_look_to_its_end(database, bank):
    async with database.read(bank.tenant) as conn:
        before = await history.page(conn, bank.tenant, bank.id, None, 10)
        await append_many(database, bank, 3)
        assert await history.page(conn, bank.tenant, bank.id, None, 10) == before == []
    assert await chain_length(database, bank) == 3


async def test_reading_transaction_keeps_nothing(database, bank):
    async def write_anyway() -> None:
        async with database.read(bank.tenant) as conn:
            await conn.execute(update(bank_table).values(epoch=7))

    with contextlib.suppress(Capacity):  # PostgreSQL says no, SQLite forgets it
        await write_anyway()
    assert (await find(database, bank)).epoch == 0


async def test_every_connection_checks_foreign_keys(database, bank):
    values = {"seq": 1, "event_id": "cor_1", "response": 0, "forget": "fgt_1", "mode": "erase", "exact": True}

    async def orphan() -> None:
        async with database.write(bank.tenant) as conn:
            await conn.execute(insert(tombstone).values(tenant=bank.tenant, bank=bank.id, created_at=NOW, **values))

    for _ in range(2):
        with pytest.raises(NotFound, match="is gone"):
            await orphan()


REDACTED = {"half redacted": {"body": None}, "redacted but whole": {"redacted_at": NOW}}


@pytest.mark.parametrize("values", REDACTED.values(), ids=REDACTED.keys())
async def test_no_row_is_half_redacted(database, bank, values):
    await append(database, bank, draft())

    async def half() -> None:
        async with database.write(bank.tenant) as conn:
            await conn.execute(update(event).values(**values))

    with pytest.raises(Exception, match=r"(?i)check constraint"):
        await half()


async def test_times_without_a_zone_are_refused(database, bank):
    with pytest.raises(Exception, match="zone"):
        await append(database, bank, draft(), now=NOW.replace(tzinfo=None))
    assert (await find(database, bank)).seq == 0


@on_sqlite
async def test_sqlite_is_opened_so_that_a_commit_is_on_the_disk(database):
    wanted = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": db.BUSY_MS}
    async with database.read("ten_1") as one, database.read("ten_1") as two, database.sweep() as three:
        for conn in (one, two, three):
            found = {name: (await conn.exec_driver_sql(f"PRAGMA {name}")).scalar() for name in wanted}
            assert found == wanted


@on_sqlite
async def test_compaction_leaves_no_erased_text_in_any_file(database, database_url, bank):
    secret = "the very secret number 4711-0815"
    folder = Path(database_url.removeprefix("sqlite+aiosqlite:///")).parent

    def holding() -> list[str]:
        return [path.name for path in folder.iterdir() if secret.encode() in path.read_bytes()]

    await append(database, bank, draft(secret, secret, wrong=secret, metadata={"note": secret}), *(draft(f"q{n}") for n in range(50)))
    assert holding(), "the text was never where it is looked for"
    async with database.write(bank.tenant) as conn:
        await forgets.redact(conn, bank.tenant, bank.id, [1], NOW)
    await database.compact()
    assert holding() == []
    assert await chain_length(database, bank) == 51


@on_sqlite
async def test_writer_of_another_process_is_waited_for_and_then_given_up(database, database_url, bank, monkeypatch):
    other = Database(database_url)
    async with other.write(bank.tenant) as conn:
        await ledger.append(conn, bank.tenant, bank.id, [draft()], epoch=0, head_version=0, now=NOW)
        waiting = asyncio.create_task(append(database, bank, draft()))
        await asyncio.sleep(0.1)
    assert (await waiting)[0].seq == 2

    monkeypatch.setattr(db, "PRAGMAS", (*db.PRAGMAS[:2], "busy_timeout=50", *db.PRAGMAS[3:]))
    impatient = Database(database_url)
    async with other.write(bank.tenant):
        with pytest.raises(Capacity) as refused:
            await append(impatient, bank, draft())
    assert (refused.value.status, refused.value.retry_after_s) == (503, 1)
    assert (await append(impatient, bank, draft()))[0].seq == 3
    for opened in (other, impatient):
        await opened.close()


@on_sqlite
async def test_writers_turn_is_waited_for_and_then_given_up(database, bank, monkeypatch):
    async with database.write(bank.tenant):
        with monkeypatch.context() as impatient:
            impatient.setattr(db, "WAIT_S", 0.05)
            with pytest.raises(Capacity):
                await append(database, bank, draft())
    assert (await append(database, bank, draft()))[0].seq == 1


@on_postgresql
async def test_connection_that_breaks_inside_the_commit_is_told_as_unknown(database, postgres, bank):
    """The server is killed between the last statement and the commit: only a look into the ledger can tell."""

    async def commit() -> None:
        async with database.write(bank.tenant) as conn:
            await ledger.append(conn, bank.tenant, bank.id, [draft()], epoch=0, head_version=0, now=NOW)
            pid = (await conn.execute(text("SELECT pg_backend_pid()"))).scalar()
            postgres.kill_backend(pid)

    with pytest.raises(CommitUnknown):
        await commit()
    assert (await find(database, bank)).seq == 0
    assert (await append(database, bank, draft("again")))[0].seq == 1


async def test_full_disk_is_told_and_nothing_is_kept(database, bank):
    await append(database, bank, draft("before"))
    large = draft("large", "new answer", embedding=os.urandom(FILE_MAX + (1 << 20)), session_id="s")
    before = await everything(database, bank.tenant)
    limited = no_file_above(1 << 20) if database.dialect == "sqlite" else contextlib.nullcontext()  # the server has its limit already
    with limited, pytest.raises(StorageFull) as refused:
        await append(database, bank, large)
    assert refused.value.status == 507
    assert await everything(database, bank.tenant) == before
    assert (await append(database, bank, draft("after")))[0].seq == 2
    assert await chain_length(database, bank) == 2


@on_sqlite
async def test_full_disk_in_the_middle_of_many_appends_keeps_exactly_the_acknowledged(database, bank):
    acked, refused = [], 0
    with no_file_above(512 << 10):
        for n in range(60):
            try:
                acked += await append(database, bank, draft(f"q{n}", "a", metadata={"m": "x" * 10_000}))
            except StorageFull:
                refused += 1
    assert acked
    assert refused
    async with database.read(bank.tenant) as conn:
        kept = await history.page(conn, bank.tenant, bank.id, None, 100)
    assert [row.id for row in kept] == [row.id for row in acked]
    assert await chain_length(database, bank) == len(acked)
    assert (await append(database, bank, draft("room again")))[0].seq == len(acked) + 1
    async with database.write(bank.tenant) as conn:
        assert (await conn.exec_driver_sql("PRAGMA integrity_check")).scalar() == "ok"


@on_sqlite
async def test_database_that_may_not_grow_is_full(database, bank):
    async with database.write(bank.tenant) as conn:
        pages = (await conn.exec_driver_sql("PRAGMA page_count")).scalar()
        await conn.exec_driver_sql(f"PRAGMA max_page_count={pages}")
        refused = 0
    for n in range(20):
        try:
            await append(database, bank, draft(f"q{n}", metadata={"m": "x" * 4_000}))
        except StorageFull:
            refused += 1
    assert refused
    assert await chain_length(database, bank) == 20 - refused


async def test_database_whose_server_is_away_is_told_as_unusable(tmp_path):
    database = Database(f"postgresql://postgres@/nothing?host={tmp_path}")
    with pytest.raises(Capacity) as refused:
        await new_bank(database, "ten_1")
    assert refused.value.retry_after_s == 1
    await database.close()


async def everything(database, tenant: str) -> dict[str, int]:
    async with database.read(tenant) as conn:
        return {table.name: (await conn.execute(select(func.count()).select_from(table))).scalar() for table in metadata.sorted_tables} | {
            "bank": (await conn.execute(select(bank_table))).all()
        }
