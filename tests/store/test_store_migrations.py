"""The schema's history: from nothing to the tables of the code, back, and again, on both dialects."""

import asyncio
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, create_engine, inspect, text
from sqlalchemy.exc import DatabaseError
from waiting import PATIENCE_S

from service.errors import Capacity
from service.store import audit
from service.store.db import Database
from service.store.schema import MIGRATIONS, current_revision, downgrade, migrate
from service.store.tables import metadata

ROOT = Path(__file__).resolve().parents[2]


def engine_of(url: str):
    return create_engine(url.replace("sqlite+aiosqlite", "sqlite"))


def tables_of(url: str) -> set[str]:
    engine = engine_of(url)
    try:
        return set(inspect(engine).get_table_names())
    finally:
        engine.dispose()


def differences(url: str) -> list:
    engine = engine_of(url)
    try:
        with engine.connect() as connection:
            options = {"compare_type": True, "compare_server_default": True}
            return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)
    finally:
        engine.dispose()


def checks_of(url: str) -> dict[str, dict[str, str]]:
    """The CHECK constraints, which autogenerate does not look at; without the casts and brackets that PostgreSQL adds."""
    engine = engine_of(url)
    try:
        found = inspect(engine)
        return {table: {check["name"] for check in found.get_check_constraints(table)} for table in metadata.tables}
    finally:
        engine.dispose()


def test_migrations_from_nothing_give_exactly_the_tables_of_the_code(empty_url):
    assert tables_of(empty_url) == set()
    migrate(empty_url)
    assert tables_of(empty_url) == {*metadata.tables, "alembic_version"}
    assert differences(empty_url) == []
    named = {
        name: {constraint.name for constraint in table.constraints if type(constraint).__name__ == "CheckConstraint"}
        for name, table in metadata.tables.items()
    }
    assert checks_of(empty_url) == named


def test_autogenerate_would_find_a_missing_column(empty_url):
    migrate(empty_url)
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit DROP COLUMN request_id"))
    engine.dispose()
    assert [difference[0] for difference in differences(empty_url)] == ["add_column"]


def test_downgrade_takes_everything_away_and_the_way_up_is_open_again(empty_url):
    migrate(empty_url)
    downgrade(empty_url, "base")
    assert tables_of(empty_url) == {"alembic_version"}
    assert current_revision(empty_url) is None
    migrate(empty_url)
    assert differences(empty_url) == []


def test_migrating_a_migrated_database_keeps_its_rows(empty_url):
    migrate(empty_url)
    first = current_revision(empty_url)
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("INSERT INTO tenant (id, name, created_at) VALUES ('t', 'kept', '2026-01-01 00:00:00')"))
    migrate(empty_url)
    with engine.connect() as connection:
        assert connection.execute(text("SELECT name FROM tenant")).scalars().all() == ["kept"]
    engine.dispose()
    assert current_revision(empty_url) == first is not None


def test_a_migration_that_fails_half_way_leaves_nothing_and_can_be_run_again(empty_url):
    """As after a kill: a half-made schema would refuse every later start."""
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE tombstone (in_the_way INTEGER)"))
    with pytest.raises((DatabaseError, Capacity)):
        migrate(empty_url)
    assert tables_of(empty_url) - {"alembic_version"} == {"tombstone"}
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE tombstone"))
    engine.dispose()
    migrate(empty_url)
    assert differences(empty_url) == []


def test_processes_that_start_together_migrate_once(empty_url):
    command = [sys.executable, "-c", "import sys; from service.store.schema import migrate; input(); migrate(sys.argv[1])", empty_url]
    started = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(2)]
    for process in started:
        process.stdin.write("go\n")
        process.stdin.flush()
    said = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0], said
    assert differences(empty_url) == []


