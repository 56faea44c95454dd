"""The certificate of a forget: its job writes down what it has done, step by step, and what is there already stays.

So a job that is cut off and runs again neither loses nor repeats anything: the digest of the weights with the corrections is taken before
they leave, the test at their own inputs before their texts do. Ids, digests, numbers and times only. Where somebody has talked to the bank
the same holds for the weights of its language model; a turn has no input to be asked again at.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import msgspec

from model.checkpoint import sha256
from service.errors import StateUnavailable
from service.store import forgets, history
from service.store.lineage import live, subtract
from service.store.rows import ForgetRow
from workers.judging import Judge
from workers.language_fold import LanguageFold, Wanted
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
    language: LanguageFold
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
        others = [event.seq for event in found.hidden if event.seq not in set(row.seqs)]
        spoken = replace(Wanted.now(found), seq=view.seq, spans=subtract(view.weights, others))
        told = {"digest": digest, "seq": view.seq, "language": await self._language(tenant, spoken, talked=False)}
        return await self._note(tenant, row, {"before": told})

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
        talked = row.certificate_so_far["before"].get("language") is not None
        spoken = await self._language(tenant, replace(Wanted.now(found), seq=view.seq), talked=talked)
        after = {"digest": digest, "seq": view.seq, "snapshot": found.head.id, "language": spoken}
        return await self._note(tenant, row, {"after": after, "membership": msgspec.to_builtins(told)})

    async def complete(self, tenant: str, row: ForgetRow, removed: dict[str, Any]) -> None:
        """Everything is done: note what was removed, and tell those who listen."""
        async with self.replay.database.write(tenant) as conn:
            await forgets.complete(conn, tenant, row, {"removed": removed}, self.now())

    async def _language(self, tenant: str, wanted: Wanted, *, talked: bool) -> dict[str, str] | None:
        """The digest of the bank's language model, or why there is none; None where nobody talks to the bank, and nobody has `talked`."""
        try:
            part = await self.language.part(tenant, wanted)
            if part is None and not talked:
                return None
            speaker = await self.language.model.speaker()
            data = await self.language.model.run(speaker.save, speaker.initial(), "") if part is None else part.data
        except StateUnavailable as error:
            return {"unavailable": error.detail}
        return {"digest": sha256(data)}

    async def _note(self, tenant: str, row: ForgetRow, part: dict[str, Any]) -> ForgetRow:
        async with self.replay.database.write(tenant) as conn:
            return await forgets.certify(conn, tenant, row, part)
