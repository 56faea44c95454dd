"""The request's half of forgetting: the tombstones and the job row are committed together, then the warm view is told.

From then on no recall answers with the corrections, at the head or at any snapshot (I3). The weights follow by the job
(`workers/rebuilding.py`), which also writes the certificate (`workers/certifying.py`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from service import wire
from service.cluster.engine import Actor
from service.store import audit, banks, forgets, jobs
from service.store.rows import BankRow, ForgetRow
from workers.hiding import dropped_in_doubt, hide
from workers.replay import Replay
from workers.warm import WarmBanks

AUDITED = 100  # positions that an audit entry lists; the forget has them all


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Tombstones, and the jobs that make them exact."""

    replay: Replay
    warm: WarmBanks
    now: Callable[[], datetime]

    async def forget(self, tenant: str, bank_id: str, request: wire.ForgetRequest, actor: Actor) -> wire.Forgotten:
        """Tombstone the request's corrections and enqueue the rebuild. The caller holds the bank's lock and rings the bell.

        Raises:
            NotFound: one of them is not a correction of this bank; nothing was changed.
        """
        with dropped_in_doubt(self.warm, bank_id):
            row, job_id, held = await self._commit(tenant, bank_id, request, actor)
        await hide(self.replay, self.warm, tenant, bank_id, held)
        return wire.Forgotten(id=row.id, effective_now=True, mode=request.mode, corrections=list(row.event_ids), job_id=job_id)

    async def _commit(self, tenant: str, bank_id: str, request: wire.ForgetRequest, actor: Actor) -> tuple[ForgetRow, str | None, BankRow]:
        exact = request.mode != "suppress"
        now = self.now()
        async with self.replay.database.write(tenant) as conn:
            held = await banks.acquire(conn, tenant, bank_id, self.warm.owner)
            row = await forgets.add_forget(
                conn,
                tenant,
                bank_id,
                event_ids=request.corrections or [],
                mode=request.mode,
                exact=exact,
                reason=request.reason,
                created_by=actor.key_id,
                job_id=None,
                now=now,
            )
            job_id = None
            if exact:
                kind = "erase" if request.mode == "erase" else "rebuild"
                payload = {"forget": row.id, "seqs": list(row.seqs), "by": actor.key_id}
                job, _ = await jobs.enqueue(conn, tenant, kind=kind, bank=bank_id, payload=payload, dedupe=None, now=now)
                job_id = job.id
                await forgets.set_job(conn, tenant, row.id, job_id)
            detail = {
                "forget": row.id,
                "mode": request.mode,
                "corrections": len(row.seqs),
                "seqs": list(row.seqs[:AUDITED]),
                "job": job_id,
                "before": {"head": held.head, "epoch": held.epoch - 1, "seq": held.seq},
                "after": {"head": held.head, "epoch": held.epoch, "seq": held.seq},
            }
            await audit.record(
                conn,
                tenant,
                actor=actor.key_id,
                request_id=actor.request_id,
                action="forget",
                target=bank_id,
                detail=detail,
                now=now,
            )
        return row, job_id, held