MOMENT = datetime(2026, 1, 1, 12, 30, tzinfo=UTC)
ROWS = {  # one in every table that there ever was, with the columns that it must have; a later one has to be added here
    "tenant": {"id": "t", "name": "acme", "created_at": MOMENT},
    "api_key": {
        "tenant": "t",
        "id": "key_1",
        "name": "admin",
        "prefix": "pal_1",
        "lookup_hash": b"k" * 32,
        "scopes": ["admin"],
        "created_at": MOMENT,
        "last_used_at": MOMENT,
    },
    "sign_in": {
        "tenant": "t",
        "id": "sgn_1",
        "key": "key_1",
        "lookup_hash": b"c" * 32,
        "created_at": MOMENT,
        "expires_at": MOMENT,
    },
    "bank": {
        "tenant": "t",
        "id": "b",
        "name": "main",
        "epoch": 3,
        "owner": "wrk",
        "seq": 1,
        "last_hash": "h" * 64,
        "responses": 1,
        "config_hash": "c",
        "encoder_digest": "e",
        "head_version": 1,
        "created_at": MOMENT,
    },
    "session": {"tenant": "t", "bank": "b", "id": "s", "created_at": MOMENT, "last_used_at": MOMENT},
    "response": {"tenant": "t", "bank": "b", "ordinal": 0, "text": "change_pin", "text_hash": b"h" * 32},
    "event": {
        "tenant": "t",
        "bank": "b",
        "seq": 1,
        "id": "cor_1",
        "epoch": 3,
        "kind": "correction",
        "session": "s",
        "response": 0,
        "body": b"body",
        "embedding": b"vector",
        "salt": b"s" * 16,
        "input_hash": b"i" * 16,
        "tokens": 7,
        "content_hash": "c" * 64,
        "prev_hash": "p" * 64,
        "hash": "h" * 64,
        "created_at": MOMENT,
    },
    "snapshot": {
        "tenant": "t",
        "id": "snap_1",
        "bank": "b",
        "kind": "manual",
        "seq": 1,
        "spans": [[0, 1]],
        "digest": "d",
        "config_hash": "c",
        "clock": {"tokens": 7},
        "levels": [{"name": "fast", "sha256": "f" * 64, "bytes": 9}],
        "label": "first",
        "pinned": True,
        "created_by": "key_1",
        "ordinal": 0,
        "created_at": MOMENT,
    },
    "head": {
        "tenant": "t",
        "bank": "b",
        "version": 1,
        "snapshot": "snap_1",
        "moved_by": "key_1",
        "reason": "created",
        "created_at": MOMENT,
    },
    "forget": {
        "tenant": "t",
        "id": "fgt_1",
        "bank": "b",
        "mode": "erase",
        "seqs": [1],
        "event_ids": ["cor_1"],
        "job": "job_1",
        "created_by": "key_1",
        "created_at": MOMENT,
    },
    "tombstone": {
        "tenant": "t",
        "bank": "b",
        "seq": 1,
        "event_id": "cor_1",
        "response": 0,
        "forget": "fgt_1",
        "mode": "erase",
        "exact": True,
        "created_at": MOMENT,
    },
    "job": {
        "id": "job_1",
        "tenant": "t",
        "kind": "erase",
        "bank": "b",
        "status": "queued",
        "payload": {"seqs": [1]},
        "dedupe": "d",
        "progress": 0.5,
        "attempts": 1,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    },
    "idempotency": {
        "tenant": "t",
        "key": "k",
        "request_hash": b"r" * 32,
        "status": "done",
        "bank": "b",
        "first_seq": 1,
        "last_seq": 1,
        "reply_status": 201,
        "reply": b"{}",
        "created_at": MOMENT,
    },
    "audit": {
        "tenant": "t",
        "id": "aud_1",
        "actor": "key_1",
        "request_id": "req_1",
        "action": "forget",
        "target": "b",
        "detail": {"mode": "erase"},
        "created_at": MOMENT,
        "seq": 1,  # this and the next two since 0007
        "prev_hash": "",
        "hash": "h" * 64,
    },
    "blob": {"tenant": "t", "sha256": "f" * 64, "bytes": 9, "state": "live", "created_at": MOMENT},
    "lookup": {"tenant": "t", "bank": "b", "seq": 1, "at": 1_767_270_600, "text": "change_pin", "said_before": "wrong", "surprise": 0.5},
    "drift": {"tenant": "t", "snapshot": "snap_1", "bank": "b", "levels": {"fast": 0.5}, "created_at": MOMENT},
    "probe_set": {
        "tenant": "t",
        "id": "prb_1",
        "bank": "b",
        "name": "first",
        "probes": [{"input": "Where?", "expected": None}],
        "created_by": "key_1",
        "created_at": MOMENT,
    },
    "proposal": {
        "tenant": "t",
        "id": "prp_1",
        "bank": "b",
        "digest": b"d" * 32,
        "input": "Where?",
        "wrong": "There.",
        "right": "Here.",
        "created_by": "key_1",
        "created_at": MOMENT,
    },
    "erased_tenant": {"id": "gone", "erased_at": MOMENT},
    "bundle": {"tenant": "t", "id": "exp_1", "bank": "b", "spans": [[0, 1]], "manifest": b"{}", "bytes": 1, "created_at": MOMENT},
    "branch": {"tenant": "t", "id": "b", "bank": "b", "spans": [[0, 1]], "created_by": "key_1", "created_at": MOMENT},
    "bundle_part": {"tenant": "t", "bundle": "exp_1", "place": 0, "data": b"x"},
    "trail": {"tenant": "t", "audit_seq": 1, "audit_hash": "h" * 64, "changes": 1},
    "quarantine": {
        "tenant": "t",
        "id": "qua_1",
        "bank": "b",
        "source": {"session_id": "s"},
        "session": "s",
        "corrections": 1,
        "created_by": "key_1",
        "created_at": MOMENT,
    },
    "quarantined": {"tenant": "t", "bank": "b", "seq": 1, "quarantine": "qua_1"},
    "change": {"tenant": "t", "id": "chg_1", "position": 1, "kind": "rollback.done", "bank": "b", "data": {}, "created_at": MOMENT},
    "webhook": {"tenant": "t", "id": "whk_1", "url": "https://a.example/", "events": [], "created_by": "key_1", "created_at": MOMENT},
    "delivery": {
        "tenant": "t",
        "id": "dlv_1",
        "webhook": "whk_1",
        "change": "chg_1",
        "status": "pending",
        "attempts": 0,
        "due_at": MOMENT,
        "created_at": MOMENT,
        "updated_at": MOMENT,
    },
}


