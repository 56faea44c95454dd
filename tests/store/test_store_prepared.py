"""Statements that a connection knows by name: planned once, by an index, and what may be lost with the server is said beforehand."""

import psycopg
import pytest
from keeping import NOW, behind_its_back, draft
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.psycopg import dialect
from test_store_appending import begun, go

from service.store import fences, history, idempotency, lookup, snapshots
from service.store.appending import APPEND, LOCK
from service.store.db import OPTIONS, Database
from service.store.idempotency import Done
from service.store.keyed import Keyed
from service.store.prepared import PLANNED_ONCE, Connection, prepared
from service.store.schema import unsafe_settings
from service.store.telling import OneWriter

on_postgresql = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
on_sqlite = pytest.mark.parametrize("database_url", ["sqlite"], indirect=True)
PLANS = "SELECT sum(generic_plans), sum(custom_plans) FROM pg_prepared_statements WHERE statement LIKE %(said)s::text"


MANY_BANKS = text(
    "INSERT INTO bank (tenant, id, name, epoch, seq, last_hash, responses, config_hash, encoder_digest, head_version, created_at)"
    " SELECT tenant, id || n, name || n, 0, 0, '', 0, '', '', 0, created_at FROM bank, generate_series(1, 300) AS n"
)


def as_sent(statement, *names: str) -> str:
    return str(statement.compile(dialect=dialect(), column_keys=list(names) or None))


SENT = {  # and by what the index finds its rows
    "append": (APPEND, ["key", "ordinal|text_hash"]),  # of a quoted response both are known
    "lock": (LOCK, ["id"]),
    "finish": (as_sent(idempotency.FINISH), ["key"]),
    "finish, quoting": (as_sent(idempotency.FINISH_QUOTING), ["key", "created_at"]),
    "note": (as_sent(lookup.NOTE), ["seq"]),
    "fence": (as_sent(fences.FENCE), ["id"]),
    "support": (as_sent(history.NEWEST_OF), ["response"]),
    "same input": (as_sent(history.SAME_INPUT), ["words_hash", "input_hash"]),
    "kept": (as_sent(snapshots.KEPT), ["bank"]),
}


def test_places_get_numbers_in_the_order_of_their_first_use():
    known = prepared("SELECT %(b)s, %(a)s, %(b)s WHERE 'x' LIKE '%%y'")
    assert known.making == f"PREPARE {known.name} AS SELECT $1, $2, $1 WHERE 'x' LIKE '%y'"
    assert known.call == f"EXECUTE {known.name}(%(b)s,%(a)s)"
    assert prepared("SELECT 1").call == f"EXECUTE {prepared('SELECT 1').name}"


@on_postgresql
async def test_statements_are_planned_once_for_each_connection(database, bank):
    for number in range(9):
        await begun(database, bank.tenant, f"key {number}")
        await go(database, bank, draft(f"q{number}"), key=f"key {number}")
    for said in ('%INSERT INTO "event"%', "%INSERT INTO idempotency%"):
        ((kept, anew),) = await database.send(bank.tenant, [(PLANS, {"said": said})])
        assert kept >= 9, said
        assert anew == 0, said


