"""A service watched under a load that goes on: what its processes hold in memory, and how long the database's transactions stay open."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

from bench.load.figures import growths
from bench.load.processes import resident_bytes
from bench.load.target import Target

SAMPLE_S = 10.0
TRANSACTION_S = 2.0  # transactions are looked at more often: one of five seconds must not slip through
GROWTH_GOAL, TRANSACTION_GOAL_S = 0.02, 5.0  # the goals of an hour's soak
OPEN = """
SELECT coalesce(max(extract(epoch FROM clock_timestamp() - xact_start)), 0)::float FROM pg_stat_activity
WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""


@dataclass(slots=True)
class Watched:
    """Samples: seconds since the begin, and bytes by process."""

    memory: list[tuple[float, dict[str, int]]] = field(default_factory=list)
    transaction_s: float | None = None  # the longest seen; None where no PostgreSQL is known

    def as_json(self, seconds: float) -> dict[str, Any]:
        """The samples and what they say."""
        each, together = growths(self.memory, seconds)
        samples = [{"s": round(at, 1), **held} for at, held in self.memory]
        return {"growth": together, "growth_by_process": each, "longest_transaction_s": self.transaction_s, "resident_bytes": samples}


@contextlib.asynccontextmanager
async def watching(target: Target, seconds: float) -> AsyncIterator[Watched]:
    """Watch until the block ends."""
    seen = Watched()
    every_s = min(SAMPLE_S, seconds / 12)  # a short run has some samples in each third, too
    watchers = [asyncio.create_task(_memory(target, seen, every_s))]
    if target.database:
        watchers.append(asyncio.create_task(_transactions(target.database, seen)))
    try:
        yield seen
    finally:
        for watcher in watchers:
            watcher.cancel()
        for ended in await asyncio.gather(*watchers, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended


async def _memory(target: Target, seen: Watched, every_s: float) -> None:
    begin, processes = time.monotonic(), target.processes()
    while True:
        seen.memory.append((time.monotonic() - begin, resident_bytes(processes)))
        await asyncio.sleep(every_s)


async def _transactions(database: str, seen: Watched) -> None:
    import psycopg

    url = database.replace("postgresql+psycopg://", "postgresql://")
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:
        while True:
            row = await (await connection.execute(OPEN)).fetchone()
            seen.transaction_s = max(seen.transaction_s or 0.0, row[0] if row else 0.0)
            await asyncio.sleep(TRANSACTION_S)