def revisions() -> list[str]:
    """All of them, the oldest first."""
    return [script.revision for script in ScriptDirectory(str(MIGRATIONS)).walk_revisions()][::-1]


def reflected(connection) -> list[Table]:
    """The tables as the database has them, those that others refer to first."""
    found = MetaData()
    found.reflect(connection)
    return [table for table in found.sorted_tables if table.name != "alembic_version"]


@pytest.mark.parametrize("old", revisions()[:-1])
def test_rows_of_every_table_survive_the_way_up_and_the_way_back_from_every_revision(empty_url, old):
    """A step that a table of rows could not take, or that lost one, would show."""
    migrate(empty_url, old)
    engine = engine_of(empty_url)
    with engine.begin() as connection:
        columns = {table.name: [column.name for column in table.columns] for table in reflected(connection)}
        for table in reflected(connection):
            connection.execute(table.insert().values({name: value for name, value in ROWS[table.name].items() if name in table.columns}))

    def kept() -> dict[str, list[dict]]:
        """What is there, of the columns that there were."""
        with engine.connect() as connection:
            tables = [table for table in reflected(connection) if table.name in columns]
            found = {table.name: connection.execute(table.select()).mappings().all() for table in tables}
        return {name: [{column: row[column] for column in columns[name]} for row in rows] for name, rows in found.items()}

    before = kept()
    assert [len(rows) for rows in before.values()] == [1] * len(columns)
    for _ in range(2):
        migrate(empty_url)
        assert kept() == before
        assert differences(empty_url) == []
        downgrade(empty_url, old)
        assert kept() == before
    engine.dispose()


def test_there_is_a_row_for_every_table():
    assert ROWS.keys() == metadata.tables.keys()


def test_rows_of_the_first_release_survive_the_way_up_and_the_way_back(empty_url):
    migrate(empty_url, "0001")
    engine = engine_of(empty_url)
    moment = "'2026-01-01 00:00:00'"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO tenant (id, name, created_at) VALUES ('t', 'acme', {moment})"))
        connection.execute(
            text(
                "INSERT INTO bank (tenant, id, name, epoch, seq, last_hash, responses, config_hash, encoder_digest, head_version, "
                f"created_at) VALUES ('t', 'b', 'main', 0, 0, 'h', 1, 'c', 'e', 0, {moment})"
            )
        )
        response = text("INSERT INTO response (tenant, bank, ordinal, text, text_hash) VALUES ('t', 'b', 0, 'change_pin', :hash)")
        connection.execute(response, {"hash": b"h" * 32})

    def kept(columns: str) -> list[tuple]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(f"SELECT {columns} FROM response"))]

    migrate(empty_url)
    assert kept("bank, ordinal, text, embedding") == [("b", 0, "change_pin", None)]
    assert differences(empty_url) == []
    downgrade(empty_url, "0001")
    assert kept("bank, ordinal, text") == [("b", 0, "change_pin")]
    migrate(empty_url)
    assert kept("text, embedding") == [("change_pin", None)]
    engine.dispose()


