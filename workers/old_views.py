"""Old states that were asked: a few snapshots' views stay in memory, with what was forgotten since held back."""

from service.store import snapshots
from workers.replay import Replay, lineage
from workers.versions import refuse_tainted
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import Kept, WarmBank

KEPT = 4  # snapshots other than the head that stay in memory after they were asked


class OldViews:
    """Views of snapshots. Nobody may change one."""

    def __init__(self, replay: Replay, banks: WarmBanks) -> None:
        self._replay, self._banks = replay, banks
        self._kept: Kept[tuple[str, int, str], View] = Kept(KEPT)

    def __len__(self) -> int:
        return len(self._kept)

    async def at(self, tenant: str, warm: WarmBank, snapshot_id: str) -> View:
        """The view that a snapshot of the bank saved. The caller must not hold the bank's lock.

        Raises:
            NotFound: no such snapshot in this bank, or it is not kept any more. TaintedSnapshot: it was destroyed for what it held.
            ChecksumMismatch, StateUnavailable: it cannot be loaded.
        """
        bank_id, name = warm.row.id, (warm.row.id, warm.row.epoch, snapshot_id)  # a forget, wherever it is asked, raises the epoch
        async with self._banks.lock(bank_id):  # one that comes in between would not be seen by the view
            kept = self._kept.recent(name)
            if kept is None:
                found = await lineage(self._replay.database, tenant, bank_id)
                async with self._replay.database.read(tenant) as conn:
                    snapshot = await snapshots.get_snapshot(conn, tenant, snapshot_id, bank_id)
                if snapshot.destroyed_at is not None:
                    refuse_tainted(snapshot, list(found.tombstones))
                kept = await self._replay.at(tenant, found, snapshot)
                self._kept.keep(name, kept)
            return kept

    def clear(self) -> None:
        """Something was forgotten, or a bank is gone: they are loaded again."""
        self._kept.clear()
