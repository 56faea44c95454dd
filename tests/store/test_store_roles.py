"""Roles of PostgreSQL: made once on a server by whoever may, entered by the service, and of no help to anyone who just connects.

On a server of their own, since roles belong to all of a server's databases.
"""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from fixtures_store import Postgres, running_postgres
from keeping import NOW, append, draft, find, new_bank, sha
from sqlalchemy import delete
from waiting import PATIENCE_S
from world import World

from service.settings import SettingsRefused
from service.store import banks, debt, idempotency, tenants
from service.store.db import Database
from service.store.schema import current_revision, downgrade, migrate
from service.store.tables import branch, metadata

ROOT = Path(__file__).resolve().parents[2]
NEWEST = max(path.name[:4] for path in (ROOT / "migrations" / "versions").glob("0*.py"))
MIGRATE = "import sys; from service.store.schema import migrate; input(); migrate(sys.argv[1])"


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A server without the roles of the service; "keeper" may make roles, "plain" may not, and neither is a superuser."""
    with running_postgres() as started:
        started.run("CREATE ROLE keeper LOGIN CREATEROLE")
        started.run("CREATE ROLE plain LOGIN")
        yield started


def database_of(server: Postgres, owner: str, name: str) -> str:
    server.run(f"CREATE DATABASE {name} OWNER {owner}")
    return server.url(name, owner)


def run_as_superuser(server: Postgres, said: str) -> None:
    for statement in said.partition("start again: ")[2].split(";"):
        if statement.strip():
            server.run(statement)


def test_who_may_not_make_roles_is_told_the_statements_that_help(server):
    url = database_of(server, "plain", "first")
    with pytest.raises(SettingsRefused, match="PALIMPSEST_DATABASE") as refused:
        migrate(url)
    assert str(refused.value).count("CREATE ROLE") == 2
    assert current_revision(url) is None, "the schema is as it was"
    run_as_superuser(server, str(refused.value))
    migrate(url)
    assert current_revision(url) == NEWEST


def test_who_may_not_enter_roles_that_are_there_is_told_so_too(server):
    server.run("CREATE ROLE late LOGIN")
    url = database_of(server, "late", "second")
    with pytest.raises(SettingsRefused, match="GRANT palimpsest_app, palimpsest_sweeper TO late") as refused:
        migrate(url)
    assert "CREATE ROLE" not in str(refused.value)
    run_as_superuser(server, str(refused.value))
    migrate(url)
    assert current_revision(url) == NEWEST


def test_databases_that_are_migrated_at_once_share_the_roles_and_their_owner_is_none_of_them():
    """Who made the roles can enter them, and has nothing of them before he does."""
    with running_postgres() as server:
        server.run("CREATE ROLE keeper LOGIN CREATEROLE")
        urls = [database_of(server, "keeper", f"db_{number}") for number in range(4)]
        command = [sys.executable, "-c", MIGRATE]
        started = [subprocess.Popen([*command, url], stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT) for url in urls]
        for process in started:
            process.stdin.write("go\n")
            process.stdin.flush()
        said = [process.communicate(timeout=PATIENCE_S)[1] for process in started]
        assert [process.returncode for process in started] == [0] * len(urls), said
        for number, url in enumerate(urls):
            with psycopg.connect(server.url(f"db_{number}")) as superuser:
                superuser.execute("INSERT INTO tenant VALUES ('ten_1', 'acme', now())")
            with psycopg.connect(url, options="-c role=palimpsest_sweeper") as connection:
                assert connection.execute("SELECT id, name FROM tenant").fetchall() == [("ten_1", "acme")]
            for options in ("", "-c role=palimpsest_app"):
                with psycopg.connect(url, options=options) as connection:
                    assert connection.execute("SELECT id, name FROM tenant").fetchall() == []


@pytest.fixture
def plain_url(server) -> Iterator[str]:
    for role in ("palimpsest_app", "palimpsest_sweeper"):
        server.run(f"DO $$ BEGIN CREATE ROLE {role} NOLOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
        server.run(f"GRANT {role} TO plain WITH INHERIT FALSE, SET TRUE")
    url = database_of(server, "plain", "own")
    migrate(url)
    yield url
    server.drop("own")


async def test_service_runs_as_an_owner_that_is_no_superuser(plain_url):
    database = Database(plain_url)
    tenant = await tenants.ensure_tenant(database, "acme", NOW)
    assert await tenants.ensure_tenant(database, "acme", NOW) == tenant
    bank = await new_bank(database, tenant)
    await append(database, bank, draft("q", "a"))
    assert (await find(database, bank)).seq == 1
    async with database.sweep() as conn:
        assert await idempotency.purge(conn, NOW) == 0
        assert await debt.due(conn, NOW, tokens=10**9, events=10**9, early=10**9, age=NOW - NOW.replace(year=2000), limit=9) == []
    async with database.read_key(sha("no such key").encode()[:32]) as conn:
        assert await tenants.find_key(conn, sha("no such key").encode()[:32]) is None
    await database.close()


async def test_owner_who_connects_without_a_role_sees_no_rows(server, plain_url):
    database = Database(plain_url)
    world = await World("Olga").build(database)
    await database.close()
    with psycopg.connect(server.url("own")) as superuser, psycopg.connect(plain_url, autocommit=True) as connection:
        for table in metadata.tables:
            assert superuser.execute(f"SELECT * FROM {table}").fetchall() or table == "erased_tenant"
            assert connection.execute(f"SELECT * FROM {table}").fetchall() == [], table
            assert connection.execute(f"DELETE FROM {table}").rowcount == 0, table
        connection.execute("SELECT set_config('app.tenant', %s, false)", (world.tenant,))
        assert connection.execute("SELECT * FROM event").fetchall() == []


async def test_owner_can_take_the_schema_back_and_forth_around_its_rows(plain_url):
    database = Database(plain_url)
    world = await World("Olga").build(database)
    with pytest.raises(RuntimeError, match="turns of conversations"):
        downgrade(plain_url, "0002")
    async with database.write(world.tenant) as conn:
        await conn.execute(delete(branch))
        await banks.delete_bank(conn, world.tenant, world.empty.id, NOW)
    await database.close()
    downgrade(plain_url, "0002")
    with psycopg.connect(plain_url) as connection:
        assert connection.execute("SELECT count(*) FROM event").fetchone() == (3,)
        assert connection.execute("SELECT DISTINCT state FROM blob ORDER BY state").fetchall() == [("condemned",), ("live",), ("pending",)]
        assert connection.execute("SELECT relname FROM pg_class WHERE relrowsecurity OR relforcerowsecurity").fetchall() == []
        assert connection.execute("SELECT * FROM pg_policies").fetchall() == []
        granted = "SELECT table_name FROM information_schema.column_privileges WHERE grantee LIKE 'palimpsest%'"
        assert connection.execute(granted).fetchall() == []
    migrate(plain_url)
    database = Database(plain_url)
    assert (await find(database, world.bank)).seq == 3
    await database.close()
