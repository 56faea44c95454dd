"""Row-level security on PostgreSQL: what a statement forgets about tenants, the server does not (I6).

Statements here are as wrong as they can be: raw, of all columns, without a condition.
"""

import pytest
from keeping import behind_its_back
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from world import World, key, owned, signing_in

from service.ids import new_id
from service.store import sign_ins, tenants
from service.store.tables import metadata

pytestmark = pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)

TABLES = {table.name: [column.name for column in table.columns] for table in metadata.sorted_tables}
DENIED = r"permission denied|row-level security"
SWEPT = {  # every column that a sweep can read: ids, states and times, nothing that was taught or answered
    "tenant": {"id", "name"},
    "bank": {"tenant", "id", "seq", "debt_tokens", "debt_events", "debt_since"},
    "job": set(TABLES["job"]),
    "blob": {"tenant", "sha256", "state", "created_at"},
    "idempotency": {"status", "created_at"},
    "change": {"tenant", "position", "created_at"},
    "delivery": {"tenant", "id", "status", "due_at"},
    "bundle": {"created_at"},
    "erased_tenant": {"id", "erased_at"},
}
APPEND_ONLY = {  # what the service itself may change in rows that are only ever added to
    "event": {"body", "embedding", "salt", "input_hash", "words_hash", "redacted_at"},
    "snapshot": {"destroyed_at", "label", "note", "pinned"},
    "bundle": set(),
    "bundle_part": set(),
    "branch": set(),
    "response": set(),
    "lookup": {"text", "said_before", "surprise"},
    "drift": set(),
    "probe_set": {"probes"},
    "proposal": set(),
    "head": set(),
    "audit": set(),
    "sign_in": set(),
    "forget": {"job", "certificate", "reason", "bank_deleted_at"},
    "quarantine": {"job", "lifted_by", "lifted_at"},
    "quarantined": set(),
    "change": {"position"},
    "webhook": set(),
    "delivery": {"status", "attempts", "due_at", "answered", "error", "updated_at"},
    "erased_tenant": set(),
}


MAY_UPDATE = """
    SELECT column_name FROM information_schema.columns
    WHERE table_name = :table AND has_column_privilege('palimpsest_app', table_name, column_name, 'UPDATE') LIMIT 1"""


async def rows(conn, table: str) -> list:
    return (await conn.execute(text(f"SELECT * FROM {table}"))).all()


async def refused(conn, statement: str, **values) -> bool:
    """Whether the server says no to the statement; the transaction goes on."""
    try:
        async with conn.begin_nested():
            await conn.execute(text(statement), values)
    except DBAPIError as error:
        if not any(sign in str(error) for sign in DENIED.split("|")):
            raise
        return True
    return False


def place(table: str) -> str:
    return "id" if table in ("tenant", "erased_tenant") else "tenant"


async def test_statement_that_forgets_the_tenant_sees_its_rows_only(database):
    owner, other = [await World(name).build(database) for name in ("Olga", "Tom")]
    for world in (owner, other):
        for begin in (database.read, database.write):
            async with begin(world.tenant) as conn:
                found = {table: await rows(conn, table) for table in TABLES}
            assert [table for table in TABLES if not found[table]] == ["erased_tenant"]
            assert {row._mapping[place(table)] for table in TABLES for row in found[table]} == {world.tenant}


async def test_statement_that_forgets_the_tenant_changes_and_deletes_its_rows_only(database):
    owner, stranger = await World("Olga").build(database), new_id("ten")
    async with behind_its_back(database) as conn:
        before = await owned(conn, owner.tenant)
    async with database.write(stranger) as conn:
        for table in TABLES:
            column = (await conn.execute(text(MAY_UPDATE), {"table": table})).scalar()
            if column:
                assert (await conn.execute(text(f"UPDATE {table} SET {column} = {column}"))).rowcount == 0, table
            if table != "erased_tenant":  # which nobody may
                assert (await conn.execute(text(f"DELETE FROM {table}"))).rowcount == 0, table
    async with behind_its_back(database) as conn:
        assert await owned(conn, owner.tenant) == before


