"""The request's half of forgetting: the tombstones and the job row are committed together, then the warm view is told.

From then on no recall answers with the corrections, at the head or at any snapshot (I3). The weights follow by the job
(`workers/rebuilding.py`). A branch that holds copies forgets them in the same transaction, with a job of its own. The transaction raises
the bank's epoch, so that a copy in another process cannot answer without having seen it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from msgspec import structs

from service import wire
from service.errors import PalimpsestError
from service.store import audit, banks, branches, forgets, history, jobs
from service.store.db import CommitUnknown
from service.store.rows import BankRow, ForgetRow
from workers.replay import Replay
from workers.warm import WarmBanks


@dataclass(frozen=True, slots=True)
class Forgetting:
    """Tombstones, and the jobs that make them exact."""

    replay: Replay
    warm: WarmBanks
    now: Callable[[], datetime]

    async def forget(self, tenant: str, bank_id: str, request: wire.ForgetRequest, *, key_id: str, request_id: str) -> wire.Forgotten:
        """Tombstone the corrections and enqueue the rebuild. The caller holds the bank's lock and rings the bell.

        Raises:
            NotFound: one of them is not a correction of this bank; nothing was changed.
        """
        try:
            row, job_id, held, touched = await self._commit(tenant, bank_id, request, key_id, request_id)
        except BaseException as error:
            if isinstance(error, CommitUnknown) or not isinstance(error, PalimpsestError):
                self.warm.drop(bank_id)  # nobody can say whether it was committed
            raise
        for branch in touched:
            self.warm.drop(branch)  # the next use sees the tombstones
        await self._hide(tenant, bank_id, held)
        return wire.Forgotten(id=row.id, effective_now=True, mode=request.mode, corrections=list(row.event_ids), job_id=job_id)

    async def _commit(
        self, tenant: str, bank_id: str, request: wire.ForgetRequest, key_id: str, request_id: str
    ) -> tuple[ForgetRow, str | None, BankRow, list[str]]:
        async with self.replay.database.write(tenant) as conn:
            held = await banks.acquire(conn, tenant, bank_id, self.warm.owner)
            row, job_id = await self._mark(conn, tenant, bank_id, request, key_id, request_id)
            touched, left = [], [row]
            while left:  # branches hold copies, and branches of branches
                forgotten = left.pop()
                for branch in await branches.list_branches(conn, tenant, forgotten.bank):
                    copies = await history.by_seqs(conn, tenant, branch.id, branches.places(branch.spans, forgotten.seqs))
                    if copies:
                        await banks.acquire(conn, tenant, branch.id, self.warm.owner)
                        same = structs.replace(request, corrections=[copy.id for copy in copies])
                        left.append((await self._mark(conn, tenant, branch.id, same, key_id, request_id))[0])
                        touched.append(branch.id)
        return row, job_id, held, touched

    async def _mark(
        self,
        conn: Any,  # noqa: ANN401
        tenant: str,
        bank_id: str,
        request: wire.ForgetRequest,
        key_id: str,
        request_id: str,
    ) -> tuple[ForgetRow, str | None]:
        exact, now = request.mode != "suppress", self.now()
        row = await forgets.add_forget(
            conn,
            tenant,
            bank_id,
            event_ids=request.corrections,
            mode=request.mode,
            exact=exact,
            reason=request.reason,
            created_by=key_id,
            job_id=None,
            now=now,
        )
        job_id = None
        if exact:
            kind = "erase" if request.mode == "erase" else "rebuild"
            payload = {"forget": row.id, "seqs": list(row.seqs), "by": key_id}
            job, _ = await jobs.enqueue(conn, tenant, kind=kind, bank=bank_id, payload=payload, dedupe=None, now=now)
            job_id = job.id
            await forgets.set_job(conn, tenant, row.id, job_id)
        detail = {"forget": row.id, "mode": request.mode, "seqs": list(row.seqs), "job": job_id}
        who: dict[str, Any] = {"actor": key_id, "request_id": request_id, "now": now}
        await audit.record(conn, tenant, action="forget", target=bank_id, detail=detail, **who)
        return row, job_id

    async def _hide(self, tenant: str, bank_id: str, held: BankRow) -> None:
        warm = self.warm.peek(bank_id)
        if warm is None:
            return
        if (held.epoch, held.head_version) != (warm.row.epoch + 1, warm.head_version):
            self.warm.drop(bank_id)  # another process has changed the bank since it was loaded here
            return
        try:
            await self.replay.admit(tenant, bank_id, warm.view)
            warm.supports.clear()
            warm.row = held
            self.warm.housing.resized(warm)
        except BaseException:
            self.warm.drop(bank_id)  # a view that was not told must not answer
            raise
