"""What jobs do to a bank, put together: consolidation, rebuild, erasure, export, bisection, folding for a rollback, and tidying the blobs.

Needs no warm bank.

Every piece of work may be cut off at any point, by a cancelled claim as by a crash: what it changes, it changes in one transaction.
"""

import base64
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

import structlog

from model import Recall
from model.wording import Words
from service.errors import Conflict
from service.store import erasure
from service.store.blobs import Blobs
from service.store.db import Database
from service.tracing import Stage
from workers.bisecting import Bisection
from workers.carrying import Carrying
from workers.certifying import Certifying
from workers.comparing import Comparing
from workers.consolidate import Consolidation
from workers.encoding import EncodedText
from workers.judging import Judge
from workers.language import LanguageModel
from workers.language_fold import LanguageFold
from workers.preparing import Preparing
from workers.reading import Reader
from workers.rebuilding import Changed, Rebuilding
from workers.replay import Progress, Replay, key_of
from workers.sleeping import Sleeping
from workers.threads import OwnThread
from workers.versions import STAGED, Versions

LATE = timedelta(days=1)  # longer than any save that was under way when its tenant was erased
log = structlog.get_logger()


class Maintenance:
    """The work behind jobs, for any bank."""

    def __init__(
        self,
        database: Database,
        blobs: Blobs,
        recall: Recall,
        words: Words,
        language: LanguageModel,
        *,
        thread: OwnThread,
        stage: Stage,
        changed: Changed,
        refused: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._database, self._blobs, self._now = database, blobs, now
        replay, reader = Replay(database, blobs, recall, refused, stage), Reader(database, recall, thread)
        self.versions = Versions(database, blobs, recall, thread, thread, now)
        self.consolidation = Consolidation(replay, reader, self.versions, thread, changed)
        fold = LanguageFold(database, blobs, language)
        self.sleeping = Sleeping(replay, fold, self.versions, changed)
        self.rebuilding = Rebuilding(replay, self.versions, thread, changed, fold)
        judge = Judge(database, reader, words)
        self.certifying = Certifying(replay, judge, thread, fold, now)
        comparing = Comparing(judge)
        self.carrying = Carrying(replay, comparing, self.versions)
        self.bisection = Bisection(replay, comparing, thread)
        self.preparing = Preparing(replay, self.versions)

    async def consolidate(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Consolidate a bank; see `workers.consolidate`, and `workers.sleeping` for its language model."""
        done = await self.consolidation.run(tenant, bank_id, moved_by=moved_by, progress=progress)
        slept = await self.sleeping.run(tenant, bank_id, moved_by=moved_by)
        return done if slept is None else done | {"language": slept}

    async def rebuild(self, tenant: str, bank_id: str, *, moved_by: str, progress: Progress, forget: str | None = None) -> dict[str, Any]:
        """Rebuild a bank without what is forgotten or quarantined; see `workers.rebuilding`. With `forget`, certify it."""
        row = await self.certifying.begin(tenant, forget, _half(progress)) if forget is not None else None
        rest = progress if row is None else _half(progress, 0.5)
        head = await self.rebuilding.rebuild(tenant, bank_id, moved_by=moved_by, progress=rest)
        if row is not None:
            await self.certifying.complete(tenant, await self.certifying.test(tenant, row), {})
        return {"head": head.id if head else None, "digest": head.digest if head else None}

    async def erase(self, tenant: str, forget: str, *, moved_by: str, progress: Progress) -> dict[str, Any]:
        """Erase what a forget names from weights, ledger and snapshots, and certify it; see `workers.rebuilding`."""
        row = await self.certifying.begin(tenant, forget, _half(progress))
        head = await self.rebuilding.rebuild(tenant, row.bank, moved_by=moved_by, progress=_half(progress, 0.5))
        row, removed = await self.rebuilding.destroy(tenant, await self.certifying.test(tenant, row))
        await self.certifying.complete(tenant, row, removed)
        return {
            "redacted": len(row.seqs),
            "destroyed_snapshots": removed["snapshots"],
            "destroyed_exports": row.certificate_so_far["emptied"]["exports"],
            "head": head.id if head else None,
        }

    async def export(self, tenant: str, bank_id: str, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Make a bundle of the snapshot that the payload names; see `workers.carrying`."""
        return await self.carrying.export(tenant, bank_id, asked["snapshot"], asked["export"], ledger=asked["ledger"])

    async def bisect(self, tenant: str, bank_id: str, asked: Mapping[str, Any], *, progress: Progress) -> dict[str, Any]:
        """Find what brought the present answer to the payload's input; see `workers.bisecting`.

        Raises:
            Conflict: that was taken out with an erasure.
        """
        if "input" not in asked:
            raise Conflict("what was asked is gone since something in the bank was erased; ask again")
        text = EncodedText(key_of(base64.b64decode(asked["key"])), 0, asked["input"])
        return await self.bisection.run(tenant, bank_id, text, asked["since"], asked.get("until"), progress=progress)

    async def prepare(self, tenant: str, bank_id: str, asked: Mapping[str, Any], *, progress: Progress) -> dict[str, Any]:
        """Fold what a rollback to come leads to; see `workers.preparing`."""
        return await self.preparing.run(tenant, bank_id, asked, progress=progress)

    async def tidy(self) -> None:
        """Delete what a process that died may have left in the blob store; for the sweeper."""
        dropped = await self.versions.drop_left_over() + await self._blobs.drop_half_written(STAGED.total_seconds())
        async with self._database.sweep() as conn:
            erased = await erasure.erased_since(conn, self._now() - LATE)
        for tenant in erased:
            dropped += await self._blobs.drop_tenant(tenant)
        if dropped:
            log.info("left-over blobs deleted", action="tidy", blobs=dropped)


def _half(progress: Progress, begin: float = 0.0) -> Progress:
    """The progress of one half of a job, from `begin` on."""

    async def told(done: float) -> None:
        await progress(begin + done / 2)

    return told
