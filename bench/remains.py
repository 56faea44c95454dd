"""What a killed service left on the disk, read from a copy: its own recovery must find the files as the kill left them."""

import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from bench.promises import Broken
from service.errors import PalimpsestError
from service.store.db import Database
from service.store.ledger import verify_chain

FILES = ("palimpsest.db", "palimpsest.db-wal")


@dataclass(frozen=True, slots=True)
class Remains:
    """The jobs that had not ended, and what is not as promised."""

    open_jobs: frozenset[str]
    broken: list[Broken]


async def examine(var_dir: Path) -> Remains:
    """Check the database file and the hash chain of every bank in it. The service must not run."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-remains-", dir=var_dir.parent) as scratch:
        for name in FILES:
            if (var_dir / name).exists():
                shutil.copyfile(var_dir / name, Path(scratch) / name)
        file = Path(scratch) / FILES[0]
        with closing(sqlite3.connect(file)) as conn:
            said = [row[0] for row in conn.execute("PRAGMA quick_check")]
            open_jobs = frozenset(row[0] for row in conn.execute("SELECT id FROM job WHERE status IN ('queued', 'running')"))
            banks = list(conn.execute("SELECT tenant, id FROM bank"))
        broken = [Broken("other", f"the database file: {line}") for line in said if line != "ok"]
        return Remains(open_jobs, broken + await _chains(file, banks))


async def _chains(file: Path, banks: list[tuple[str, str]]) -> list[Broken]:
    broken = []
    database = Database(f"sqlite+aiosqlite:///{file}")
    try:
        for tenant, bank in banks:
            async with database.read(tenant) as conn:
                try:
                    await verify_chain(conn, tenant, bank)
                except PalimpsestError as error:
                    broken.append(Broken("other", error.detail))
    finally:
        await database.close()
    return broken
