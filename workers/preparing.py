"""Preparing a rollback whose state takes long to fold: a job folds it and saves it as a snapshot.

Every state is folded from the newest snapshot that holds just its first events. So once this one is there, the preview and the rollback
to it have next to nothing left to fold, whoever asks for them and however often. The snapshot is an automatic one that retention leaves
alone for an hour; a rollback that comes later than that may have to be prepared again.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import msgspec
from msgspec import structs

from service import wire
from service.errors import Conflict
from service.store import jobs, snapshots
from service.store.lineage import count, holds, normal
from service.store.rows import SnapshotRow
from service.store.snapshots import PREPARED
from workers.aiming import Aim, Origin, bases_of
from workers.replay import Lineage, Progress, Replay, lineage
from workers.versions import Label, Taken, Versions

LONG = 5_000  # lessons that a request folds at most: ten seconds, where the api gives up after sixty


@dataclass(frozen=True, slots=True)
class Preparing:
    """Folds states for rollbacks to come."""

    replay: Replay
    versions: Versions

    async def begin(self, tenant: str, wanted: Lineage, aimed: Aim, request: wire.RollbackRequest, key_id: str) -> str | None:
        """The id of the job that folds the wanted state, which nobody rings for; None where folding it does not take long.

        Of one request there is one such job, also when more was taught before it was made again.
        """
        base = self._base(wanted)
        if base is not None and count(wanted.wanted) - count(base.spans) <= LONG:
            return None
        bank = wanted.bank
        origin = None if aimed.origin is None else msgspec.to_builtins(aimed.origin)
        payload = {"spans": aimed.spans, "held": aimed.held, "seq": bank.seq, "origin": origin, "name": aimed.name, "by": key_id}
        told = [wanted.head.id, request.to, request.to_time, request.source, request.keep]
        same = hashlib.sha256(msgspec.json.encode(told)).hexdigest()[:32]
        now, dedupe = self.versions.now(), f"preparation:{bank.id}:{same}"
        async with self.replay.database.write(tenant) as conn:
            job, _ = await jobs.enqueue(conn, tenant, kind="preparation", bank=bank.id, payload=payload, dedupe=dedupe, now=now)
        return job.id

    async def run(self, tenant: str, bank_id: str, asked: Mapping[str, Any], *, progress: Progress) -> dict[str, Any]:
        """Fold the state that the payload names, and save it. Done twice it is one snapshot.

        Raises:
            Conflict: something in it was exactly forgotten or quarantined meanwhile.
        """
        found, spans = await lineage(self.replay.database, tenant, bank_id), normal(asked["spans"])
        exact = [row for row in found.tombstones if row.exact]
        if any(holds(spans, row.seq) for row in (*exact, *found.quarantined)):
            raise Conflict("something in that state was forgotten or quarantined meanwhile; ask for the rollback again")
        bank = structs.replace(found.bank, seq=asked["seq"])
        bases = await bases_of(self.replay.database, tenant, found, msgspec.convert(asked["origin"], Origin | None))
        wanted = replace(found, bank=bank, wanted=spans, held=normal(asked["held"]), bases=bases)
        there = self._base(wanted)
        if there is not None and there.spans == spans:
            return {"snapshot": there.id, "events": count(spans)}
        view, base = await self.replay.current(tenant, wanted, thread=self.versions.heavy, progress=progress)
        label = Label(asked["by"], note=f"{PREPARED} to {asked['name']}")
        async with self.replay.database.read(tenant) as conn:
            heads = {row.snapshot for row in await snapshots.heads(conn, tenant, bank_id)}
        parent = base.id if base.id in heads or base.parent is None else base.parent  # whose slow level it has
        with self.replay.stage("snapshot"):
            saved = await self.versions.save(tenant, replace(Taken.of(bank_id, view), parent=parent), "auto", label)
        return {"snapshot": saved.id, "events": count(spans)}

    def _base(self, wanted: Lineage) -> SnapshotRow | None:
        """The newest snapshot that the state can be folded from, as far as one can tell without loading it."""
        ours, upto = self.replay.recall.config.hash, wanted.bank.seq
        usable = (row for row in wanted.bases if not row.levels or row.config_hash == ours)
        return next((row for row in usable if row.seq <= upto and wanted.serves(row)), None)
