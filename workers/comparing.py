"""Comparing states of a bank: what each says to the bank's own corrections, and how far their weights are apart."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from model import State, inspection
from service import wire
from service.store import history
from service.store.lineage import Spans, events_of, subtract
from service.store.rows import EventRow
from workers.reading import Keys, Reader
from workers.replay import key_of
from workers.view import NO_KEYS, View
from workers.warm_bank import WarmBank

CHUNK = 64  # questions before the thread may serve someone else


@dataclass(frozen=True, slots=True)
class Comparing:
    """Asks two states the same questions."""

    reader: Reader

    async def probes(self, tenant: str, bank_id: str, spans: Spans, gone: Collection[int], most: int) -> list[EventRow]:
        """The newest corrections in `spans` that are not among the forgotten (`gone`), newest first."""
        seqs = events_of(subtract(spans, gone))[-most:]
        async with self.reader.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, seqs)
        return [row for row in reversed(rows) if row.embedding is not None and row.input is not None]

    async def said(self, tenant: str, warm: WarmBank, view: View, keys: Keys) -> list[wire.Said]:
        """What the view says at each key (n, 384), as a recall would. Of `warm` only the id and the caches are used."""
        said: list[wire.Said] = []
        for start in range(0, len(keys), CHUNK):
            some = np.ascontiguousarray(keys[start : start + CHUNK])
            found = await self.reader.thread.run(self.reader.candidates, view, some, 1)
            if view.forgotten:
                held = zip(some, found, strict=True)
                found = [await self.reader.hold_back(tenant, warm, view, key, candidates, 1) for key, candidates in held]
            texts = await self.reader.texts(tenant, warm, [candidate.index for candidates in found for candidate in candidates])
            said += [self.reader.said(candidates, texts) for candidates in found]
        return said

    async def flips(self, tenant: str, warm: WarmBank, old: View, new: View, rows: Sequence[EventRow]) -> list[wire.Flip]:
        """The corrections to whose inputs the two say different things."""
        keys = keys_of(rows)
        before, after = await self.said(tenant, warm, old, keys), await self.said(tenant, warm, new, keys)
        return [
            wire.Flip(correction=row.id, input=row.input or "", before=was, after=now)
            for row, was, now in zip(rows, before, after, strict=True)
            if was.value != now.value
        ]


def keys_of(rows: Sequence[EventRow]) -> Keys:
    """The keys of corrections that have one, (n, 384)."""
    return np.stack([key_of(row.embedding or b"") for row in rows]) if rows else NO_KEYS


def drifts(old: State, new: State) -> list[wire.LevelDrift]:
    """For each level the norm of its weights in both states, and how far these are apart."""
    before, after, apart = inspection.norms(old.levels), inspection.norms(new.levels), inspection.drifts(new, old)
    return [wire.LevelDrift(name=name, before_norm=before[name], after_norm=after[name], drift=apart[name]) for name in apart]
