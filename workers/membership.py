"""Whether a forgotten correction still speaks: each is asked at its own input, of one view.

It passes if its response is not the answer there, or others that are not forgotten say so as well.
"""

from collections.abc import Sequence

from service import wire
from service.store.lineage import holds
from service.store.rows import EventRow
from workers.encoding import text_of
from workers.judging import Judge
from workers.reading import SHOWN
from workers.view import View
from workers.warm_bank import WarmBank


async def membership(judge: Judge, tenant: str, warm: WarmBank, view: View, rows: Sequence[EventRow]) -> list[wire.Membership]:
    """One entry for each event, in order; of those that are erased nothing is left to ask with."""
    asked = [row for row in rows if row.embedding is not None and row.response is not None]
    told = []
    for row, judged in zip(asked, await judge.ask(tenant, warm, view, [text_of(row) for row in asked]), strict=True):
        answered, response = bool(judged.candidates) and judged.candidates[0].index == row.response, row.response or 0
        near = await judge.reader.supporting(tenant, warm, view, text_of(row).key, judged, response) if answered else []
        support = [name for name, _ in near]
        told.append(
            wire.Membership(
                correction=row.id,
                in_weights=holds(view.weights, row.seq),
                answered=answered,
                support=support[:SHOWN],
                passed=row.id not in support and (not answered or bool(support)),
            )
        )
    return told
