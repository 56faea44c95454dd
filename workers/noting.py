"""Notes: what the memory said before each correction, written beside the ledger a moment after the reply.

They are for statistics, so nobody waits for them, and what was not written when a process dies stays unknown.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

import structlog

from service.errors import PalimpsestError
from service.store import lookup
from service.store.db import Database
from service.store.lookup import Before

LATER_S = 0.1  # the answer leaves first, and who teaches much has one transaction for several corrections
log = structlog.get_logger()


class Notes:
    """Writes one bank's notes at a time; what comes meanwhile goes into the next transaction. `own` runs the work beside the requests."""

    def __init__(self, database: Database, own: Callable[[Coroutine[Any, Any, None]], asyncio.Task[None]]) -> None:
        self._database, self._own = database, own
        self._waiting: dict[tuple[str, str], list[Before]] = {}
        self._busy = False

    def take(self, tenant: str, bank_id: str, befores: Sequence[Before]) -> None:
        """Have these written."""
        self._waiting.setdefault((tenant, bank_id), []).extend(befores)
        if not self._busy:
            self._busy = True
            self._own(self._write())

    async def _write(self) -> None:
        try:
            await asyncio.sleep(LATER_S)
            while self._waiting:
                (tenant, bank_id), befores = self._waiting.popitem()
                try:
                    await self._database.send(tenant, lookup.notes(tenant, bank_id, befores), durable=False)
                except PalimpsestError as error:  # a full disk, a busy database: they stay unknown
                    log.warning("receipts not noted", action="note", bank=bank_id, why=error.code)
        finally:
            self._busy = False
