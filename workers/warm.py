"""Warm banks: the banks that this process keeps in memory, found by name, loaded once, in two tiers by budgets of bytes.

A warm bank is a cache of the ledger: it may be dropped at any moment and comes back equal (I8). Whoever changes one holds its `lock`;
`epoch` and `head_version` are what its owner believes and what every append is fenced with.

Where the banks are, and who keeps them there: `workers/housing.py`. Here: which bank is meant, who may change it, whether it is still
what the ledger has, and how it comes from there.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime
from uuid import uuid4

import msgspec
import structlog

from service import telemetry
from service.errors import NotFound
from service.store import banks, debt, fences
from service.store.db import Database
from service.store.fences import Fence
from service.store.lineage import restrict
from service.tracing import Stage
from workers.housing import Housing, Room
from workers.replay import Replay, lineage
from workers.threads import OwnThread
from workers.warm_bank import Kept, WarmBank

NAMES = 32_768  # names of banks whose ids are remembered
COLD = "cold"
log = structlog.get_logger()


@dataclass(slots=True)
class _Turn:
    """The lock of a bank while somebody has it or waits for it."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    wanted: int = 0
    given: list[WarmBank] = field(default_factory=list)  # to who has it: they keep their places until it is released
    found: str | None = None  # where the bank was


