"""What a consolidation takes: seconds, and memory, in this process or in one of its own that is like `palimpsest jobs`.

In service a consolidation runs in a process that keeps no bank warm and encodes nothing. A board has the vectors of all texts, an engine
and its warm banks beside it, and libraries of its own, so what it measures in itself is nobody's. `apart` starts `python -m
bench.consolidating`, which is made of the same parts as that command (`service.processes.jobs.maintained`), but reads the database and the
blobs below the board's directory, and has no connection to Redis and to a broker.
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import structs

from bench.asking import ConsolidationCost
from bench.ending import end_with_parent
from bench.peak import forget_peak, held_bytes, peak_bytes
from service.errors import GateFailed

if TYPE_CHECKING:
    from model import RecallConfig


class Unfinished(Exception):
    """The process ended before it had consolidated; the message has what it said."""


async def measured(work: Awaitable[object]) -> ConsolidationCost:
    """What a consolidation takes that is done in this process, and whether its gate let it pass."""
    begin, cpu, passed, before = time.perf_counter(), time.process_time(), True, held_bytes()
    forget_peak()
    try:
        await work
    except GateFailed:
        passed = False
    return ConsolidationCost(time.perf_counter() - begin, passed, peak_bytes(), before, time.process_time() - cpu)


async def apart(var_dir: Path, threads: int, config: "RecallConfig", tenant: str, bank_id: str) -> ConsolidationCost:
    """Consolidate a bank, whose engine does nothing meanwhile, in a process of its own; what it takes there, without the process's start.

    `threads`: of the model, as `Settings.model_threads`.

    Cancelled, it ends the process before it returns.

    Raises:
        Unfinished: it failed.
    """
    order = json.dumps({"var_dir": str(var_dir), "threads": threads, "config": asdict(config), "tenant": tenant, "bank_id": bank_id})
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.consolidating", order),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=end_with_parent,
    )
    try:
        said, errors = await process.communicate()
    finally:
        if process.returncode is None:  # the board was cancelled: its directory goes away under a process that went on
            process.kill()
            await process.wait()
    if process.returncode:
        why = (errors.decode().strip().splitlines() or ["it said nothing"])[-1]  # of a traceback that is the error
        raise Unfinished(f"the process that should consolidate ended with {process.returncode}: {why}")
    return ConsolidationCost(**json.loads(said.splitlines()[-1]))


async def _as_jobs_do(var_dir: str, threads: int, config: dict[str, Any], tenant: str, bank_id: str) -> ConsolidationCost:
    from model import RecallConfig
    from service.processes.jobs import maintained
    from service.settings import from_environment
    from service.store.db import Database
    from service.telemetry import Metrics, configure_logging

    configure_logging("error")
    settings = structs.replace(from_environment(os.environ), var_dir=Path(var_dir), database="", blobs="", model_threads=threads)
    metrics = Metrics()
    database = Database(settings.database_url, stage=metrics.stage)
    try:
        async with maintained(settings, database, metrics, RecallConfig(**config), changed=_untold) as maintenance:
            return await measured(maintenance.consolidate(tenant, bank_id, moved_by="bench", progress=_unheard))
    finally:
        await database.close()


async def _untold(tenant: str, bank_id: str) -> None:
    """Who started this process knows that the head has moved."""


async def _unheard(share: float) -> None:
    """Of a job's progress nobody is told here."""


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(_as_jobs_do(**json.loads(sys.argv[1]))))))
