"""Bisection: what brought the present answer to a question. First the snapshot, then the correction, by halving each time.

The states that are asked are those that the present one grew through: its own events up to some position. A snapshot on that way is
loaded, what lies between two is folded from the one below. Each halving keeps a state that answers otherwise below one that answers as
now, so it ends at a correction with which the answer became what it is, after about log2 of the snapshots and log2 of the events between
two of them.

Of a consolidated memory a part is no fold of events. Where the events between two snapshots do not bring the answer, the consolidation
between them did, and no correction is named.

The present may be a snapshot, for who wants to know what brought the answer that was given then: "now" is that state.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from msgspec import structs

from service import wire
from service.errors import ChecksumMismatch, Conflict, NotFound, StateUnavailable
from service.store import history, snapshots
from service.store.lineage import count, events_of, subtract
from service.store.rows import SnapshotRow
from workers.comparing import Comparing
from workers.encoding import EncodedText
from workers.replay import Lineage, Progress, Replay, lineage
from workers.threads import OwnThread
from workers.versions import refuse_tainted
from workers.view import View
from workers.warm_bank import WarmBank


@dataclass(slots=True)
class _Search:
    """One search: the question, what is said now, and how many states were asked."""

    tenant: str
    found: Lineage
    warm: WarmBank  # of no bank in memory: for its caches
    asked: EncodedText
    events: list[int]  # positions of the present state's events; a state on the way holds the first n of them
    now: wire.Said
    consolidated: bool  # whether one of the states that were asked has a slow level: that is no fold of events
    probes: int = 1
    below: tuple[int, View] = field(init=False)  # answers otherwise: how many events it holds
    above: int = field(init=False)  # how many events one holds that answers as now

    def held(self, row: SnapshotRow) -> int:
        """How many of the present state's events a snapshot on the way holds."""
        return count(subtract(row.spans, self.found.turns))


@dataclass(frozen=True, slots=True)
class Bisection:
    """Searches in single banks. It holds no lock of the bank and changes nothing."""

    replay: Replay
    comparing: Comparing
    thread: OwnThread  # folds run here, beside the requests

    async def run(
        self, tenant: str, bank_id: str, asked: EncodedText, since: str | None, until: str | None = None, *, progress: Progress
    ) -> dict[str, Any]:
        """The correction that brought the answer of the present, or of `until`; and the snapshots around it.

        `changed` is false where `since` says the same.

        Raises:
            NotFound: no such snapshot. Conflict: the one did not grow from the other. TaintedSnapshot: `until` holds what was forgotten.
        """
        found = await lineage(self.replay.database, tenant, bank_id)
        if until is None:
            begin = await self._begin(tenant, found, since)
            now, _ = await self.replay.current(tenant, found, thread=self.thread)
        else:
            async with self.replay.database.read(tenant) as conn:
                end = await snapshots.get_kept(conn, tenant, until, bank_id)
            refuse_tainted(end, list(found.tombstones))
            before = tuple(row for row in found.bases if row.created_at <= end.created_at)
            then = structs.replace(found.bank, seq=end.seq)
            found = replace(found, bank=then, wanted=end.spans, held=end.held or (), bases=before)
            begin = await self._begin(tenant, found, since)
            now = await self.replay.at(tenant, found, end)
        warm = WarmBank(found.bank, found.bank.head_version, now, now.seq, now.snapshot_id)
        (said,) = await self.comparing.said(tenant, warm, now, [asked])
        search = _Search(
            tenant, found, warm, asked, events_of(subtract(found.wanted, found.turns)), said, self.replay.recall.consolidated(now.state)
        )
        search.below, search.above = (search.held(begin), await self.replay.at(tenant, found, begin)), len(search.events)
        if await self._as_now(search, search.below[1]):
            return {"changed": False, "probes": search.probes, "events": search.above - search.below[0]}
        events = search.above - search.below[0]
        last, first = await self._among_snapshots(search, begin)
        await progress(0.5)
        around = {"last_snapshot_before": last.id, "first_snapshot_after": first.id if first else None}
        if search.consolidated and not await self._as_now(search, await self._grown(search)):
            return {"changed": True, "correction": None, "seq": None, **around, "probes": search.probes, "events": events}
        await self._among_events(search)
        seq = search.events[search.above - 1]
        async with self.replay.database.read(tenant) as conn:
            (row,) = await history.by_seqs(conn, tenant, bank_id, [seq])
        return {"changed": True, "correction": row.id, "seq": seq, **around, "probes": search.probes, "events": events}

    async def _begin(self, tenant: str, found: Lineage, since: str | None) -> SnapshotRow:
        async with self.replay.database.read(tenant) as conn:
            if since is None:
                return (await snapshots.usable(conn, tenant, found.bank.id))[-1]  # genesis
            begin = await snapshots.get_kept(conn, tenant, since, found.bank.id)
        if not found.serves(begin):
            raise Conflict(
                f"that state did not grow from snapshot {begin.id}: a rollback, forget or quarantine lies between; choose another"
            )
        return begin

    async def _among_snapshots(self, search: _Search, begin: SnapshotRow) -> tuple[SnapshotRow, SnapshotRow | None]:
        """Halve the snapshots on the way; the last that answers otherwise, and the first that answers as now if one does."""
        on_the_way = {
            search.held(row): row
            for row in search.found.bases
            if search.found.serves(row) and row.config_hash == self.replay.recall.config.hash
        }
        between = [row for held, row in sorted(on_the_way.items()) if search.below[0] < held < search.above]
        last, first, low, high = begin, on_the_way.get(search.above), 0, len(between)
        while low < high:
            middle = (low + high) // 2
            row = between[middle]
            try:
                view = await self.replay.at(search.tenant, search.found, row)
            except (ChecksumMismatch, NotFound, StateUnavailable):  # its events are folded from the one below instead
                del between[middle]
                high -= 1
                continue
            if await self._as_now(search, view):
                first, high, search.above = row, middle, search.held(row)
            else:
                last, low, search.below = row, middle + 1, (search.held(row), view)
        return last, first

    async def _grown(self, search: _Search) -> View:
        """The lower state with the events up to the upper one: what that would be, had nothing been consolidated between them."""
        return await self._after(search, search.below[1], search.events[search.above - 1])

    async def _among_events(self, search: _Search) -> None:
        while search.above - search.below[0] > 1:
            held, view = search.below
            middle = (held + search.above) // 2
            view = await self._after(search, view, search.events[middle - 1])
            if await self._as_now(search, view):
                search.above = middle
            else:
                search.below = middle, view

    async def _after(self, search: _Search, view: View, seq: int) -> View:
        """A state with the events up to `seq`, grown from the view, which stays as it is."""
        copied = replace(view, state=await self.thread.run(view.state.clone), counts=view.counts.copy())
        found = replace(search.found, bank=structs.replace(search.found.bank, seq=seq))
        await self.replay.fold(search.tenant, found, copied, thread=self.thread)
        await self.replay.admit(search.tenant, found.bank.id, copied)
        return copied

    async def _as_now(self, search: _Search, view: View) -> bool:
        search.probes += 1
        search.consolidated |= self.replay.recall.consolidated(view.state)
        (said,) = await self.comparing.said(search.tenant, search.warm, view, [search.asked])
        return said.value == search.now.value
