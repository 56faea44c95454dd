"""Asking the database whether warm copies still stand: questions that come while one is being answered share the next.

A question is answered by a read that began after it was asked, so a change that was acknowledged before is seen.
"""

import asyncio

from service.store import fences
from service.store.db import Database
from service.store.fences import Fence
from service.tracing import Stage

Waiting = list[tuple[str, "asyncio.Future[Fence | None]"]]


class Fencing:
    """Looks fences up, for many at once."""

    def __init__(self, database: Database, stage: Stage) -> None:
        self._database, self._stage = database, stage
        self._waiting: dict[str, Waiting] = {}  # by tenant: a transaction is of one tenant
        self._running: dict[str, asyncio.Task[None]] = {}

    async def of(self, tenant: str, bank_id: str) -> Fence | None:
        """The bank's fence as it is now, None if the bank is gone; raises what the database raises."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Fence | None] = loop.create_future()
        with self._stage("fence"):
            self._waiting.setdefault(tenant, []).append((bank_id, future))
            if tenant not in self._running:
                self._running[tenant] = loop.create_task(self._answer(tenant))
            return await future

    async def _answer(self, tenant: str) -> None:
        try:
            while waiting := self._waiting.pop(tenant, None):
                await self._look_up(tenant, waiting)
        finally:
            del self._running[tenant]

    async def _look_up(self, tenant: str, waiting: Waiting) -> None:
        try:
            async with self._database.read(tenant) as conn:
                found = await fences.fences(conn, tenant, {bank_id for bank_id, _ in waiting})
        except Exception as error:  # everyone who waits learns of it; those who come later ask again
            for _, future in waiting:
                if not future.done():
                    future.set_exception(error)
            return
        for bank_id, future in waiting:
            if not future.done():
                future.set_result(found.get(bank_id))
