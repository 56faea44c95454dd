"""Reading: from a key to answers with confidence, support and level, at a view.

The weights say what is remembered; the ledger only says which corrections support it (`support`), and holds the response's text. What
was forgotten is never answered with, whichever state is asked (I3).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model import Asked, Candidate, Recall
from service import wire
from service.store import history
from service.store.db import Database
from service.store.lineage import holds
from service.store.rows import SameInputRow, SupportRow
from workers.threads import OwnThread
from workers.view import View, held_back
from workers.warm_bank import WarmBank

NEWEST = 64  # corrections of a response looked at for its support
SHOWN = 3  # of them named in an answer
HEARD = 3  # candidates that are asked for, however few are wanted: the first may be doubtful once texts are compared
PAGES = 8  # looks into the ledger for them: most of a response's corrections may be rolled back
ANSWERS = 3  # whose corrections are the neighbours of a key
NEAREST = 256  # corrections of a response looked at where one of its corrections was suppressed

Keys = NDArray[np.float32]
Near = list[tuple[SupportRow, float]]  # corrections with their cosines to a question, nearest first


@dataclass(frozen=True, slots=True)
class Question:
    """How an answer is wanted."""

    top_k: int
    min_confidence: float | None
    explain: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """The candidates for a question once the texts were compared, best first; `near` has the support of those that were compared.

    `taught`: the correction in just the words of the question.
    """

    candidates: list[Candidate]
    near: Mapping[int, Near]
    taught: SameInputRow | None


@dataclass(frozen=True, slots=True)
class Read:
    """The questions of one request to a view."""

    view: View
    keys: Keys  # (questions, 384)
    top_k: int


@dataclass(frozen=True, slots=True)
class Found:
    """The candidates for each question of a request, and the state that they were all found in."""

    candidates: list[list[Candidate]]
    state: wire.StateRef


def asked(view: View, keys: Keys, top_k: int, barred: frozenset[int] = frozenset()) -> Asked:
    """What the memory is asked at each key (n, 384): the best admissible responses without the `barred`."""
    mask = view.admissible()
    mask[list(barred)] = False
    return Asked(view.state, keys, view.book, top_k, mask)


@dataclass(frozen=True, slots=True)
class Reader:
    """Asks views."""

    database: Database
    recall: Recall
    thread: OwnThread

    def candidates(self, view: View, keys: Keys, top_k: int, barred: frozenset[int] = frozenset()) -> list[list[Candidate]]:
        """The best admissible responses for each key (n, 384), best first, without the `barred`. Runs on the model thread."""
        return self.recall.answer_many([asked(view, keys, top_k, barred)])[0]

    def survey(self, view: View, keys: Keys, top_k: int) -> list[list[Candidate]]:
        """As `candidates`, for many keys and much less; between answers as good as equal last bits decide. Runs on the model thread."""
        return self.recall.survey(asked(view, keys, top_k))

    def read_together(self, reads: Sequence[Read]) -> list[Found]:
        """The answers to several requests. Nothing is learned between the questions of one. Runs on the model thread."""
        found = self.recall.answer_many([asked(read.view, read.keys, read.top_k) for read in reads])
        return [
            Found(candidates, wire.StateRef(snapshot_id=read.view.snapshot_id, seq=read.view.seq))
            for read, candidates in zip(reads, found, strict=True)
        ]

    async def hold_back(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        key: Keys,
        found: list[Candidate],
        top_k: int,
        *,
        again: bool = True,
        kin: Mapping[int, set[int]] | None = None,
    ) -> list[Candidate]:
        """The candidates without those that only a forgotten correction explains; the weights are asked `again` without them.

        `kin`: the view's, for who asks about many keys and has them.
        """
        barred: set[int] = set()
        if kin is None:
            kin = await self.thread.run(view.kin)
        while True:
            suspects = [c.index for c in found if c.index not in barred and view.forgotten.keys() & kin.get(c.index, {c.index})]
            now_barred = []
            for index in suspects:
                family = kin.get(index, {index})
                live = {one: keys for each in family for one, keys in (await self._live_keys(tenant, warm, view, each)).items()}
                if held_back(view, family, key, live):
                    now_barred.append(index)
            if not now_barred:
                return found
            barred.update(now_barred)
            if not again:
                return [candidate for candidate in found if candidate.index not in barred]
            found = (await self.thread.run(self.candidates, view, key[None], top_k, frozenset(barred)))[0]

    async def answers(self, tenant: str, warm: WarmBank, view: View, key: Keys, judged: Judged, question: Question) -> wire.RecalledItem:
        """What is said to one question: nothing when the best candidate is below the threshold."""
        found = judged.candidates[: question.top_k]
        threshold = self.recall.config.abstain_below if question.min_confidence is None else question.min_confidence
        floor = self.recall.config.abstain_below if threshold == 0 else threshold
        abstained = not found or found[0].confidence < floor
        if abstained and threshold > 0:
            return wire.RecalledItem(answers=[], abstained=True)
        shown = [candidate for candidate in found if question.min_confidence is None or candidate.confidence >= threshold]
        texts = await self.texts(tenant, warm, [candidate.index for candidate in shown])
        shown = [candidate for candidate in shown if candidate.index in texts]  # one may have been erased since it was read
        answers = [await self._answer(tenant, warm, view, key, candidate, texts[candidate.index], judged, question) for candidate in shown]
        abstained = abstained or not answers
        return wire.RecalledItem(answers=answers, abstained=abstained)

    def said(self, found: Sequence[Candidate], texts: dict[int, str]) -> wire.Said:
        """The first candidate as a receipt tells it; silence below the threshold."""
        if not found:
            return wire.Said(value=None, confidence=0.0)
        best = found[0]
        silent = best.confidence < self.recall.config.abstain_below or best.index not in texts
        return wire.Said(value=None if silent else texts[best.index], confidence=best.confidence)

    def cell(self, found: Sequence[Candidate], texts: dict[int, str]) -> wire.Cell:
        """The first candidate as a probe tells it: a guess, too, but marked as one."""
        if not found or found[0].index not in texts:
            return wire.Cell(value=None, confidence=0.0, abstained=True)
        best = found[0]
        return wire.Cell(value=texts[best.index], confidence=best.confidence, abstained=best.confidence < self.recall.config.abstain_below)

    async def texts(self, tenant: str, warm: WarmBank, ordinals: Sequence[int]) -> dict[int, str]:
        """The texts of responses, from beside the warm bank or the ledger."""
        known = {ordinal: text for ordinal in ordinals if (text := warm.texts.recent(ordinal)) is not None}
        missing = sorted(set(ordinals) - known.keys())
        if missing:
            async with self.database.read(tenant) as conn:
                rows = await history.responses(conn, tenant, warm.row.id, missing)
            for row in rows:
                warm.texts.keep(row.ordinal, row.text)
                known[row.ordinal] = row.text
        return known

    async def support(self, tenant: str, warm: WarmBank, view: View, key: Keys, response: int, *, newest: int = NEWEST) -> Near:
        """The corrections in the view's weights that say `response`, with their cosine to `key`; nearest first."""
        return by_closeness(await self._rows(tenant, warm, view, response, newest), key)

    async def supporting(
        self, tenant: str, warm: WarmBank, view: View, key: Keys, judged: Judged, response: int
    ) -> list[tuple[str, float]]:
        """The ids of the corrections that `response` rests on as it was judged, with their cosine to `key`; nearest first."""
        found = judged.near.get(response) or await self.support(tenant, warm, view, key, response)
        near = [(row.id, cosine) for row, cosine in found if row.seq not in view.gone]  # what was forgotten since it was judged
        taught = judged.taught
        if taught is not None and taught.response == response:  # older perhaps than those looked at
            near = [(taught.id, 1.0), *(pair for pair in near if pair[0] != taught.id)]
        return near

    async def neighbours(
        self, tenant: str, warm: WarmBank, view: View, key: Keys, count: int, found: Sequence[Candidate] | None = None
    ) -> list[SupportRow]:
        """The corrections nearest to a key, of those that the first answers there rest on; none of its own situation, and no two of one.

        `found`: the best candidates there, if they are known.
        """
        if not count or not len(view.book):
            return []
        first = (await self.thread.run(self.candidates, view, key[None], ANSWERS))[0] if found is None else found[:ANSWERS]
        rows = [row for candidate in first for row in await self._rows(tenant, warm, view, candidate.index, NEWEST)]
        newest = {row.embedding: row for row in sorted(rows, key=lambda row: row.seq)}
        near = by_closeness(sorted(newest.values(), key=lambda row: row.seq), key)
        return [row for row, cosine in near if cosine < self.recall.config.same][:count]

    async def _answer(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        key: Keys,
        candidate: Candidate,
        text: str,
        judged: Judged,
        question: Question,
    ) -> wire.Answer:
        near = await self.supporting(tenant, warm, view, key, judged, candidate.index)
        why = {
            "score": candidate.score,
            "nearest": [{"correction": name, "cosine": cosine} for name, cosine in near[:SHOWN]],
        }
        return wire.Answer(
            value=text,
            confidence=candidate.confidence,
            support=[name for name, _ in near[:SHOWN]],
            level=candidate.level,
            why=why if question.explain else None,
        )

    async def _live_keys(self, tenant: str, warm: WarmBank, view: View, response: int) -> dict[int, Keys]:
        rows = await self._live_rows(tenant, warm, view, response, NEAREST)
        return {response: keys_of(rows)} if rows else {}

    async def _rows(self, tenant: str, warm: WarmBank, view: View, response: int, newest: int) -> list[SupportRow]:
        """The newest corrections in the view's weights that say a response, from beside the warm bank or the ledger."""
        cached = view is warm.view and newest == NEWEST
        rows, changes = warm.supports.recent(response) if cached else None, warm.supports.changes
        if rows is None:
            rows = await self._live_rows(tenant, warm, view, response, newest)
            if cached:
                warm.supports.keep(response, rows, changes)
        return [row for row in rows if row.seq not in view.gone]  # what was forgotten while they were read

    async def _live_rows(self, tenant: str, warm: WarmBank, view: View, response: int, newest: int) -> list[SupportRow]:
        live: list[SupportRow] = []
        asking, below, size = self.database.asking(tenant), view.seq + 1, newest  # as a rule all of them are in the weights
        for page in range(PAGES):
            rows = await self._shared(tenant, warm, response, size, below) if not page and newest == NEWEST else None
            if rows is None:
                rows = await history.newest_of(asking, tenant, warm.row.id, response, size, below)
            live += [row for row in rows if row.seq not in view.gone and holds(view.weights, row.seq)]
            if len(live) >= newest or len(rows) < size:
                break
            below, size = rows[-1].seq, 4 * newest
        return live[:newest]

    async def _shared(self, tenant: str, warm: WarmBank, response: int, size: int, below: int) -> list[SupportRow] | None:
        """The first page below a position, from what views that are compared share; None where it is not the same for all of them."""
        pages = warm.pages
        if pages is None:
            return None
        rows = pages.rows.get(response)
        if rows is None:
            rows = await history.newest_of(self.database.asking(tenant), tenant, warm.row.id, response, size, pages.below)
            pages.rows[response] = rows
        mine = [row for row in rows if row.seq < below]
        return mine if len(mine) == len(rows) or len(rows) < size else None


def by_closeness(rows: Sequence[SupportRow], key: Keys) -> Near:
    """The corrections with their cosine to a key, nearest first; equally near ones in the order given."""
    if not rows:
        return []
    cosines = keys_of(rows) @ key
    return [(rows[place], float(cosines[place])) for place in np.argsort(-cosines, kind="stable")]


def keys_of(rows: Sequence[SupportRow]) -> Keys:
    """The keys of corrections, (n, 384); there is one at least."""
    return np.frombuffer(b"".join(row.embedding for row in rows), np.float32).reshape(len(rows), -1)
