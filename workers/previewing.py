"""Previews: which answers would change at once if some corrections were forgotten. Nothing is changed; the weights are the same."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from service import wire
from service.errors import NotFound
from service.store import history, quarantines
from service.store.rows import EventRow, TombstoneRow
from workers.comparing import Comparing
from workers.replay import Replay
from workers.view import View, counted, still_inside
from workers.warm import WarmBanks

PROBES = 256  # inputs of the corrections that would be forgotten, and as many of the newest others


@dataclass(frozen=True, slots=True)
class Previewing:
    """Asks a warm bank as if."""

    replay: Replay
    warm: WarmBanks
    comparing: Comparing

    async def without(self, tenant: str, bank_id: str, ids: Sequence[str]) -> wire.ForgetPreview:
        """What would be answered without these corrections. The caller holds the bank's lock.

        Raises:
            NotFound: one of them is not a correction of this bank.
        """
        warm = await self.warm.current(tenant, bank_id)
        async with self.replay.database.read(tenant) as conn:
            rows = await history.by_ids(conn, tenant, bank_id, ids, turns=True)
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
        flips = await self.comparing.flips(tenant, warm, warm.view, view, probes)
        state = wire.StateRef(snapshot_id=warm.view.snapshot_id, seq=warm.view.seq)
        return wire.ForgetPreview(flips=flips, probes=len(probes), state=state)


def _is_probe(row: EventRow, view: View) -> bool:
    return bool(row.embedding) and row.input is not None and row.seq not in view.gone


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
