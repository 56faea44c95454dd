"""Quarantine: corrections are hidden in the request and leave the weights by a job; lifted, they come back in the same two steps.

A source (a session, a key) that is quarantined teaches the bank nothing until it is lifted: whoever appends looks at the warm view, and
the append is fenced.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.cluster.engine import Actor
from service.errors import Conflict, NotFound
from service.store import audit, banks, branches, history, jobs, quarantines
from service.store.quarantines import Source
from service.store.rows import BankRow, QuarantineRow
from workers.hiding import dropped_in_doubt, hide, show
from workers.replay import Replay
from workers.warm import WarmBanks

MOST = 10_000  # corrections that one quarantine holds


@dataclass(frozen=True, slots=True)
class Quarantining:
    """Sets and lifts quarantines. The caller holds the bank's lock and rings the bell."""

    replay: Replay
    warm: WarmBanks
    now: Callable[[], datetime]

    async def hold(
        self, tenant: str, bank_id: str, source: Source, corrections: Sequence[str], reason: str | None, actor: Actor
    ) -> QuarantineRow:
        """Hold the named corrections, or all that the source has taught this bank.

        Raises:
            NotFound: one of them is not a correction of this bank. Conflict: there are too many, or the source is held already.
        """
        with dropped_in_doubt(self.warm, bank_id):
            async with self.replay.database.write(tenant) as conn:
                held = await banks.acquire(conn, tenant, bank_id, self.warm.owner)
                ids = list(corrections)
                if source != Source():
                    ids = await history.ids_of_source(conn, tenant, bank_id, session=source.session, key=source.key, limit=MOST + 1)
                if len(ids) > MOST:
                    raise Conflict(f"this source has taught more than {MOST} corrections, the most that one quarantine holds")
                now = self.now()
                row = await quarantines.add(
                    conn, tenant, bank_id, source=source, event_ids=ids, reason=reason, created_by=actor.key_id, now=now
                )
                seqs = await quarantines.seqs(conn, tenant, row.id)
                row, touched = await self._follow(conn, tenant, row, seqs, held, "quarantine", actor, now)
        self._drop(touched)
        await hide(self.replay, self.warm, tenant, bank_id, held)
        return row

    async def lift(self, tenant: str, bank_id: str, quarantine_id: str, actor: Actor) -> QuarantineRow:
        """Hold its corrections no longer. One that was lifted before stays as it is: whoever asks again may have lost the answer.

        Raises:
            NotFound: the bank has no such quarantine.
        """
        with dropped_in_doubt(self.warm, bank_id):
            async with self.replay.database.write(tenant) as conn:
                held = await banks.acquire(conn, tenant, bank_id, self.warm.owner)
                before = await quarantines.get(conn, tenant, quarantine_id)
                if before.bank != bank_id:
                    raise NotFound(f"the bank has no quarantine {quarantine_id}")
                row, touched = before, list[str]()
                if before.lifted_at is None:
                    now = self.now()
                    seqs = await quarantines.seqs(conn, tenant, quarantine_id)
                    row = await quarantines.lift(conn, tenant, quarantine_id, by=actor.key_id, now=now)
                    row, touched = await self._follow(conn, tenant, row, seqs, held, "quarantine.lift", actor, now)
        self._drop(touched)
        await show(self.replay, self.warm, tenant, bank_id, held)
        return row

    async def _follow(
        self,
        conn: Any,  # noqa: ANN401
        tenant: str,
        row: QuarantineRow,
        seqs: Sequence[int],
        held: BankRow,
        action: str,
        actor: Actor,
        now: datetime,
    ) -> tuple[QuarantineRow, list[str]]:
        """Let jobs make the weights follow, here and in the branches that hold copies; which these are."""
        payload = {"quarantine": row.id, "by": actor.key_id}
        job, _ = await jobs.enqueue(conn, tenant, kind="rebuild", bank=row.bank, payload=payload, dedupe=None, now=now)
        touched = [branch for branch, _ in await branches.copies(conn, tenant, row.bank, seqs)]
        for branch in touched:
            await banks.acquire(conn, tenant, branch, self.warm.owner)
            await jobs.enqueue(conn, tenant, kind="rebuild", bank=branch, payload=payload, dedupe=None, now=now)
        await quarantines.set_job(conn, tenant, row.id, job.id)
        detail = {
            "quarantine": row.id,
            "source": {name: value for name, value in row.source.items() if name != "corrections"},
            "corrections": row.corrections,
            "job": job.id,
            "before": {"head": held.head, "epoch": held.epoch - 1, "seq": held.seq},
            "after": {"head": held.head, "epoch": held.epoch, "seq": held.seq},
        }
        who = {"actor": actor.key_id, "request_id": actor.request_id}
        await audit.record(conn, tenant, **who, action=action, target=row.bank, detail=detail, now=now)
        return await quarantines.get(conn, tenant, row.id), touched

    def _drop(self, branches: Sequence[str]) -> None:
        for branch in branches:
            self.warm.drop(branch)  # the next use sees what is held
