"""Where a process can die: every await that reaches the database or the blob store is a numbered point.

Points are counted only inside `armed()`, so that what a service does by itself beside an operation has no number. At a point

- `Recorded` keeps a copy of the directory as the kernel has it: what `kill -9` would leave, since nothing is closed and no transaction
  is ended. One run of an operation gives the remains of a death at each of its points; points between which nothing was written share one.
- `Fatal` kills the process at one of them: a `Crash` is raised there, and whatever still reaches the database or the blobs afterwards gets
  one as well. For a database whose files cannot be copied.
"""

import contextlib
import hashlib
import os
import re
import shutil
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from unittest.mock import patch

from sqlalchemy import event

from service.store.blobs import Blobs
from service.store.db import Database

NOT_KEPT = ("lock", "palimpsest.db-shm")  # go with the process, or are made again from the log beside them
_armed: ContextVar[bool] = ContextVar("armed", default=False)


class Crash(BaseException):
    """The process has died."""


@contextlib.contextmanager
def armed() -> Iterator[None]:
    """What is awaited here has numbers."""
    token = _armed.set(True)
    try:
        yield
    finally:
        _armed.reset(token)


class Points:
    """Counts the points of an operation; `acknowledged` once its caller has been answered."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.acknowledged = False
        self._turn = RLock()  # a file's writer has a thread of its own

    def reach(self, name: str) -> None:
        """A point, if somebody asked for an operation's."""
        if _armed.get():
            with self._turn:
                self.names.append(f"{len(self.names)} {name}")
                self.reached(self.names[-1])

    def reached(self, name: str) -> None:
        """What happens at a point."""


@dataclass
class Remains:
    """What is left of a process that died at any of the `points`."""

    directory: Path
    acknowledged: bool
    points: list[str] = field(default_factory=list)


class Recorded(Points):
    """Keeps what a death at each point would leave of `directory`."""

    def __init__(self, directory: Path, kept: Path) -> None:
        super().__init__()
        self._directory, self._kept = directory, kept
        self._seen = ""
        self.remains: list[Remains] = []

    def reached(self, name: str) -> None:
        seen = f"{self.acknowledged} {_seen(self._directory)}"
        if seen != self._seen:
            self._seen = seen
            copy = self._kept / f"{len(self.remains)}"
            shutil.copytree(self._directory, copy, ignore=shutil.ignore_patterns(*NOT_KEPT))
            self.remains.append(Remains(copy, self.acknowledged))
        self.remains[-1].points.append(name)


class Fatal(Points):
    """Dies at point `number`; what its directory was then is kept in `copy`."""

    def __init__(self, directory: Path, copy: Path, number: int) -> None:
        super().__init__()
        self._directory, self._copy, self._number = directory, copy, number
        self.remains: Remains | None = None

    def reach(self, name: str) -> None:
        if self.remains is not None:
            raise Crash(f"after the death, {name}")
        super().reach(name)

    def reached(self, name: str) -> None:
        if len(self.names) - 1 == self._number:
            shutil.copytree(self._directory, self._copy, ignore=shutil.ignore_patterns(*NOT_KEPT))
            self.remains = Remains(self._copy, self.acknowledged, [name])
            raise Crash(name)


class WatchedDatabase(Database):
    """The database; begin, every statement and both sides of a commit are points."""

    def __init__(self, url: str, points: Points, **more) -> None:
        super().__init__(url, **more)
        self._points = points

        @event.listens_for(self._engine.sync_engine, "before_cursor_execute")
        def _reach(_connection, _cursor, statement, *_) -> None:
            points.reach(_short(statement))

    def write(self, *args):
        return self._watched("write", super().write(*args))

    async def at_once(self, tenant, work):
        if self.dialect == "postgresql":  # a transaction of `write`
            return await super().at_once(tenant, work)

        async def watched(conn):
            result = await work(_Watched(conn, self._points))
            self._points.reach("write: before the commit")
            return result

        self._points.reach("write: begin")
        result = await super().at_once(tenant, watched)
        self._points.reach("write: after the commit")
        return result

    async def send(self, tenant, message, *, durable=True):
        self._points.reach("write: begin")
        for statement, _ in message:
            self._points.reach(_short(str(statement)))
        self._points.reach("write: before the commit")  # which is in the message
        rows = await super().send(tenant, message, durable=durable)
        self._points.reach("write: after the commit")
        return rows

    def sweep(self):
        return self._watched("sweep", super().sweep())

    def read(self, *args):
        return self._watched("read", super().read(*args))

    def read_key(self, *args):
        return self._watched("read", super().read_key(*args))

    async def compact(self) -> None:
        self._points.reach("compact")
        await super().compact()
        self._points.reach("compacted")

    @contextlib.asynccontextmanager
    async def _watched(self, kind: str, transaction: AbstractAsyncContextManager) -> AsyncIterator:
        self._points.reach(f"{kind}: begin")
        async with transaction as connection:
            yield connection
            if kind != "read":
                self._points.reach(f"{kind}: before the commit")
        if kind != "read":
            self._points.reach(f"{kind}: after the commit")


class _Watched:
    """A connection for short changes; every statement is a point."""

    def __init__(self, real, points: Points) -> None:
        self._real, self._points = real, points
        self.dialect = real.dialect

    async def execute(self, statement, *values):
        self._points.reach(_short(str(statement)))
        return await self._real.execute(statement, *values)


class WatchedBlobs:
    """A blob store; both sides of a call are points, and the middle of a put, where its bytes are written and not yet in their place."""

    def __init__(self, real: Blobs, points: Points) -> None:
        self._real, self._points = real, points

    async def put(self, tenant: str, data: bytes) -> str:
        self._points.reach("put: before")
        with self._between():
            digest = await self._real.put(tenant, data)
        self._points.reach("put: after")
        return digest

    async def get(self, tenant: str, sha256: str) -> bytes:
        self._points.reach("get")
        return await self._real.get(tenant, sha256)

    def __getattr__(self, name: str):
        real = getattr(self._real, name)

        async def watched(*args):
            self._points.reach(f"{name}: before")
            result = await real(*args)
            self._points.reach(f"{name}: after")
            return result

        return watched

    @contextlib.contextmanager
    def _between(self) -> Iterator[None]:
        sync = os.fsync

        def reach_and_sync(handle: int) -> None:
            if stat.S_ISREG(os.fstat(handle).st_mode):  # of the bytes, not of the folder
                self._points.reach("put: between")
            sync(handle)

        with patch("os.fsync", reach_and_sync):
            yield


def _seen(directory: Path) -> str:
    """A digest of the directory's files."""
    seen = hashlib.sha256()
    for path in sorted(directory.rglob("*")):
        if path.is_file() and path.name not in NOT_KEPT:
            seen.update(f"{path} {path.stat().st_size}\n".encode())
            seen.update(path.read_bytes())
    return seen.hexdigest()


def _short(statement: str) -> str:
    """A statement's verb and table."""
    words = statement.split()
    table = re.search(r"\b(?:FROM|INTO|UPDATE) +(\w+)", statement)
    return f"{words[0]} {table[1]}" if table else " ".join(words[:2])
