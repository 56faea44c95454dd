"""Comparing states of a bank: what each says to the bank's own corrections, and how far their weights are apart.

To ask all of a large bank takes minutes. So a sample is asked where there are more than whoever asks wants to wait for, and how many there
are is told beside it. Half of it are the newest of those that one of the states has and the other has not, or that one of them hides: at
these the answers differ, if anywhere. The others are spread evenly over all, so that what a change does elsewhere is seen as well.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from model import State, inspection
from service import wire
from service.store import history
from service.store.lineage import Spans, count, newest, spread, subtract
from service.store.rows import EventRow
from workers.encoding import EncodedText, text_of
from workers.judging import Judge
from workers.reading import Judged
from workers.view import View
from workers.warm_bank import Pages, WarmBank


@dataclass(frozen=True, slots=True)
class Sample:
    """Corrections that states are asked about, newest first, and of how many they are a sample."""

    rows: list[EventRow]
    of: int


@dataclass(frozen=True, slots=True)
class Comparing:
    """Asks two states the same questions."""

    judge: Judge

    async def probes(self, tenant: str, bank_id: str, spans: Spans, gone: Collection[int], most: int) -> list[EventRow]:
        """The newest corrections in `spans` that are not among the forgotten (`gone`), newest first."""
        return await self._rows(tenant, bank_id, newest(subtract(spans, gone), most))

    async def sample(self, tenant: str, bank_id: str, spans: Spans, changed: Spans, gone: Collection[int], most: int) -> Sample:
        """At most so many of the corrections in `spans` that are not among the forgotten: half of them of the `changed` ones, see above."""
        live = subtract(spans, gone)
        first = newest(subtract(changed, gone), most // 2)
        rest = spread(subtract(live, first), most - len(first))
        return Sample(await self._rows(tenant, bank_id, sorted({*first, *rest})), count(live))

    async def said(
        self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText], pages: Pages | None = None
    ) -> list[wire.Said]:
        """What the view says to each text, as a recall would. Of `warm` only the id and the caches are used."""
        judged = await self.judge.ask(tenant, warm, view, asked, pages)
        texts = await self.texts(tenant, warm, judged)
        return [self.judge.reader.said(each.candidates, texts) for each in judged]

    async def texts(self, tenant: str, warm: WarmBank, judged: Sequence[Judged]) -> dict[int, str]:
        """The texts of the first candidates."""
        return await self.judge.reader.texts(tenant, warm, [each.candidates[0].index for each in judged if each.candidates])

    async def flips(self, tenant: str, warm: WarmBank, old: View, new: View, rows: Sequence[EventRow]) -> list[wire.Flip]:
        """The corrections to whose inputs the two say different things."""
        asked, pages = [text_of(row) for row in rows], Pages(max(old.seq, new.seq) + 1)
        return flips(rows, await self.said(tenant, warm, old, asked, pages), await self.said(tenant, warm, new, asked, pages))

    async def _rows(self, tenant: str, bank_id: str, seqs: Sequence[int]) -> list[EventRow]:
        async with self.judge.database.read(tenant) as conn:
            rows = await history.by_seqs(conn, tenant, bank_id, seqs)
        return [row for row in reversed(rows) if row.embedding is not None and row.input is not None]


def flips(rows: Sequence[EventRow], before: Sequence[wire.Said], after: Sequence[wire.Said]) -> list[wire.Flip]:
    """The corrections to whose inputs different things are said."""
    return [
        wire.Flip(correction=row.id, input=row.input or "", before=was, after=now)
        for row, was, now in zip(rows, before, after, strict=True)
        if was.value != now.value
    ]


def drifts(old: State, new: State) -> list[wire.LevelDrift]:
    """For each level the norm of its weights in both states, and how far these are apart."""
    before, after, apart = inspection.norms(old.levels), inspection.norms(new.levels), inspection.drifts(new, old)
    return [wire.LevelDrift(name=name, before_norm=before[name], after_norm=after[name], drift=apart[name]) for name in apart]