def test_rows_before_tenants_were_apart_survive_the_way_up_and_the_way_back(empty_url):
    """Banks start without a debt, and a blob that was being deleted is condemned where nobody knows of deletions."""
    migrate(empty_url, "0002")
    engine = engine_of(empty_url)
    moment = "'2026-01-01 00:00:00'"
    with engine.begin() as connection:
        connection.execute(text(f"INSERT INTO tenant (id, name, created_at) VALUES ('t', 'acme', {moment})"))
        connection.execute(
            text(
                "INSERT INTO bank (tenant, id, name, epoch, seq, last_hash, responses, config_hash, encoder_digest, head_version, "
                f"created_at) VALUES ('t', 'b', 'main', 3, 7, 'h', 1, 'c', 'e', 2, {moment})"
            )
        )
        for state in ("pending", "live", "condemned"):
            blob = f"INSERT INTO blob (tenant, sha256, bytes, state, created_at) VALUES ('t', '{state}', 1, '{state}', {moment})"
            connection.execute(text(blob))

    def kept(query: str) -> list[tuple]:
        with engine.connect() as connection:
            return [tuple(row) for row in connection.execute(text(query))]

    blobs = "SELECT sha256, state FROM blob ORDER BY sha256"
    before = kept(blobs)
    migrate(empty_url)
    assert kept("SELECT id, epoch, seq, head_version, debt_tokens, debt_events, debt_since FROM bank") == [("b", 3, 7, 2, 0, 0, None)]
    assert kept(blobs) == before
    with engine.begin() as connection:
        connection.execute(text("UPDATE blob SET state = 'deleting' WHERE sha256 = 'live'"))
        connection.execute(text(f"INSERT INTO erased_tenant (id, erased_at) VALUES ('gone', {moment})"))
    downgrade(empty_url, "0002")
    assert kept(blobs) == [("condemned", "condemned"), ("live", "condemned"), ("pending", "pending")]
    assert kept("SELECT id, seq, head_version FROM bank") == [("b", 7, 2)]
    with pytest.raises(DatabaseError), engine.begin() as connection:
        connection.execute(text("UPDATE blob SET state = 'deleting'"))
    migrate(empty_url)
    assert differences(empty_url) == []
    assert kept("SELECT id, debt_events FROM bank") == [("b", 0)]
    engine.dispose()


def test_events_from_before_the_lookup_are_found_and_counted_after_it(empty_url):
    """Also on PostgreSQL, where the role that migrates is held to row-level security; what was redacted has no text."""
    migrate(empty_url, "0003")
    engine = engine_of(empty_url)
    body = msgspec.msgpack.encode({"v": 1, "input": "Straße?", "wrong": None, "right": "PIN", "metadata": {"Where": ["Chat", 3]}})
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            for name in ("tenant", "bank", "response", "event"):
                connection.execute(text(f"ALTER TABLE {name} NO FORCE ROW LEVEL SECURITY"))
        found = MetaData()
        found.reflect(connection)
        for name in ("tenant", "bank", "session", "response"):
            connection.execute(found.tables[name].insert().values(ROWS[name]))
        first = {**ROWS["event"], "body": body}
        gone = {**first, "seq": 2, "id": "cor_2", "redacted_at": MOMENT, **dict.fromkeys(("body", "embedding", "salt", "input_hash"))}
        connection.execute(found.tables["event"].insert().values(first))
        connection.execute(found.tables["event"].insert().values(gone))
        if engine.dialect.name == "postgresql":
            for name in ("tenant", "bank", "response", "event"):
                connection.execute(text(f"ALTER TABLE {name} FORCE ROW LEVEL SECURITY"))
    migrate(empty_url)
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE lookup NO FORCE ROW LEVEL SECURITY"))
        rows = connection.execute(text("SELECT seq, at, text, said_before, surprise FROM lookup ORDER BY seq")).all()
        if engine.dialect.name == "postgresql":
            connection.execute(text("ALTER TABLE lookup FORCE ROW LEVEL SECURITY"))
    at = int(MOMENT.timestamp())
    assert [tuple(row) for row in rows] == [(1, at, "strasse?\npin\nwhere\nchat\n3", None, None), (2, at, None, None, None)]
    assert differences(empty_url) == []
    engine.dispose()


def test_audit_that_was_written_before_it_was_chained_is_chained(empty_url):
    migrate(empty_url, "0003")
    engine = engine_of(empty_url)
    entry = (
        "INSERT INTO audit (tenant, id, actor, request_id, action, target, detail, created_at) VALUES (:t, :i, 'k', 'r', 'x', 'y', :d, :at)"
    )
    with engine.begin() as connection:
        for tenant in ("one", "two"):
            connection.execute(text("INSERT INTO tenant (id, name, created_at) VALUES (:t, :t, '2026-01-01 00:00:00')"), {"t": tenant})
        for number in range(3):
            values = {
                "t": "one",
                "i": f"aud_{number}",
                "d": '{"name": "Ümlaut", "share": 0.1}',
                "at": f"2026-01-0{number + 1} 00:00:00.123456",
            }
            connection.execute(text(entry), values)
    engine.dispose()
    migrate(empty_url)

    async def verified(tenant: str) -> audit.Verified:
        database = Database(empty_url)
        try:
            async with database.write(tenant) as conn:
                await audit.record(conn, tenant, actor="k", request_id="r", action="x", target="y", detail={}, now=MOMENT)
            async with database.read(tenant) as conn:
                return await audit.verify(conn, tenant)
        finally:
            await database.close()

    for tenant, entries in (("one", 4), ("two", 1)):
        found = asyncio.run(verified(tenant))
        assert (found.entries, found.why) == (entries, None)
