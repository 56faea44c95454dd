"""The certificate of a forget: its job writes down what it has done, step by step, and what is there already stays.

So a job that is cut off and runs again neither loses nor repeats anything: the digest of the weights with the corrections is taken before
they leave, the test at their own inputs before their texts do. Ids, digests, numbers and times only.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from service.store import forgets, history
from service.store.lineage import live, subtract
from service.store.rows import ForgetRow
from workers.judging import Judge
from workers.membership import membership
from workers.replay import Progress, Replay, lineage
from workers.threads import OwnThread
from workers.warm_bank import WarmBank


@dataclass(frozen=True, slots=True)
class Certifying:
    """Writes certificates, for jobs."""

    replay: Replay
    judge: Judge
    thread: OwnThread
    now: Callable[[], datetime]

    async def begin(self, tenant: str, forget_id: str, progress: Progress) -> ForgetRow:
        """Note the digest of the weights that still hold the corrections, at this position of the ledger.

        Raises:
            NotFound: the bank, and with it the forget, is gone.
        """
        async with self.replay.database.read(tenant) as conn:
            row = await forgets.get_forget(conn, tenant, forget_id)
        if "before" in row.certificate_so_far:
            return row
        found = await lineage(self.replay.database, tenant, row.bank)
        others = [mark.seq for mark in found.tombstones if mark.exact and mark.seq not in set(row.seqs)]
        whole = live((*found.head.spans, *found.head.held), found.head.seq, found.bank.seq, others)
        before = replace(found, wanted=subtract(whole, [event.seq for event in found.quarantined]))
        view, _ = await self.replay.current(tenant, before, thread=self.thread, progress=progress)
        digest = await self.thread.run(view.state.digest)
        return await self._note(tenant, row, {"before": {"digest": digest, "seq": view.seq}})

    async def test(self, tenant: str, row: ForgetRow) -> ForgetRow:
        """Ask each correction at its own input of the weights that are without them, and note the digest of these."""
        if "after" in row.certificate_so_far:
            return row
        found = await lineage(self.replay.database, tenant, row.bank)
        view, _ = await self.replay.current(tenant, found, thread=self.thread)
        warm = WarmBank(found.bank, found.bank.head_version, view, view.seq, found.head.id)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, row.bank, row.seqs)
        told = await membership(self.judge, tenant, warm, view, rows)
        digest = await self.thread.run(view.state.digest)
        after = {"digest": digest, "seq": view.seq, "snapshot": found.head.id}
        return await self._note(tenant, row, {"after": after, "membership": msgspec.to_builtins(told)})

    async def complete(self, tenant: str, row: ForgetRow, removed: dict[str, Any]) -> None:
        """Everything is done: note what was removed, and tell those who listen."""
        async with self.replay.database.write(tenant) as conn:
            await forgets.complete(conn, tenant, row, {"removed": removed}, self.now())

    async def _note(self, tenant: str, row: ForgetRow, part: dict[str, Any]) -> ForgetRow:
        async with self.replay.database.write(tenant) as conn:
            return await forgets.certify(conn, tenant, row, part)
