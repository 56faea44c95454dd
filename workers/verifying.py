"""Verifying a snapshot: are its bytes those that were saved, does the ledger that it covers hold together, can it be loaded.

What is found is told, whatever it is; only what cannot be looked at raises.
"""

from dataclasses import dataclass

from service import wire
from service.errors import ChecksumMismatch, StateUnavailable
from service.store import ledger, snapshots
from service.store.rows import SnapshotRow
from workers.replay import Replay


@dataclass(frozen=True, slots=True)
class Verifying:
    """Looks at snapshots and changes nothing."""

    replay: Replay

    async def run(self, tenant: str, bank_id: str, snapshot_id: str) -> wire.Verified:
        """Look at the snapshot's blobs, one by one, at the hash chain up to its position, and load it.

        Raises:
            NotFound: the bank has no such snapshot, or does not keep it any more.
        """
        async with self.replay.database.read(tenant) as conn:
            snapshot = await snapshots.get_kept(conn, tenant, snapshot_id, bank_id)
        checks = await self._blobs(tenant, snapshot)
        checks.append(await self._chain(tenant, snapshot))
        checks.append(await self._load(tenant, snapshot))
        return wire.Verified(snapshot=snapshot.id, ok=all(check.ok for check in checks), checks=checks)

    async def _blobs(self, tenant: str, snapshot: SnapshotRow) -> list[wire.Check]:
        checks = []
        for level in snapshot.levels:
            try:
                await self.replay.blobs.get(tenant, level.sha256)
                check = wire.Check(name=f"blob {level.name}", ok=True, detail=level.sha256)
            except ChecksumMismatch as error:
                check = wire.Check(name=f"blob {level.name}", ok=False, detail=error.detail)
            checks.append(check)
        return checks

    async def _chain(self, tenant: str, snapshot: SnapshotRow) -> wire.Check:
        try:
            async with self.replay.database.read(tenant) as conn:
                rows = await ledger.verify_chain(conn, tenant, snapshot.bank, snapshot.seq)
        except ChecksumMismatch as error:
            return wire.Check(name="ledger", ok=False, detail=error.detail)
        return wire.Check(name="ledger", ok=True, detail=f"the hash chain of {rows} rows holds")

    async def _load(self, tenant: str, snapshot: SnapshotRow) -> wire.Check:
        try:
            await self.replay.load(tenant, snapshot)
        except (ChecksumMismatch, StateUnavailable) as error:
            return wire.Check(name="load", ok=False, detail=error.detail)
        return wire.Check(name="load", ok=True, detail=snapshot.digest)
