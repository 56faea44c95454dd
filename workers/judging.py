"""Judging: how sure a candidate is once the texts are compared, and what was taught in these words.

The weights say which answer is near. Two things stand by them, both from the ledger and both at the view that is asked:

- Evidence (`model.evidence`): the text of the correction that supports the first candidate is compared with the question. Where it names
  something and that leaves it doubtful, the next two are heard as well.
- The companion: a correction whose input is the question itself, in the same words (`service.store.wording`). It is right at any later
  time, whatever the weights have room for, unless it was superseded in other words: what the weights say instead is believed once the
  texts are compared, and was taught later, in at least two other wordings that are alike and about the same. One is not enough: what is
  alike has, as a rule, an answer of its own. Nor does a wording count that had been taught another answer before: who teaches two wordings
  two answers and then one of them again keeps them apart. Where the companion answers for the weights, the answer's level is `ledger`.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from math import log

import numpy as np

from model import Candidate
from model.evidence import Overlap, confidence, overlap
from model.wording import Wording, Words, named_spans
from service.store import history
from service.store.db import Database
from service.store.history import FAR
from service.store.lineage import holds
from service.store.rows import EventRow, SameInputRow, SupportRow
from service.store.wording import same_words
from workers.encoding import EncodedText
from workers.reading import HEARD, Judged, Near, Reader
from workers.view import View
from workers.warm_bank import Pages, WarmBank

LEDGER = "ledger"
COMPARED = 2_048  # characters of a correction that are compared with a question: as a rule all that the encoder reads
CERTAIN = 0.99  # of what was taught in so many words
DOUBTFUL = 0.5
ALIKE = 0.8  # cosine from which a newer correction may have superseded one
WITNESSES = 2  # other wordings that have to be newer and alike for that
ABOUT = 0.5  # share of what that one names which has to be in the question as well
RELUCTANCE = 1.0  # by how much the evidence for another candidate than the first has to be better, in log odds
CHUNK = 64  # questions before the model thread may serve someone else
FEW = 16  # texts that are looked up one by one, beside each other
LATEST = 8  # corrections of an input looked at in one go: as a rule the newest is in the weights
MANY = 8  # questions from which on they are asked together
CLOSE, NEAR = 1e-4, 1e-3  # between scores, and between a confidence and what is decided by it: far above what rounding does to either


@dataclass(frozen=True, slots=True)
class Judge:
    """Judges what a memory says."""

    database: Database
    reader: Reader
    words: Words

    async def ask(self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText], pages: Pages | None = None) -> list[Judged]:
        """What a recall would be told at each text, whatever view is asked. Of `warm` only the id and the caches are used.

        `pages` are shared by those who ask several views.
        """
        warm = _beside(warm, view, pages)
        same = await self.same_inputs(tenant, warm.row.id, [text.text for text in asked])
        look = self._exactly if len(asked) < MANY else self._together
        judged: list[Judged] = []
        for start in range(0, len(asked), CHUNK):
            judged += await look(tenant, warm, view, asked[start : start + CHUNK], same[start : start + CHUNK])
        return judged

    async def _exactly(
        self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText], same: Sequence[Sequence[SameInputRow]]
    ) -> list[Judged]:
        found = await self.reader.thread.run(self.reader.candidates, view, np.stack([text.key for text in asked]), HEARD)
        return await self.all(tenant, warm, view, asked, found, same)

    async def _together(
        self, tenant: str, warm: WarmBank, view: View, asked: Sequence[EncodedText], same: Sequence[Sequence[SameInputRow]]
    ) -> list[Judged]:
        """As `_exactly`, but for last bits of scores and confidences: where these could decide anything, it is asked exactly."""
        keys = np.stack([text.key for text in asked])
        found = await self.reader.thread.run(self.reader.survey, view, keys, HEARD + 1)
        judged = await self.all(tenant, warm, view, asked, found, same)
        close = [place for place, each in enumerate(judged) if is_close(found[place], each, self._threshold)]
        if close:
            again = await self._exactly(tenant, warm, view, [asked[place] for place in close], [same[place] for place in close])
            for place, each in zip(close, again, strict=True):
                judged[place] = each
        return judged

    async def all(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        asked: Sequence[EncodedText],
        found: Sequence[list[Candidate]],
        same: Sequence[Sequence[SameInputRow]],
        heard: int = HEARD,
    ) -> list[Judged]:
        """As `judged`, for each text, without what only a forgotten correction explains; `heard` candidates were asked for."""
        warm, judged = _beside(warm, view), []
        kin = await self.reader.thread.run(view.kin) if view.forgotten else None
        for text, candidates, known in zip(asked, found, same, strict=True):
            kept = candidates
            if view.forgotten:
                kept = await self.reader.hold_back(tenant, warm, view, text.key, candidates, heard, kin=kin)
            judged.append(await self.judged(tenant, warm, view, text, kept, known))
        return judged

    async def same_inputs(self, tenant: str, bank_id: str, texts: Sequence[str]) -> list[Sequence[SameInputRow]]:
        """For each text the newest corrections of this input, in the same words. Needs no key: to be asked beside the encoder."""
        distinct = list(dict.fromkeys(texts))
        if len(distinct) > FEW:
            async with self.database.read(tenant) as conn:
                known = await history.same_inputs(conn, tenant, bank_id, distinct, LATEST)
        else:
            asking = self.database.asking(tenant)
            questions = [history.same_input(asking, tenant, bank_id, text, LATEST) for text in distinct]
            found = [await questions[0]] if len(questions) == 1 else await asyncio.gather(*questions)
            known = dict(zip(distinct, found, strict=True))
        return [known[text] for text in texts]

    async def judged(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        asked: EncodedText,
        found: Sequence[Candidate],
        same: Sequence[SameInputRow],
        *,
        upto: int = FAR,
    ) -> Judged:
        """The candidates, best first, with the confidence that the texts give them; `same` as `same_inputs` gave it.

        `upto`: no later correction counts, though the view may have it by now.
        """
        return await self.weighed(self.looking(tenant, warm, view, asked, same), found, upto=upto)

    def looking(self, tenant: str, warm: WarmBank, view: View, asked: EncodedText, same: Sequence[SameInputRow]) -> "Looking":
        """For a text that is judged more than once while nobody changes the view."""
        return Looking(tenant, warm, view, asked, same)

    async def weighed(self, looking: "Looking", found: Sequence[Candidate], *, upto: int = FAR) -> Judged:
        """As `judged`."""
        taught = await self._taught(looking, upto)
        if taught is not None and found and found[0].index == taught.response and found[0].confidence >= self._threshold:
            return Judged([replace(found[0], confidence=max(found[0].confidence, CERTAIN)), *found[1:]], {}, taught)
        judged = await self._compared(looking, found, upto)
        if taught is None or await self._superseded(looking, taught, judged):
            return judged
        others = [candidate for candidate in judged.candidates if candidate.index != taught.response]
        return replace(judged, candidates=[_companion(taught), *others], taught=taught)

    @property
    def _threshold(self) -> float:
        return self.reader.recall.config.abstain_below

    async def _taught(self, looking: "Looking", upto: int) -> SameInputRow | None:
        """The newest correction of the input that the view has."""
        rows, view = list(looking.same), looking.view
        while rows:
            for row in rows:
                if row.seq <= upto and self._has(view, row):
                    return row
            if len(rows) < LATEST:
                break
            asking, bank, text = self.database.asking(looking.tenant), looking.warm.row.id, looking.asked.text
            rows = await history.same_input(asking, looking.tenant, bank, text, LATEST, below=rows[-1].seq)
        return None

    @staticmethod
    def _has(view: View, row: SameInputRow) -> bool:
        return row.seq not in view.gone and holds(view.weights, row.seq)

    async def _superseded(self, looking: "Looking", taught: SameInputRow, judged: Judged) -> bool:
        """Whether another answer is believed, and was taught later than `taught`, in several situations that are alike and about the same,
        in words that were not kept apart from it before."""
        best = next(iter(judged.candidates), None)
        if best is None or best.index == taught.response or best.confidence < DOUBTFUL:
            return False
        later = [row for row, cosine in judged.near[best.index] if row.seq > taught.seq and cosine >= ALIKE]
        about = {same_words(row.input): row.input for row in later if self._between(looking, row).named >= ABOUT}
        looking.words = looking.words or same_words(looking.asked.text)
        if looking.words in about:  # the same words: taught since they were looked up, or before words were compared
            return True
        if len(about) < WITNESSES:
            return False
        witnesses = 0
        for words in about.values():
            witnesses += not await self._apart(looking, words, taught)
            if witnesses == WITNESSES:
                return True
        return False

    async def _apart(self, looking: "Looking", words: str, taught: SameInputRow) -> bool:
        """Whether these words had another answer when `taught` was taught."""
        asking, bank = self.database.asking(looking.tenant), looking.warm.row.id
        rows = await history.same_input(asking, looking.tenant, bank, words, LATEST, below=taught.seq)
        before = next((row for row in rows if self._has(looking.view, row)), None)
        return before is not None and before.response != taught.response

    async def _compared(self, looking: "Looking", found: Sequence[Candidate], upto: int) -> Judged:
        near: dict[int, Near] = {}
        odds: dict[Candidate, float] = {}
        for candidate in found[:HEARD]:
            near[candidate.index] = await self._near(looking, candidate.index, upto)
            weighed = self._weighed(looking, candidate, near[candidate.index])
            odds[weighed] = _odds(weighed.confidence) - RELUCTANCE * bool(odds)
            if len(odds) == 1 and (weighed is candidate or weighed.confidence >= DOUBTFUL):
                break
        best = sorted(odds, key=odds.__getitem__, reverse=True)
        return Judged([*best, *found[len(best) :]], near, None)

    def _weighed(self, looking: "Looking", candidate: Candidate, near: Near) -> Candidate:
        """The candidate as the texts bear it out; itself where its nearest correction names nothing."""
        if not near or not any(named_spans(near[0][0].input[:COMPARED])):
            return candidate
        row, cosine = near[0]
        return replace(candidate, confidence=confidence(candidate, cosine, len(near), self._between(looking, row)))

    def _between(self, looking: "Looking", row: SupportRow) -> Overlap:
        """What the question shares with a correction."""
        if row.seq not in looking.shared:
            looking.wording = looking.wording or self.words.of(looking.asked.text)
            looking.shared[row.seq] = overlap(looking.wording, self.words.of(row.input[:COMPARED]))
        return looking.shared[row.seq]

    async def _near(self, looking: "Looking", response: int, upto: int) -> Near:
        if response not in looking.near:
            near = await self.reader.support(looking.tenant, looking.warm, looking.view, looking.asked.key, response)
            looking.near[response] = near
        return [(row, cosine) for row, cosine in looking.near[response] if row.seq <= upto]


@dataclass(slots=True)
class Looking:
    """Who asks what, and at which view; and what was found out about it."""

    tenant: str
    warm: WarmBank
    view: View
    asked: EncodedText
    same: Sequence[SameInputRow]  # the newest corrections in the words of this text
    words: str | None = None  # the question's, see `same_words`
    wording: Wording | None = None  # the question's
    near: dict[int, Near] = field(default_factory=dict)  # by response
    shared: dict[int, Overlap] = field(default_factory=dict)  # with a correction, by its seq

    def learned(self, row: EventRow, words: str) -> None:
        """The view has learned a correction, in these `same_words`, since it was looked: what is known of others stays so."""
        response = row.response or 0
        self.near.pop(response, None)
        self.words = self.words or same_words(self.asked.text)
        if words == self.words:
            self.same = [SameInputRow(seq=row.seq, id=row.id, response=response), *self.same]


def _beside(warm: WarmBank, view: View, pages: Pages | None = None) -> WarmBank:
    """The bank with a view as its own: then what supports its answers is kept beside it as long as this takes."""
    if view is warm.view:
        return warm
    return WarmBank(warm.row, warm.head_version, view, view.seq, view.snapshot_id, warm.texts, pages=pages)


def _companion(taught: SameInputRow) -> Candidate:
    return Candidate(taught.response, 1.0, CERTAIN, LEDGER, 1.0)


def is_close(found: Sequence[Candidate], judged: Judged, threshold: float) -> bool:
    """Whether rounding could have decided what became of the candidates that were found."""
    heard = max(1, len(judged.near))
    if any(ahead.score - behind.score < CLOSE for ahead, behind in pairwise(found[: heard + 1])):
        return True
    told = [candidate.confidence for candidate in (*found[:heard], *judged.candidates[: heard + 1])]
    if any(abs(confidence - at) < NEAR for confidence in told for at in (threshold, DOUBTFUL)):
        return True
    weighed = [candidate for candidate in judged.candidates if candidate.index in judged.near]
    odds = [_odds(candidate.confidence) - RELUCTANCE * (candidate.index != found[0].index) for candidate in weighed]
    return any(abs(ahead - behind) < NEAR / DOUBTFUL for ahead, behind in pairwise(odds))


def _odds(share: float) -> float:
    return log(max(share, 1e-12) / max(1.0 - share, 1e-12))