@on_postgresql
@pytest.mark.parametrize(("said", "found_by"), SENT.values(), ids=SENT.keys())
async def test_plan_made_for_empty_tables_and_many_banks_finds_rows_by_their_key(database, database_url, bank, said, found_by):
    async with behind_its_back(database) as conn:
        tables = await conn.execute(text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"))
        names = [name for (name,) in tables if name not in ("alembic_version", "bank", "tenant")]
        await conn.execute(text(f"TRUNCATE {', '.join(names)}"))  # the pages that the rows of tests before had would count as well
        await conn.execute(MANY_BANKS)
        await conn.execute(text("ANALYZE bank"))
    places = prepared(said).making.partition(" AS ")[2]
    async with await Connection.connect(
        database_url.replace("+psycopg", ""), autocommit=True, options=f"{OPTIONS} {PLANNED_ONCE}"
    ) as connection:
        cursor = await connection.execute(f"EXPLAIN (GENERIC_PLAN) {places}".encode())
        plan = "\n".join(line for (line,) in await cursor.fetchall())
    assert "Seq Scan" not in plan, plan
    conditions = [line for line in plan.splitlines() if "Index Cond" in line]
    for names in found_by:
        ways = [way for name in names.split("|") for way in (f"{name} = ", f"{name} >= ", f"({name})::text = ")]
        assert any(way in line for line in conditions for way in ways), plan


@on_postgresql
async def test_session_that_was_reset_knows_its_statements_again(database, bank):
    await go(database, bank, draft("q1"))
    await history.same_input(database.asking(bank.tenant), bank.tenant, bank.id, "q1", 8)
    for line in (*database._senders._idle, *database._short._idle):
        await line.execute("DEALLOCATE ALL")
    assert (await go(database, bank, draft("q2")))[0].seq == 2
    (found,) = await history.same_input(database.asking(bank.tenant), bank.tenant, bank.id, "q1", 8)
    assert found.seq == 1


async def test_append_is_waited_for(database, bank, monkeypatch):
    """Everything else under a key may be lost with the server, as long as this is not."""
    told, send, tell = [], Database.send, OneWriter.tell

    async def watched(self, tenant, message, *, durable=True):
        told.append(durable)
        return await send(self, tenant, message, durable=durable)

    async def watched_file(self, work, *, durable=True):
        told.append(durable)
        return await tell(self, work, durable=durable)

    monkeypatch.setattr(Database, "send", watched)
    monkeypatch.setattr(OneWriter, "tell", watched_file)
    await go(database, bank, draft("q1"))
    assert told == [True]


@on_postgresql
async def test_statement_that_failed_is_known_afterwards_as_well(database, bank):
    await go(database, bank, draft("q1", "answer a"))
    for _ in range(2):
        with pytest.raises(psycopg.errors.DivisionByZero):
            await database.send(bank.tenant, [("SELECT 1 / %(by)s::integer", {"by": 0})])
        assert await database.send(bank.tenant, [("SELECT 1 / %(by)s::integer", {"by": 1})]) == [(1,)]


@on_postgresql
async def test_statement_that_there_cannot_be_is_refused_and_the_next_message_is_taken(database, bank):
    with pytest.raises(psycopg.errors.UndefinedTable):
        await database.send(bank.tenant, [("SELECT FROM nowhere", {})])
    assert (await go(database, bank, draft("q1")))[0].seq == 1


@on_postgresql
async def test_change_that_need_not_be_durable_is_not_waited_for_and_the_next_one_is(database, tenant):
    asking = [("SELECT current_setting('synchronous_commit')", {})]
    await set_here(database, "SET synchronous_commit = on")  # the server of the tests waits for no disk
    try:
        for durable, said in ((False, "off"), (True, "on"), (False, "off"), (True, "on")):
            assert await database.send(tenant, asking, durable=durable) == [(said,)]
    finally:
        await set_here(database, "RESET synchronous_commit")


async def test_server_that_acknowledges_what_its_disk_does_not_have_is_seen(database, database_url):
    if database.dialect == "sqlite":
        assert unsafe_settings(database_url) == []
        return
    assert unsafe_settings(database_url) == ["synchronous_commit = off", "fsync = off"], "as the server of the tests is"
    await set_here(database, "SET synchronous_commit = on")
    try:
        assert unsafe_settings(database_url) == ["fsync = off"]
    finally:
        await set_here(database, "RESET synchronous_commit")


async def set_here(database, what: str) -> None:
    """A setting of the database, for connections to come."""
    async with behind_its_back(database) as conn:
        await conn.execute(text(f"DO $$ BEGIN EXECUTE format('ALTER DATABASE %I {what}', current_database()); END $$"))


@on_sqlite
async def test_change_of_a_file_that_need_not_be_durable_is_not_waited_for_and_the_next_one_is(database, tenant):
    asking = [(text("PRAGMA synchronous"), {})]
    for durable, said in ((False, 1), (True, 2), (False, 1), (True, 2)):
        assert [tuple(row) for row in await database.send(tenant, asking, durable=durable)] == [(said,)]


async def test_steps_of_a_key_that_need_not_be_durable_mean_what_the_others_mean(database, bank):
    keyed, how = Keyed(database, durable=False), {"request_hash": b"1" * 32, "lease_s": 60.0, "quotes": False}
    assert await keyed.begin(bank.tenant, "key", now=NOW, **how) == idempotency.Fresh()
    await go(database, bank, draft("q1"), key="key")
    assert await keyed.begin(bank.tenant, "key", now=NOW, **how) == idempotency.Committed(bank.id, 1, 1)
    await keyed.finish(bank.tenant, "key", status=201, reply=b"{}", now=NOW, quotes_since=None)
    assert await keyed.begin(bank.tenant, "key", now=NOW, **how) == Done(201, b"{}")
