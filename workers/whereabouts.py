"""Where a correction lives: what has become of it, how strongly each level and each snapshot that holds it still gives its answer.

It is asked when one wants to know, at its own input. Nothing is asked about one that is forgotten or in quarantine: nothing is answered
with it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from model import Candidate, Recall, Standing
from service import wire
from service.errors import NotFound
from service.store import corrections, history
from service.store.lineage import holds
from service.store.rows import EventRow, SnapshotRow
from service.store.status import Standing as Now
from workers.encoding import text_of
from workers.judging import Judge
from workers.level_view import ABSENT, Stood, stand
from workers.old_views import OldViews
from workers.replay import Lineage, Replay, key_of, lineage
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

SNAPSHOTS = 16  # newest ones that hold a correction which are asked: each has to be loaded


@dataclass(frozen=True, slots=True)
class _Fate:
    """What the ledger knows of a correction."""

    event: EventRow
    status: wire.CorrectionStatus
    superseded_by: str | None
    removed: wire.Removal | None


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """Traces corrections."""

    replay: Replay
    banks: WarmBanks
    old: OldViews
    judge: Judge
    now: Callable[[], datetime]

    async def trace(self, tenant: str, bank_id: str, correction: str) -> wire.Trace:
        """One correction of the bank.

        Raises:
            NotFound: the bank has no such correction. ChecksumMismatch: a snapshot that holds it is damaged.
        """
        async with self.banks.using(tenant, bank_id, await self.banks.fence(tenant, bank_id)) as warm:
            found = await lineage(self.replay.database, tenant, bank_id)
            fate = await self._fate(tenant, found, correction)
            state = wire.StateRef(snapshot_id=warm.view.snapshot_id, seq=warm.view.seq)
            if fate.status in ("forgotten", "quarantined"):
                return self._told(fate, state, None, [], 0)
            stood = await self._stand(tenant, warm, warm.view, fate.event)
            holding = [row for row in found.bases if holds(row.spans, fate.event.seq) and row.config_hash == self.replay.recall.config.hash]
            kept = [await self._in(tenant, warm, row, fate.event) for row in holding[:SNAPSHOTS]]
        return self._told(fate, state, stood, [one for one in kept if one is not None], len(holding))

    async def _fate(self, tenant: str, found: Lineage, correction: str) -> _Fate:
        bank = found.bank
        gone, apart = ({row.seq: row for row in rows} for rows in (found.tombstones, found.quarantined))
        now = Now.of((*found.head.spans, *found.head.held), found.head.seq, bank.seq, gone, apart)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_ids(conn, tenant, bank.id, [correction])
            if not rows:
                raise NotFound(f"the bank has no correction {correction}")
            (event,) = rows
            later = (await history.later_same_input(conn, tenant, bank.id, [event.seq]))[event.seq]
            status = now.status(event.seq, event.response, later)
            newer = [seq for seq, response in later if response != event.response and now.status(seq, response, []) == "active"]
            by = await history.by_seqs(conn, tenant, bank.id, newer[-1:]) if status == "superseded" else []
            removed = await corrections.removal(conn, tenant, bank.id, event.seq) if status == "rolled_back" else None
        if (mark := gone.get(event.seq)) is not None:
            removed = wire.Removal(by="forget", id=mark.forget_id, at=mark.created_at, mode=mark.mode)
        elif (mark := apart.get(event.seq)) is not None:
            removed = wire.Removal(by="quarantine", id=mark.forget_id, at=mark.created_at)
        return _Fate(event, status, by[0].id if by else None, removed)

    async def _stand(self, tenant: str, warm: WarmBank, view: View, event: EventRow) -> Stood:
        """How the correction's answer stands at its own input: as a recall would be told, and of each level's weights alone."""
        if event.embedding is None or event.response is None:
            raise AssertionError(f"event {event.seq} has lost its key")  # only forgotten ones do
        stood = await self.judge.reader.thread.run(_standing, self.replay.recall, view, event.embedding, event.response)
        (judged,) = await self.judge.ask(tenant, warm, view, [text_of(event)])
        return stood._replace(whole=_told(stood.whole, judged.candidates, event.response))

    async def _in(self, tenant: str, warm: WarmBank, row: SnapshotRow, event: EventRow) -> wire.SnapshotStrength | None:
        finding, cleared = ("stands", row.bank, warm.row.epoch, row.id, event.seq), self.old.cleared
        whole: Standing | None = self.old.found(finding)  # else each look at a correction would load sixteen snapshots
        if whole is None:
            try:
                whole = (await self._stand(tenant, warm, await self.old.at(tenant, warm, row.id), event)).whole
            except NotFound:  # it was dropped by retention since it was listed
                return None
            self.old.keep(finding, whole, cleared)
        return wire.SnapshotStrength(
            snapshot=row.id,
            kind=row.kind,
            seq=row.seq,
            created_at=row.created_at,
            label=row.label,
            score=whole.score,
            confidence=whole.confidence,
            rank=whole.rank,
        )

    def _told(self, fate: _Fate, state: wire.StateRef, stood: Stood | None, kept: list[wire.SnapshotStrength], holding: int) -> wire.Trace:
        enough = self.replay.recall.config.abstain_below
        return wire.Trace(
            id=fate.event.id,
            seq=fate.event.seq,
            status=fate.status,
            superseded_by=fate.superseded_by,
            removed=fate.removed,
            right_now=None if stood is None else stood.whole.rank == 1 and stood.whole.confidence >= enough,
            confidence=None if stood is None else stood.whole.confidence,
            rank=None if stood is None else stood.whole.rank,
            levels=[] if stood is None else [_level(name, one) for name, one in stood.levels.items()],
            snapshots=kept,
            holding=holding,
            verified_at=None if stood is None else self.now(),
            state=state,
        )


def _standing(recall: Recall, view: View, embedding: bytes, response: int) -> Stood:
    if response >= len(view.book):  # taught by another process since the view was made
        return Stood(ABSENT, dict.fromkeys(view.state.levels, ABSENT))
    return stand(recall, view, key_of(embedding)[None], [response])[0]


def _told(weights: Standing, candidates: Sequence[Candidate], response: int) -> Standing:
    """As it stands in the weights, with place and confidence as they were judged."""
    for place, candidate in enumerate(candidates, start=1):
        if candidate.index == response:
            return replace(weights, rank=place, confidence=candidate.confidence)
    return weights if weights.rank is None else replace(weights, rank=max(weights.rank, len(candidates) + 1))


def _level(name: str, one: Standing) -> wire.LevelStrength:
    return wire.LevelStrength(name=name, score=one.score, confidence=one.confidence, rank=one.rank)
