"""Warm banks: the states that this process keeps in memory, found by name, loaded once, dropped when they are not used.

A warm bank is a cache of the ledger: it may be dropped at any moment and comes back equal (I8). Whoever changes one holds its `lock`;
`epoch` and `head_version` are what its owner believes and what every append is fenced with.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import TypeVar
from uuid import uuid4

import msgspec
import structlog

from service import telemetry
from service.errors import NotFound
from service.store import banks, fences
from service.store.db import Database
from service.store.fences import Fence
from service.store.lineage import restrict
from service.store.rows import BankRow, SupportRow
from service.tracing import Stage
from workers.replay import Replay, lineage
from workers.threads import OwnThread
from workers.view import View

log = structlog.get_logger()

Name = TypeVar("Name")
Value = TypeVar("Value")

TEXTS = 4_096  # response texts kept beside a warm bank
SUPPORTS = 128  # responses whose newest corrections are kept beside a warm bank


class Kept(OrderedDict[Name, Value]):
    """A small cache that forgets what was used longest ago."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def recent(self, name: Name) -> Value | None:
        """The value, now the most recently used; None if it is not here."""
        if name not in self:
            return None
        self.move_to_end(name)
        return self[name]

    def keep(self, name: Name, value: Value) -> None:
        """Keep the value; the least recently used goes when there are too many."""
        self[name] = value
        self.move_to_end(name)
        while len(self) > self.size:
            self.popitem(last=False)


class Supports:
    """The newest corrections that say a response, for some responses. Rows that were read before a change are not kept after it."""

    def __init__(self) -> None:
        self._rows: Kept[int, list[SupportRow]] = Kept(SUPPORTS)
        self.changes = 0

    def recent(self, response: int) -> list[SupportRow] | None:
        """The rows, None if they are not here."""
        return self._rows.recent(response)

    def keep(self, response: int, rows: list[SupportRow], changes: int) -> None:
        """Keep rows that were read when there had been so many `changes`."""
        if changes == self.changes:
            self._rows.keep(response, rows)

    def add(self, response: int, row: SupportRow, most: int, *, alone: bool) -> None:
        """A correction that says `response` came, the newest of `most` to keep; `alone`: there is no other. Else those must be here."""
        self.changes += 1
        known = [] if alone else self._rows.get(response)
        if known is not None:
            self._rows.keep(response, [row, *known][:most])

    def clear(self) -> None:
        """Other corrections support the answers now."""
        self.changes += 1
        self._rows.clear()


@dataclass(slots=True)
class WarmBank:
    """One bank in memory."""

    row: BankRow  # as it was acquired: id, tenant, epoch
    head_version: int
    view: View
    saved_seq: int  # the newest position that a snapshot covers
    base_snapshot: str  # where the load began, for the log and the tests
    texts: Kept[int, str] = field(default_factory=lambda: Kept(TEXTS))
    supports: Supports = field(default_factory=Supports)


