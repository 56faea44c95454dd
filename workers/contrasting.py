"""A bank and its branch beside each other: what each has been taught that the other has not, and where they answer differently."""

from dataclasses import dataclass

from service import wire
from service.store import branches, history
from service.store.db import Database
from service.store.lineage import Spans, above, count, events_of, newest, only, restrict, subtract, without
from service.store.rows import EventRow
from workers.comparing import Comparing, drifts, flips
from workers.encoding import text_of
from workers.threads import OwnThread
from workers.view import View
from workers.warm_bank import WarmBank

SHOWN = 200  # gained and lost corrections, the newest
MOST = max(SHOWN, wire.COMPARED_MAX // 2)  # of them that are read


@dataclass(frozen=True, slots=True)
class Contrast:
    """Compares two banks of which one is a branch of the other."""

    database: Database
    comparing: Comparing
    heavy: OwnThread

    async def run(self, tenant: str, bank: WarmBank, ours: View, branch: WarmBank, theirs: View, most: int) -> wire.SnapshotDiff:
        """From the bank's state to the branch's. Gained corrections are named as the branch has them, lost ones as the bank has them.

        Both are asked about at most so many corrections: half of them are the newest that only the branch has.

        Raises:
            NotFound: the one is no branch.
        """
        async with self.database.read(tenant) as conn:
            row = await branches.get(conn, tenant, branch.row.id)
        began, live = events_of(row.spans), subtract(theirs.taught, theirs.gone)
        shared = only(began[place - 1] for place in events_of(restrict(live, len(began))))
        gained, lost = above(live, len(began)), without(subtract(ours.taught, ours.gone), shared)
        news, losses = [await self._rows(tenant, each.row.id, spans) for each, spans in ((branch, gained), (bank, lost))]
        first = [row for row in news if row.embedding is not None and row.input is not None][: most // 2]
        sample = await self.comparing.sample(tenant, bank.row.id, ours.taught, lost, ours.gone, most - len(first))
        asked = [*first, *sample.rows]
        texts = [text_of(each) for each in asked]
        before = await self.comparing.said(tenant, bank, ours, texts)
        after = await self.comparing.said(tenant, branch, theirs, texts)
        return wire.SnapshotDiff(
            before=wire.StateRef(snapshot_id=ours.snapshot_id, seq=ours.seq),
            after=wire.StateRef(snapshot_id=theirs.snapshot_id, seq=theirs.seq),
            gained=[_moved(each) for each in news[:SHOWN]],
            gained_total=count(gained),
            lost=[_moved(each) for each in losses[:SHOWN]],
            lost_total=count(lost),
            flips=flips(asked, before, after),
            probes=len(asked),
            probes_of=count(gained) + sample.of,
            levels=await self.heavy.run(drifts, ours.state, theirs.state),
        )

    async def _rows(self, tenant: str, bank_id: str, spans: Spans) -> list[EventRow]:
        """The newest first."""
        async with self.database.read(tenant) as conn:
            return (await history.by_seqs(conn, tenant, bank_id, newest(spans, MOST)))[::-1]


def _moved(row: EventRow) -> wire.Moved:
    return wire.Moved(id=row.id, seq=row.seq, input=row.input, right=row.right)
