"""Comparing states of a bank: what each says to the bank's own corrections, and how far their weights are apart."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from model import State
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
    """For each level the norm of its numbers in both states and of their difference; rows that only one has count as zeros beside."""
    found = []
    for name, before in old.levels.items():
        after = new.levels[name]
        pairs = [_alike(before[each], after[each]) for each in before if before[each].is_floating_point()]
        was, now, apart = (sum(float(part.square().sum()) for part in parts) for parts in zip(*pairs, strict=True))
        found.append(wire.LevelDrift(name=name, before_norm=was**0.5, after_norm=now**0.5, drift=apart**0.5))
    return found


def _alike(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Both as double on the host with the same number of rows, and their difference."""
    rows = max(len(before), len(after))
    grown = [
        torch.cat([each.cpu().double(), torch.zeros(rows - len(each), *each.shape[1:], dtype=torch.float64)]) for each in (before, after)
    ]
    return grown[0], grown[1], grown[1] - grown[0]
