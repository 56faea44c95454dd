"""Previews: which answers would change at once if some corrections were forgotten. Nothing is changed; the weights are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from service import wire
from service.errors import NotFound
from service.store import history, quarantines
from service.store.rows import EventRow, TombstoneRow
from workers.reading import Reader
from workers.replay import Replay, key_of
from workers.view import View, counted, still_inside
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

PROBES = 256  # inputs of the corrections that would be forgotten, and as many of the newest others


@dataclass(frozen=True, slots=True)
class Previewing:
    """Asks a warm bank as if."""

    replay: Replay
    warm: WarmBanks
    reader: Reader

    async def without(self, tenant: str, bank_id: str, ids: Sequence[str]) -> wire.ForgetPreview:
        """What would be answered without these corrections. The caller holds the bank's lock.

        Raises:
            NotFound: one of them is not a correction of this bank.
        """
        warm = await self.warm.current(tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_ids(conn, tenant, bank_id, ids)
            missing = sorted(set(ids) - {row.id for row in rows})
            if missing:
                raise NotFound(f"no correction {', '.join(missing[:5])} in this bank")
            pairs = await history.event_responses(conn, tenant, bank_id)
            hidden = await quarantines.hidden(conn, tenant, bank_id)
            newest = await history.page(conn, tenant, bank_id, None, PROBES, descending=True)
        hidden += [_as_if(row) for row in rows if row.response is not None]
        view = replace(
            warm.view,
            counts=counted(pairs, warm.view.weights, hidden, len(warm.view.book)),
            gone=frozenset(row.seq for row in hidden),
            forgotten=still_inside(warm.view.weights, hidden),
        )
        probes = list({row.seq: row for row in (*rows[:PROBES], *newest) if _is_probe(row, warm.view)}.values())
        flips = await self._flips(tenant, warm, view, probes)
        state = wire.StateRef(snapshot_id=warm.view.snapshot_id, seq=warm.view.seq)
        return wire.ForgetPreview(flips=flips, probes=len(probes), state=state)

    async def _flips(self, tenant: str, warm: WarmBank, view: View, probes: Sequence[EventRow]) -> list[wire.Flip]:
        before, after = [await self._said(tenant, warm, one, probes) for one in (warm.view, view)]
        told = zip(probes, before, after, strict=True)
        return [wire.Flip(correction=row.id, input=row.input or "", before=b, after=a) for row, b, a in told if b.value != a.value]

    async def _said(self, tenant: str, warm: WarmBank, view: View, probes: Sequence[EventRow]) -> list[wire.Said]:
        if not probes:
            return []
        keys = np.stack([key_of(row.embedding or b"") for row in probes])
        said = []
        for key, found in zip(keys, await self.reader.thread.run(self.reader.candidates, view, keys, 1), strict=True):
            kept = await self.reader.hold_back(tenant, warm, view, key, found, 1) if view.forgotten else found
            said.append(self.reader.said(kept, await self.reader.texts(tenant, warm, [candidate.index for candidate in kept])))
        return said


def _is_probe(row: EventRow, view: View) -> bool:
    return row.embedding is not None and row.input is not None and row.seq not in view.gone


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
