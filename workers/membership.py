"""Whether a forgotten correction still speaks: each is asked at its own input, of one view.

It passes if its response is not the answer there, or others that are not forgotten say so as well.
"""

from collections.abc import Sequence

import numpy as np

from service import wire
from service.store.lineage import holds
from service.store.rows import EventRow
from workers.reading import SHOWN, Reader
from workers.replay import key_of
from workers.view import View
from workers.warm_bank import WarmBank


async def membership(reader: Reader, tenant: str, warm: WarmBank, view: View, rows: Sequence[EventRow]) -> list[wire.Membership]:
    """One entry for each event, in order; of those that are erased nothing is left to ask with."""
    asked = [row for row in rows if row.embedding is not None and row.response is not None]
    if not asked:
        return []
    keys = np.stack([key_of(row.embedding or b"") for row in asked])
    found = await reader.thread.run(reader.candidates, view, keys, 1)
    told = []
    for row, key, best in zip(asked, keys, found, strict=True):
        candidates = await reader.hold_back(tenant, warm, view, key, best, 1) if view.forgotten else best
        answered = bool(candidates) and candidates[0].index == row.response
        near = await reader.support(tenant, warm, view, key, row.response or 0) if answered else []
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