async def test_row_cannot_be_written_for_or_given_to_another_tenant(database):
    owner, stranger = await World("Olga").build(database), new_id("ten")
    async with database.write(stranger) as conn:
        for table in TABLES:
            statement = f"INSERT INTO {table} ({place(table)}) VALUES (:tenant)"
            assert await refused(conn, statement, tenant=owner.tenant), f"a row of {table} was written for another tenant"
    async with database.write(owner.tenant) as conn:
        for table in ("bank", "session", "job", "idempotency", "blob", "api_key"):
            assert await refused(conn, f"UPDATE {table} SET tenant = :stranger", stranger=stranger), table


async def test_without_a_tenant_there_are_no_rows(database):
    await World("Olga").build(database)
    for nobody in (database.read(""), database.write(""), database.read_key(b"unknown"), database.read_key(b"")):
        async with nobody as conn:
            assert [table for table in TABLES if await rows(conn, table)] == []


async def test_pooled_connection_has_forgotten_whose_the_transaction_before_was(database):
    owner = await World("Olga").build(database)

    async def look(transaction) -> tuple[int, str, int, int]:
        async with transaction as conn:
            who = (await conn.execute(text("SELECT pg_backend_pid(), current_user::text"))).one()
            seen = [(await conn.execute(text(f"SELECT count(tenant) FROM {table}"))).scalar() for table in ("bank", "job")]
            return (*who, *seen)

    other = new_id("ten")
    served = [
        await look(transaction)
        for transaction in (
            database.write(owner.tenant),
            database.read(other),
            database.sweep(),
            database.read_key(b"unknown"),
            database.write(other),
            database.read(owner.tenant),
        )
    ]
    assert len({pid for pid, *_ in served}) == 1, "each had a connection of its own, so this shows nothing"
    app, sweeper = "palimpsest_app", "palimpsest_sweeper"
    assert [rest for _, *rest in served] == [[app, 2, 2], [app, 0, 0], [sweeper, 2, 2], [app, 0, 0], [app, 0, 0], [app, 2, 2]]


async def test_transaction_that_failed_leaves_nothing_of_its_tenant_on_the_connection(database):
    owner = await World("Olga").build(database)
    for begin in (lambda: database.write(owner.tenant), database.sweep):

        async def fail(begin=begin) -> None:
            async with begin() as conn:
                await conn.execute(text("SELECT 1 / 0"))

        with pytest.raises(DBAPIError):
            await fail()
        async with database.read_key(b"unknown") as conn:
            assert (await conn.execute(text("SELECT current_user::text"))).scalar() == "palimpsest_app"
            assert await rows(conn, "bank") == []


async def test_key_is_looked_up_in_a_transaction_that_sees_this_one_row(database):
    owner = await World("Olga").build(database)
    await World("Tom").build(database)
    sought = key("key_1", "Olga")["lookup_hash"]
    async with database.read_key(sought) as conn:
        (row,) = await rows(conn, "api_key")
        assert (row.tenant, row.lookup_hash) == (owner.tenant, sought)
        assert [table for table in TABLES if table != "api_key" and await rows(conn, table)] == []
        assert await tenants.find_key(conn, key("key_1", "Tom")["lookup_hash"]) is None
    async with database.write(owner.tenant) as conn:  # a transaction of a tenant is not one of a key
        assert await tenants.find_key(conn, key("key_1", "Tom")["lookup_hash"]) is None


async def test_sign_in_is_looked_up_in_a_transaction_that_sees_this_one_row(database):
    owner = await World("Olga").build(database)
    await World("Tom").build(database)
    sought = signing_in("sgn_1", "Olga")["lookup_hash"]
    async with database.read_key(sought) as conn:
        assert (await sign_ins.find_sign_in(conn, sought)).tenant == owner.tenant
        assert [table for table in TABLES if table != "sign_in" and await rows(conn, table)] == []
        assert await sign_ins.find_sign_in(conn, signing_in("sgn_1", "Tom")["lookup_hash"]) is None
    async with database.write(owner.tenant) as conn:
        assert await sign_ins.find_sign_in(conn, signing_in("sgn_1", "Tom")["lookup_hash"]) is None


