"""A bank and its branch beside each other: what each has been taught that the other has not, and where they answer differently."""

from dataclasses import dataclass

from service import wire
from service.store import branches, history
from service.store.db import Database
from service.store.lineage import above, count, events_of, only, restrict, subtract, without
from service.store.rows import EventRow
from workers.comparing import Comparing, drifts
from workers.encoding import text_of
from workers.threads import OwnThread
from workers.view import View
from workers.warm_bank import WarmBank

PROBES = 1_000  # newest live corrections of the bank that both are asked about, and of the branch's own
SHOWN = 200  # gained and lost corrections, the newest


@dataclass(frozen=True, slots=True)
class Contrast:
    """Compares two banks of which one is a branch of the other."""

    database: Database
    comparing: Comparing
    heavy: OwnThread

    async def run(self, tenant: str, bank: WarmBank, ours: View, branch: WarmBank, theirs: View) -> wire.SnapshotDiff:
        """From the bank's state to the branch's. Gained corrections are named as the branch has them, lost ones as the bank has them.

        Raises:
            NotFound: the one is no branch.
        """
        async with self.database.read(tenant) as conn:
            row = await branches.get(conn, tenant, branch.row.id)
        began, live = events_of(row.spans), subtract(theirs.weights, theirs.gone)
        shared = only(began[place - 1] for place in events_of(restrict(live, len(began))))
        gained, lost = above(live, len(began)), without(subtract(ours.weights, ours.gone), shared)
        news, losses = [await self._rows(tenant, each.row.id, events_of(spans)) for each, spans in ((branch, gained), (bank, lost))]
        probes = await self.comparing.probes(tenant, bank.row.id, ours.weights, ours.gone, PROBES)
        asked = [*news, *probes]
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
            flips=[
                wire.Flip(correction=each.id, input=each.input or "", before=was, after=now)
                for each, was, now in zip(asked, before, after, strict=True)
                if was.value != now.value
            ],
            probes=len(asked),
            levels=await self.heavy.run(drifts, ours.state, theirs.state),
        )

    async def _rows(self, tenant: str, bank_id: str, seqs: list[int]) -> list[EventRow]:
        """The newest first."""
        async with self.database.read(tenant) as conn:
            return (await history.by_seqs(conn, tenant, bank_id, seqs[-PROBES:]))[::-1]


def _moved(row: EventRow) -> wire.Moved:
    return wire.Moved(id=row.id, seq=row.seq, input=row.input, right=row.right)