class WarmBanks:
    """The banks in memory, at most `size`.

    Of a database that is `shared` with other processes, a bank answers only after its fence was looked up. Folds of requests run on
    `thread`, those beside them on `heavy`.
    """

    def __init__(
        self,
        database: Database,
        replay: Replay,
        *,
        thread: OwnThread,
        heavy: OwnThread,
        size: int,
        shared: bool,
        stage: Stage,
    ) -> None:
        self._database, self._replay, self._thread, self._heavy, self._stage = database, replay, thread, heavy, stage
        self._shared = shared
        self._warm: Kept[str, WarmBank] = Kept(size)
        self._ids: Kept[tuple[str, str], str] = Kept(max(1_024, 4 * size))
        self._deleted = 0  # banks deleted so far: a name that was looked up before one is not kept after it
        self._locks: dict[str, asyncio.Lock] = {}
        self.owner = f"engine-{uuid4().hex[:12]}"

    def __len__(self) -> int:
        return len(self._warm)

    async def id_of(self, tenant: str, bank: str) -> str:
        """The id of the tenant's bank, from its name or id.

        Raises:
            NotFound: the tenant has no such bank.
        """
        known = self._ids.recent((tenant, bank))
        if known is None:
            deleted = self._deleted
            async with self._database.read(tenant) as conn:
                known = (await banks.find_bank(conn, tenant, bank)).id
            if deleted == self._deleted:
                self._ids.keep((tenant, bank), known)
        telemetry.bind(bank=known)
        return known

    def lock(self, bank_id: str) -> asyncio.Lock:
        """The lock under which a bank changes."""
        return self._locks.setdefault(bank_id, asyncio.Lock())

    def peek(self, bank_id: str) -> WarmBank | None:
        """The bank if it is warm."""
        return self._warm.recent(bank_id)

    def all(self) -> list[WarmBank]:
        """The warm banks, the least recently used first."""
        return list(self._warm.values())

    async def fence(self, tenant: str, bank_id: str) -> Fence | None:
        """What the bank is fenced with now, to be asked once a request is there; nobody need ask who is alone with the database."""
        if not self._shared:
            return None
        with self._stage("fence"):
            return await fences.fence(self._database.asking(tenant), tenant, bank_id)

    async def get(self, tenant: str, bank_id: str, fence: Fence | None) -> WarmBank:
        """The warm bank as the ledger had it when its `fence` was asked for, or later; loaded if need be.

        The caller must not hold the lock.

        Raises:
            NotFound: it was deleted.
        """
        warm = self.peek(bank_id)
        if warm is None or (self._shared and fence != (warm.row.epoch, warm.head_version)):
            async with self.lock(bank_id):
                warm = await self.current(tenant, bank_id)
        return warm

    async def locked(self, tenant: str, bank_id: str) -> WarmBank:
        """The warm bank, loaded if need be. The caller holds the lock."""
        warm = self.peek(bank_id)
        if warm is None:
            with self._stage("load"):
                warm = await self._load(tenant, bank_id)
                self._warm.keep(bank_id, warm)
        return warm

    async def current(self, tenant: str, bank_id: str) -> WarmBank:
        """The warm bank, loaded anew if the ledger has moved on without it (another process has the bank). The caller holds the lock."""
        warm = await self.locked(tenant, bank_id)
        if not self._shared:
            return warm  # whatever changes a bank in this process holds its lock, or tells (`refresh`)
        try:
            async with self._database.read(tenant) as conn:
                row = await banks.find_bank(conn, tenant, bank_id)
        except NotFound:
            self.drop(bank_id)
            self.forget_names(bank_id)
            raise
        if (row.epoch, row.seq, row.head_version) != (warm.row.epoch, warm.view.seq, warm.head_version):
            self.drop(bank_id)
            warm = await self.locked(tenant, bank_id)
        return warm

    async def refresh(self, tenant: str, bank_id: str) -> None:
        """Follow a change that a job made: fold beside the requests, then swap. A bank that is not warm has nothing to follow."""
        if self.peek(bank_id) is None:
            return
        found = await lineage(self._database, tenant, bank_id)
        view, base = await self._replay.current(tenant, found, thread=self._heavy)
        async with self.lock(bank_id):
            warm = self.peek(bank_id)
            if warm is None:
                return
            again = await lineage(self._database, tenant, bank_id)
            beneath = restrict(again.wanted, view.seq) == view.weights and again.head.id == found.head.id
            if not beneath or again.bank.epoch != warm.row.epoch:
                self.drop(bank_id)  # it has changed again: the next use loads it
                return
            await self._replay.fold(tenant, again, view, thread=self._thread)
            await self._replay.admit(tenant, bank_id, view)
            self._warm.keep(bank_id, WarmBank(again.bank, again.bank.head_version, view, base.seq, base.id))

    def drop(self, bank_id: str) -> None:
        """Forget what is in memory; the next use folds the ledger again."""
        self._warm.pop(bank_id, None)

    def forget_names(self, bank_id: str) -> None:
        """The bank is gone: its names lead nowhere any more."""
        self._deleted += 1
        for name in [name for name, known in self._ids.items() if known == bank_id]:
            del self._ids[name]
        self._locks.pop(bank_id, None)

    async def _load(self, tenant: str, bank_id: str) -> WarmBank:
        async with self._database.write(tenant) as conn:
            acquired = await banks.acquire(conn, tenant, bank_id, self.owner)
        found = await lineage(self._database, tenant, bank_id)
        view, base = await self._replay.current(tenant, found, thread=self._thread)
        # Our own epoch, not the one read just now: that may be another's who has taken the bank since, and would unfence us.
        row = msgspec.structs.replace(found.bank, epoch=acquired.epoch)
        log.info("bank loaded", action="load", bank=bank_id, base=base.id, base_seq=base.seq, seq=view.seq)
        return WarmBank(row, row.head_version, view, base.seq, base.id)