async def test_sweep_reads_ids_and_states_of_all_tenants_and_nothing_that_was_taught(database):
    owner, other = [await World(name).build(database) for name in ("Olga", "Tom")]
    readable: dict[str, set[str]] = {}
    async with database.sweep() as conn:
        for name, columns in TABLES.items():
            for column in columns:
                if not await refused(conn, f'SELECT "{column}" FROM {name}'):
                    readable.setdefault(name, set()).add(column)
        assert readable == SWEPT
        for name in ("bank", "job", "blob"):
            assert set((await conn.execute(text(f"SELECT tenant FROM {name}"))).scalars()) == {owner.tenant, other.tenant}
        found = " ".join([str(await rows(conn, "job")), str((await conn.execute(text("SELECT id, name FROM tenant"))).all())])
    assert "Olga" not in found, "the tenant's own words"


async def test_sweep_changes_claims_and_drops_replies_and_nothing_else(database):
    await World("Olga").build(database)
    async with database.sweep() as conn:
        for table, columns in TABLES.items():
            changed = {name for name in columns if not await refused(conn, f'UPDATE {table} SET "{name}" = NULL WHERE false')}
            claims = {"status", "progress", "attempts", "claimed_by", "claim_until", "result", "error", "updated_at", "finished_at"}
            assert changed == (claims if table == "job" else set()), table
            assert await refused(conn, f"DELETE FROM {table} WHERE false") == (table not in ("idempotency", "bundle")), table
            assert await refused(conn, f"INSERT INTO {table} DEFAULT VALUES"), table


async def test_service_cannot_rewrite_what_is_only_added_to(database):
    owner = await World("Olga").build(database)
    async with database.write(owner.tenant) as conn:
        for table, columns in APPEND_ONLY.items():
            for column in TABLES[table]:
                may = not await refused(conn, f'UPDATE {table} SET "{column}" = "{column}" WHERE false')
                assert may == (column in columns), f"{table}.{column}"
        assert await refused(conn, "DELETE FROM erased_tenant")
        for statement in ("ALTER TABLE event DISABLE ROW LEVEL SECURITY", "DROP TABLE event", "TRUNCATE event"):
            with pytest.raises(DBAPIError, match=r"must be owner|permission denied"):
                async with conn.begin_nested():
                    await conn.execute(text(statement))


UNGUARDED = """
    SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace AND relname <> 'alembic_version'
    AND NOT (relrowsecurity AND relforcerowsecurity AND EXISTS (
        SELECT FROM pg_policies WHERE tablename = relname AND roles = '{palimpsest_app}' AND cmd = 'ALL' AND permissive = 'PERMISSIVE'
        AND qual LIKE '%current_setting(''app.tenant''%' AND with_check LIKE '%current_setting(''app.tenant''%'))"""


async def unguarded(conn) -> set[str]:
    return set((await conn.execute(text(UNGUARDED))).scalars())


async def test_every_table_is_guarded_against_other_tenants_and_its_own_owner(database):
    """A table that a later migration adds has to say how, too."""
    async with behind_its_back(database) as conn:
        assert await unguarded(conn) == set()
        there = "SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace"
        assert set((await conn.execute(text(there))).scalars()) == set(TABLES)
        for statement, found in (
            ("CREATE TABLE newcomer (tenant text)", {"newcomer"}),
            ("ALTER TABLE job NO FORCE ROW LEVEL SECURITY", {"job"}),
            ("ALTER TABLE event DISABLE ROW LEVEL SECURITY", {"event"}),
            ("DROP POLICY own ON head", {"head"}),
        ):
            async with conn.begin_nested() as point:
                await conn.execute(text(statement))
                assert await unguarded(conn) == found, "the test would not have found it"
                await point.rollback()


async def test_policies_for_all_tenants_are_the_sweepers_alone(database):
    async with behind_its_back(database) as conn:
        query = "SELECT tablename FROM pg_policies WHERE qual NOT LIKE '%current_setting(%' AND roles = '{palimpsest_sweeper}'"
        assert set((await conn.execute(text(query))).scalars()) == set(SWEPT)
        query = "SELECT tablename, policyname FROM pg_policies WHERE qual NOT LIKE '%current_setting(%' AND roles <> '{palimpsest_sweeper}'"
        assert (await conn.execute(text(query))).all() == []
