"""The logins that deploy/postgres/10-logins.sh makes are enough for every process and no more, and a backup of their database restores.

On real servers, with the script and the commands of docs/operations.md.
"""

import asyncio
import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest
import structlog
from deploying import ROOT
from fixtures_store import Postgres, running_postgres
from waiting import PATIENCE_S

from service.processes.parts import check_schema
from service.serving import prepare
from service.settings import Settings
from service.store import tenants
from service.store.db import Database
from service.store.schema import current_revision, downgrade, newest_revision

SECRETS = {"POSTGRES_DB": "palimpsest", "DATABASE_OWNER_PASSWORD": "o'wner", "DATABASE_SERVICE_PASSWORD": "service"}
OWNER, SERVICE, SUPERUSER = "palimpsest_owner", "palimpsest_service", "postgres"


@dataclass(frozen=True, slots=True)
class Server:
    """A server with an empty database and our logins."""

    running: Postgres

    def url(self, login: str) -> str:
        return self.running.url("palimpsest", login)

    def tool(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        """Run one of PostgreSQL's programs, or a script that calls them."""
        folder = next((path.parent for path in self.running.home.rglob("psql")), Path("/usr/bin"))
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "PGHOST": str(self.running.home), **more}
        return subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE_S, env=environment)

    def rows(self, login: str, query: str) -> list[tuple]:
        with psycopg.connect(self.url(login)) as connection:
            return connection.execute(query).fetchall()

    def settings(self, login: str, var_dir: Path) -> Settings:
        return Settings(var_dir=var_dir, database=self.url(login), key_pepper="pepper")


@contextlib.contextmanager
def started() -> Iterator[Server]:
    with running_postgres() as running:
        running.run("CREATE DATABASE palimpsest")
        server = Server(running)
        made = server.tool("sh", str(ROOT / "deploy" / "postgres" / "10-logins.sh"), **SECRETS)
        assert made.returncode == 0, made.stderr
        yield server


@pytest.fixture(scope="module")
def server(tmp_path_factory) -> Iterator[Server]:
    """A server whose owner has migrated."""
    with started() as made:
        told = asyncio.run(prepare(made.settings(OWNER, tmp_path_factory.mktemp("var"))))
        assert "Admin key" in told
        yield made


async def test_service_login_finds_the_schema_to_be_its_own(server, tmp_path):
    with structlog.testing.capture_logs() as logs:
        await check_schema(server.settings(SERVICE, tmp_path))
    (warning,) = [line for line in logs if line["log_level"] == "warning"]
    assert "synchronous_commit = off and fsync = off" in warning["why"], "as the server of the tests is"


async def test_service_login_enters_a_sweep_and_a_tenant(server):
    database = Database(server.url(SERVICE))
    try:
        async with database.sweep() as conn:
            rows = (await conn.exec_driver_sql("SELECT id, name FROM tenant")).all()
        assert [row.name for row in rows] == ["default"]
        async with database.read(rows[0].id) as conn:
            assert await tenants.any_key(conn, rows[0].id)
    finally:
        await database.close()


@pytest.mark.parametrize(
    "statement", ["SELECT FROM api_key", "DELETE FROM tenant", "ALTER TABLE event DISABLE ROW LEVEL SECURITY", "CREATE TABLE mine (a int)"]
)
def test_service_login_may_do_nothing_under_its_own_name(server, statement):
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        server.rows(SERVICE, statement)


def test_owner_that_names_no_tenant_sees_no_row(server):
    assert server.rows(OWNER, "SELECT count(*) FROM api_key") == [(0,)]


def test_passwords_are_kept_and_roles_have_none(server):
    kept = dict(server.rows(SUPERUSER, "SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'palimpsest%'"))
    assert {name for name, password in kept.items() if password} == {OWNER, SERVICE}
    assert all(password.startswith("SCRAM-SHA-256$") for password in kept.values() if password)


def test_owner_cannot_take_a_backup_that_lacks_rows(server, tmp_path):
    """Row-level security holds for the owner, too; a dump that left rows out in silence would be no backup."""
    said = server.tool("pg_dump", "--username", OWNER, "--format", "custom", "--file", str(tmp_path / "dump"), "palimpsest")
    assert said.returncode != 0
    assert "row-level security" in said.stderr


def test_backup_restores_into_a_new_server_with_its_logins(server, tmp_path):
    dump = str(tmp_path / "dump")
    kept = "SELECT id, name, lookup_hash FROM api_key"
    said = server.tool("pg_dump", "--username", SUPERUSER, "--format", "custom", "--file", dump, "palimpsest")
    assert said.returncode == 0, said.stderr
    with started() as fresh:
        options = ("--dbname", "palimpsest", "--clean", "--if-exists", "--single-transaction", "--exit-on-error")
        said = fresh.tool("pg_restore", "--username", SUPERUSER, *options, dump)
        assert (said.returncode, said.stderr) == (0, "")
        assert fresh.rows(SUPERUSER, kept) == server.rows(SUPERUSER, kept) != []
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            fresh.rows(SERVICE, kept)
        asyncio.run(check_schema(fresh.settings(SERVICE, tmp_path)))
        asyncio.run(prepare(fresh.settings(OWNER, tmp_path)))


def test_schema_goes_back_and_forth_with_the_owners_login(tmp_path):
    with started() as fresh:
        asyncio.run(prepare(fresh.settings(OWNER, tmp_path)))
        downgrade(fresh.url(OWNER), "-1")
        assert current_revision(fresh.url(OWNER)) != newest_revision()
        asyncio.run(prepare(fresh.settings(OWNER, tmp_path)))
        asyncio.run(check_schema(fresh.settings(SERVICE, tmp_path)))


def test_erasure_of_a_tenant_as_the_runbook_types_it(tmp_path):
    section = (ROOT / "docs" / "operations.md").read_text().split("## Erase a tenant")[1].split("\n## ")[0]
    (typed,) = (line for line in section.splitlines() if " erase-tenant " in line)
    with started() as fresh:
        asyncio.run(prepare(fresh.settings(OWNER, tmp_path)))
        ((tenant,),) = fresh.rows(SUPERUSER, "SELECT id FROM tenant")
        words = typed.replace("ten_…", tenant).split(" palimpsest ")[1].split()
        own = {"DATABASE": fresh.url(SERVICE), "VAR_DIR": str(tmp_path), "BLOBS": (tmp_path / "objects").as_uri()}
        environment = {**os.environ, **{f"PALIMPSEST_{name}": value for name, value in own.items()}}
        for _ in range(2):  # again is no harm
            program = [sys.executable, "-m", "service.cli", *words]
            said = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env=environment)
            assert said.returncode == 0, said.stderr
            assert f"tenant {tenant} is erased" in said.stdout
            assert fresh.rows(SUPERUSER, "SELECT id FROM erased_tenant") == [(tenant,)]
            assert fresh.rows(SUPERUSER, "SELECT count(*) FROM tenant") == fresh.rows(SUPERUSER, "SELECT count(*) FROM api_key") == [(0,)]
        program[-2] = "ten_nobody"
        said = subprocess.run(program, capture_output=True, text=True, timeout=PATIENCE_S, cwd=ROOT, env=environment)
        assert said.returncode == 1
        assert "no tenant" in said.stderr
