"""Old states that were asked: a few snapshots' views stay in memory, with what was forgotten since held back.

What was found by looking at states is kept a while as well: it holds as long as these are what they were, and a page asks for it again and
again. All of it goes when anything is forgotten.
"""

from collections import OrderedDict
from typing import Any

import msgspec

from service.store import snapshots
from workers.replay import Replay, lineage
from workers.versions import refuse_tainted
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import Kept, WarmBank

KEPT = 4  # snapshots other than the head that stay in memory after they were asked
TOLD, LONGEST = 8 * 2**20, 2**20  # bytes of findings, as they are sent, and of one of them
ENTRY = 512  # bytes of one beside what it says

Finding = tuple[object, ...]  # what was asked, and of which states: names that are never used for others


class OldViews:
    """Views of snapshots. Nobody may change one."""

    def __init__(self, replay: Replay, banks: WarmBanks) -> None:
        self._replay, self._banks = replay, banks
        self._kept: Kept[tuple[str, int, str], View] = Kept(KEPT)
        self._told: OrderedDict[Finding, tuple[Any, int]] = OrderedDict()  # least recently used first
        self._bytes = 0
        self.cleared = 0

    def __len__(self) -> int:
        return len(self._kept)

    async def at(self, tenant: str, warm: WarmBank, snapshot_id: str) -> View:
        """The view that a snapshot of the bank saved. The caller must not hold the bank's lock.

        Raises:
            NotFound: no such snapshot in this bank, or it is not kept any more. TaintedSnapshot: it was destroyed for what it held.
            ChecksumMismatch, StateUnavailable: it cannot be loaded.
        """
        async with self._banks.lock(warm.row.id):  # a forget that comes in between would not be seen by the view
            return await self.locked(tenant, warm, snapshot_id)

    async def locked(self, tenant: str, warm: WarmBank, snapshot_id: str) -> View:
        """As `at`, for who holds the bank's lock."""
        bank_id, name = warm.row.id, (warm.row.id, warm.row.epoch, snapshot_id)  # a forget, wherever it is asked, raises the epoch
        kept = self._kept.recent(name)
        if kept is None or not await self.is_kept(tenant, bank_id, snapshot_id):
            found = await lineage(self._replay.database, tenant, bank_id)
            async with self._replay.database.read(tenant) as conn:
                snapshot = await snapshots.get_snapshot(conn, tenant, snapshot_id, bank_id)
            if snapshot.destroyed_at is not None:
                refuse_tainted(snapshot, list(found.tombstones))
            kept = await self._replay.at(tenant, found, snapshot)
            self._kept.keep(name, kept)
        return kept

    async def is_kept(self, tenant: str, bank_id: str, snapshot_id: str) -> bool:
        """Whether a snapshot that is known here was deleted by nobody: only another process does so without telling."""
        return not self._banks.shared or await snapshots.is_kept(self._replay.database.asking(tenant), tenant, snapshot_id, bank_id)

    def found(self, finding: Finding) -> Any:  # noqa: ANN401 (whatever was kept)
        """What was found, None if it is not here."""
        if finding not in self._told:
            return None
        self._told.move_to_end(finding)
        return self._told[finding][0]

    def keep(self, finding: Finding, told: object, cleared: int) -> None:
        """Keep what was found when it had been `cleared` so often: what quotes the forgotten is not kept after that."""
        size = ENTRY + len(msgspec.json.encode(told))
        if cleared != self.cleared or size > LONGEST:
            return
        self._bytes += size - self._told.pop(finding, (None, 0))[1]
        self._told[finding] = (told, size)
        while self._bytes > TOLD:
            self._bytes -= self._told.popitem(last=False)[1][1]

    def clear(self) -> None:
        """Something was forgotten, or a bank is gone: they are loaded again."""
        self.cleared += 1
        self._kept.clear()
        self._told.clear()
        self._bytes = 0
