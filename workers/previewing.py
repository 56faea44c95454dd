"""Previews: which answers would change at once if some corrections were forgotten. Nothing is changed; the weights are the same.

So only those answers can change in which the corrections have a part: another question finds the same candidates, in the same order, and
the same corrections behind them. It is asked once.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service import wire
from service.errors import NotFound
from service.store import history
from service.store.lineage import Spans, only, subtract
from service.store.rows import EventRow, TombstoneRow
from workers.comparing import Comparing, flips
from workers.encoding import text_of
from workers.reading import Judged, Keys
from workers.replay import Replay
from workers.threads import OwnThread
from workers.view import View, still_inside, uncount
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank


@dataclass(frozen=True, slots=True)
class AsIf:
    """A bank as it is, and as if some of its corrections were forgotten; nobody changes either."""

    warm: WarmBank
    now: View
    then: View
    rows: tuple[EventRow, ...]  # these


@dataclass(frozen=True, slots=True)
class Previewing:
    """Asks a warm bank as if."""

    replay: Replay
    warm: WarmBanks
    comparing: Comparing
    thread: OwnThread

    async def as_if(self, tenant: str, bank_id: str, ids: Sequence[str]) -> AsIf:
        """The bank without these corrections. The caller holds the bank's lock.

        Raises:
            NotFound: one of them is not a correction of this bank.
        """
        warm = await self.warm.current(tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_ids(conn, tenant, bank_id, ids, turns=True)
        missing = sorted(set(ids) - {row.id for row in rows})
        if missing:
            raise NotFound(f"no correction {', '.join(missing[:5])} in this bank")
        now = await self.thread.run(warm.view.frozen)
        marks = [_as_if(row) for row in rows if row.response is not None and row.seq not in now.gone]
        counts = now.counts.copy()
        uncount(counts, now.weights, marks)
        forgotten = _both(now, still_inside(now.weights, marks))
        then = replace(now, counts=counts, gone=now.gone | {row.seq for row in marks}, forgotten=forgotten)
        return AsIf(warm, now, then, tuple(rows))

    async def told(self, tenant: str, asked: AsIf, most: int = wire.PROBES) -> wire.ForgetPreview:
        """Which of at most so many corrections would be answered otherwise; half of them are those that would be forgotten."""
        now, whole, bank_id = asked.now, subtract(((0, asked.now.seq),), asked.now.turns), asked.warm.row.id
        mine: Spans = only(row.seq for row in asked.rows)
        sample = await self.comparing.sample(tenant, bank_id, whole, mine, now.gone, most)
        before = await self.comparing.judge.ask(tenant, asked.warm, now, [text_of(row) for row in sample.rows])
        texts = await self.comparing.texts(tenant, asked.warm, before)
        touched = _touched(asked, await self.thread.run(now.kin))
        places = [place for place, each in enumerate(before) if touched is None or _has_part(each, touched)]
        rows = [sample.rows[place] for place in places]
        reader = self.comparing.judge.reader
        said = [reader.said(before[place].candidates, texts) for place in places]
        after = await self.comparing.said(tenant, asked.warm, asked.then, [text_of(row) for row in rows])
        state = wire.StateRef(snapshot_id=now.snapshot_id, seq=now.seq)
        return wire.ForgetPreview(flips=flips(rows, said, after), probes=len(sample.rows), probes_of=sample.of, state=state)


@dataclass(frozen=True, slots=True)
class _Touched:
    """What would be forgotten: the events, and the responses that they say."""

    seqs: frozenset[int]
    responses: frozenset[int]


def _touched(asked: AsIf, kin: dict[int, set[int]]) -> _Touched | None:
    """None: one of the responses has replaced others, or was replaced, and has a part in answers where it is not a candidate itself."""
    seqs = asked.then.gone - asked.now.gone
    responses = frozenset(row.response for row in asked.rows if row.response is not None)
    families: Iterable[int] = (each for family in kin.values() for each in family)
    return None if responses & set(families) else _Touched(seqs, responses)


def _has_part(judged: Judged, touched: _Touched) -> bool:
    taught = judged.taught is not None and judged.taught.seq in touched.seqs
    return taught or any(candidate.index in touched.responses for candidate in judged.candidates)


def _both(now: View, marks: dict[int, Keys]) -> dict[int, Keys]:
    """The keys of forgotten events that are in the weights: those that are forgotten now, and those of the marks."""
    return {
        response: np.concatenate([keys for keys in (now.forgotten.get(response), marks.get(response)) if keys is not None])
        for response in now.forgotten.keys() | marks.keys()
    }


def _as_if(row: EventRow) -> TombstoneRow:
    return TombstoneRow(
        seq=row.seq,
        event_id=row.id,
        response=row.response or 0,
        forget_id="",
        mode="suppress",
        exact=False,
        embedding=row.embedding,
        created_at=row.created_at,
    )
