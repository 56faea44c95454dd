"""Comparing states of a bank: what each says to the bank's own corrections, and how far their weights are apart."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from model import State, inspection
from service import wire
from service.store import history
from service.store.lineage import Spans, events_of, subtract
from service.store.rows import EventRow
from workers.encoding import EncodedText, text_of
from workers.judging import Judge
from workers.view import View
from workers.warm_bank import WarmBank


@dataclass(frozen=True, slots=True)
class Comparing:
    """Asks two states the same questions."""

    judge: Judge

    async def probes(self, tenant: str, bank_id: str, spans: Spans, gone: Collection[int], most: int) -> list[EventRow]:
        """The newest corrections in `spans` that are not among the forgotten (`gone`), newest first."""
        seqs = events_of(subtract(spans, gone))[-most:]
        async with self.judge.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, seqs)
        return [row for row in reversed(rows) if row.embedding is not None and row.input is not None]

    async def said(self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText]) -> list[wire.Said]:
        """What the view says to each text, as a recall would. Of `warm` only the id and the caches are used."""
        reader, judged = self.judge.reader, await self.judge.ask(tenant, warm, view, asked)
        texts = await reader.texts(tenant, warm, [each.candidates[0].index for each in judged if each.candidates])
        return [reader.said(each.candidates, texts) for each in judged]

    async def flips(self, tenant: str, warm: WarmBank, old: View, new: View, rows: Sequence[EventRow]) -> list[wire.Flip]:
        """The corrections to whose inputs the two say different things."""
        asked = [text_of(row) for row in rows]
        before, after = await self.said(tenant, warm, old, asked), await self.said(tenant, warm, new, asked)
        return [
            wire.Flip(correction=row.id, input=row.input or "", before=was, after=now)
            for row, was, now in zip(rows, before, after, strict=True)
            if was.value != now.value
        ]


def drifts(old: State, new: State) -> list[wire.LevelDrift]:
    """For each level the norm of its weights in both states, and how far these are apart."""
    before, after, apart = inspection.norms(old.levels), inspection.norms(new.levels), inspection.drifts(new, old)
    return [wire.LevelDrift(name=name, before_norm=before[name], after_norm=after[name], drift=apart[name]) for name in apart]