class WarmBanks:
    """The banks in memory.

    Of a database that is `shared` with other processes, a bank answers only after its fence was looked up. Folds of requests run on
    `thread`, those beside them on `heavy`. `hit` is told where each call's bank was: on the device, on the host, or cold.
    """

    def __init__(
        self,
        database: Database,
        replay: Replay,
        *,
        thread: OwnThread,
        heavy: OwnThread,
        room: Room,
        shared: bool,
        stage: Stage,
        hit: Callable[[str], None],
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._replay, self._thread, self._heavy = database, replay, thread, heavy
        self._stage, self._hit, self.shared, self._now = stage, hit, shared, now
        self.housing = Housing(replay.recall, thread, room)
        self._ids: Kept[tuple[str, str], str] = Kept(NAMES)
        self._deleted = 0  # banks deleted so far: a name that was looked up before one is not kept after it
        self._turns: dict[str, _Turn] = {}
        self.owner = f"engine-{uuid4().hex[:12]}"

    def __len__(self) -> int:
        return len(self.housing)

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

    @contextlib.asynccontextmanager
    async def lock(self, bank_id: str) -> AsyncIterator[None]:
        """Alone to change the bank. What `locked` and `current` give meanwhile keeps its place to the end."""
        turn = self._turns.setdefault(bank_id, _Turn())
        turn.wanted += 1
        try:
            async with turn.lock:
                try:
                    yield
                finally:
                    self._take_back(turn)
                    if turn.found is not None:
                        self._hit(turn.found)
                        turn.found = None
        finally:
            turn.wanted -= 1
            if not turn.wanted:
                del self._turns[bank_id]

    def is_wanted(self, bank_id: str) -> bool:
        """Whether somebody changes the bank, or waits to."""
        return bank_id in self._turns

    async def fence(self, tenant: str, bank_id: str) -> Fence | None:
        """What the bank is fenced with now, to be asked once a request is there; nobody need ask who is alone with the database."""
        if not self.shared:
            return None
        with self._stage("fence"):
            return await fences.fence(self._database.asking(tenant), tenant, bank_id)

    @contextlib.asynccontextmanager
    async def using(self, tenant: str, bank_id: str, fence: Fence | None) -> AsyncIterator[WarmBank]:
        """The warm bank as the ledger had it when its `fence` was asked for, or later; loaded if need be. It keeps its place to the end.

        The caller must not hold the lock.

        Raises:
            NotFound: it was deleted.
        """
        warm = self.peek(bank_id)
        if warm is None or (self.shared and fence != (warm.row.epoch, warm.head_version)):
            async with self.lock(bank_id):
                warm = await self.current(tenant, bank_id)
                self.housing.enter(warm)
        else:
            self._hit(warm.tier)
            self.housing.enter(warm)
        try:
            await self.housing.in_place(warm)
            yield warm
        finally:
            self.housing.leave(warm)

    def peek(self, bank_id: str) -> WarmBank | None:
        """The bank if it is warm. Its view can be used only by who has it from `using`, or under the lock from `locked` or `current`."""
        return self.housing.peek(bank_id)

    def all(self) -> list[WarmBank]:
        """The warm banks, in each tier the least recently used first."""
        return self.housing.all()

    async def locked(self, tenant: str, bank_id: str) -> WarmBank:
        """The warm bank, loaded if need be. The caller holds the lock."""
        turn, warm = self._turns[bank_id], self.peek(bank_id)
        if warm is None:
            with self._stage("load"):
                warm, turn.found = await self._load(tenant, bank_id), COLD
                self._give(turn, warm)
                self.housing.arrive(warm)
        elif warm not in turn.given:
            turn.found = warm.tier
            self._give(turn, warm)
        await self.housing.in_place(warm)
        return warm

    async def current(self, tenant: str, bank_id: str) -> WarmBank:
        """The warm bank, loaded anew if the ledger has moved on without it (another process has the bank). The caller holds the lock."""
        warm = await self.locked(tenant, bank_id)
        if not self.shared:
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
            self._take_back(self._turns[bank_id])
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
            self.housing.replace(WarmBank(again.bank, again.bank.head_version, view, base.seq, base.id))

    def drop(self, bank_id: str) -> None:
        """Forget what is in memory; the next use folds the ledger again."""
        self.housing.drop(bank_id)

    def forget_names(self, bank_id: str) -> None:
        """The bank is gone: its names lead nowhere any more."""
        self._deleted += 1
        for name in [name for name, known in self._ids.items() if known == bank_id]:
            del self._ids[name]

    def _give(self, turn: _Turn, warm: WarmBank) -> None:
        self.housing.enter(warm)
        turn.given.append(warm)

    def _take_back(self, turn: _Turn) -> None:
        for warm in turn.given:
            self.housing.leave(warm)
        turn.given.clear()

    async def _load(self, tenant: str, bank_id: str) -> WarmBank:
        """Fold, and take the bank only then: taken before, it would be lost again during the fold as long as others want it, too."""
        found = await lineage(self._database, tenant, bank_id)
        view, base = await self._replay.current(tenant, found, thread=self._thread)
        async with self._database.write(tenant) as conn:
            acquired = await banks.acquire(conn, tenant, bank_id, self.owner)
        seen = found.bank
        if (acquired.epoch, acquired.head_version, acquired.seq) != (seen.epoch + 1, seen.head_version, seen.seq):
            head, found = found.head, await lineage(self._database, tenant, bank_id)
            if found.head.id == head.id and restrict(found.wanted, view.seq) == view.weights:
                await self._replay.fold(tenant, found, view, thread=self._thread)
                await self._replay.admit(tenant, bank_id, view)
            else:
                view, base = await self._replay.current(tenant, found, thread=self._thread)
        # Our own epoch, not the one read just now: that may be another's who has taken the bank since, and would unfence us.
        row = msgspec.structs.replace(found.bank, epoch=acquired.epoch)
        if not found.has_level_of_head(base):  # damaged, or of an older build: what was consolidated has to be so again
            left = self._replay.recall.unsettled(view.state)
            async with self._database.write(tenant) as conn:
                await banks.lock(conn, tenant, bank_id)
                now = await banks.find_bank(conn, tenant, bank_id)
                if now.head_version == found.bank.head_version:  # who moved it has written down what is owed
                    await debt.owe(conn, tenant, bank_id, seq=view.seq, tokens=left.tokens, events=left.events, now=self._now())
        log.info("bank loaded", action="load", bank=bank_id, base=base.id, base_seq=base.seq, seq=view.seq)
        return WarmBank(row, row.head_version, view, base.seq, base.id)
