"""Teaching: append, then apply, then measure.

The order is the promise (I1, I2): the ledger row is committed before a weight changes, and the reply leaves after both. When it is
unknown whether the commit happened, or applying fails, the warm state is dropped and the ledger folded again: memory never holds what
the ledger lacks.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np

from model import Candidate, Recall
from service import wire
from service.errors import Conflict, NotOwner, PalimpsestError, Quota, WriterBusy
from service.store import idempotency, ledger
from service.store.db import Database
from service.store.failures import CommitUnknown
from service.store.lookup import Before
from service.store.quarantines import Source
from service.store.rows import Draft, EventRow, SameInputRow, SupportRow
from service.store.turns import TurnDraft
from service.tracing import Stage
from workers.batch import Batcher
from workers.encoding import EncodedText, text_of
from workers.judging import Judge
from workers.learning import Taken, Taking
from workers.reading import HEARD, NEWEST, Keys, Reader
from workers.replay import lesson_of
from workers.view import NO_KEYS, View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

OTHERS, OTHERS_MOST = 4, 64  # corrections beside a lesson that are asked before and after it; and all that one request asks
TRIES = 3  # acquisitions before a caller is told that another writer holds the bank


@dataclass(frozen=True, slots=True)
class Measured:
    """What the memory said to a taught input before and after, and what became of paraphrases and of other corrections.

    `surprise`: 1 − the confidence that the right answer had before.
    """

    before: wire.Said
    after: wire.Said
    surprise: float
    paraphrases: wire.ParaphraseCheck
    locality: wire.Locality


@dataclass(frozen=True, slots=True)
class Teacher:
    """Appends corrections to a bank's ledger and folds them into its warm state."""

    database: Database
    warm: WarmBanks
    reader: Reader
    judge: Judge
    recall: Recall
    lessons: Batcher[Taking, Taken | Exception]
    stage: Stage
    noted: Callable[[str, str, Sequence[Before]], None]  # told what was said before each correction
    now: Callable[[], datetime]

    async def teach(
        self,
        tenant: str,
        bank_id: str,
        items: Sequence[wire.NewCorrection],
        ids: Sequence[str],
        encoded: Sequence[EncodedText],
        words: Mapping[str, EncodedText],
        paraphrases: Sequence[Sequence[EncodedText]],
        idempotency_key: str | None,
        taught_by: str,
    ) -> list[wire.Taught]:
        """All items or none, in order; `words` are the own words of responses that may be new. The caller holds the bank's lock.

        Raises:
            AlreadyTaught: as `ledger.append`. Conflict: a session of them, or the key, is quarantined.
        """
        drafts = [_draft(item, id, text, words.get(item.right), taught_by) for item, id, text in zip(items, ids, encoded, strict=True)]
        warm, rows = await self._append(tenant, bank_id, drafts, idempotency_key)
        try:
            return await self.apply(tenant, warm, warm.view, rows, paraphrases)
        except BaseException as error:
            self.warm.drop(bank_id)  # the ledger has them and the weights may not: fold again
            if isinstance(error, PalimpsestError):  # whose own words may be that nothing was kept
                raise CommitUnknown("the corrections are in the ledger, but their receipts could not be measured") from error
            raise

    async def apply(
        self,
        tenant: str,
        warm: WarmBank,
        view: View,
        rows: Sequence[EventRow],
        paraphrases: Sequence[Sequence[EncodedText]],
    ) -> list[wire.Taught]:
        """Fold the appended rows into the view, measuring a receipt for each."""
        begin = time.perf_counter()
        known = {row.response: row.right for row in rows if row.response is not None and row.right is not None}
        for ordinal, text in known.items():
            warm.texts.keep(ordinal, text)
        taught: list[wire.Taught] = []
        befores: list[Before] = []
        others = min(OTHERS, OTHERS_MOST // len(rows))
        for row, asked in zip(rows, paraphrases, strict=True):
            measured = await self._measure(tenant, warm, view, row, asked, others)
            taught.append(_taught(row, measured, view.snapshot_id, time.perf_counter() - begin))
            befores.append(Before(row.seq, _judged(measured.before, row), measured.surprise))
            begin = time.perf_counter()
        self.noted(tenant, warm.row.id, befores)
        return taught

    async def _append(
        self, tenant: str, bank_id: str, drafts: Sequence[Draft], idempotency_key: str | None
    ) -> tuple[WarmBank, list[EventRow]]:
        for _ in range(TRIES):
            warm = await self.warm.locked(tenant, bank_id)
            refuse_closed(warm.view.closed, drafts)  # the append is fenced: a quarantine that is set meanwhile raises the epoch
            try:
                with self.stage("append"):
                    async with self.database.write(tenant) as conn:
                        rows = await ledger.append(
                            conn,
                            tenant,
                            bank_id,
                            drafts,
                            epoch=warm.row.epoch,
                            head_version=warm.head_version,
                            now=self.now(),
                        )
                        if rows[0].seq != warm.view.seq + 1:
                            raise NotOwner()  # the ledger has what this memory lacks, as after a commit whose outcome was unknown
                        most = self.recall.config.max_responses
                        if any(row.response is not None and row.response >= most for row in rows):
                            raise Quota(f"a bank tells at most {most} distinct responses apart, and this one has them; use another")
                        if idempotency_key is not None:
                            first, last = rows[0].seq, rows[-1].seq
                            await idempotency.mark_committed(conn, tenant, idempotency_key, bank=bank_id, first_seq=first, last_seq=last)
            except NotOwner:
                self.warm.drop(bank_id)  # another process took the bank: take it back from the ledger
                continue
            except BaseException as error:
                if isinstance(error, CommitUnknown) or not isinstance(error, PalimpsestError):
                    self.warm.drop(bank_id)  # nobody can say whether it was committed
                raise
            return warm, rows
        raise WriterBusy(retry_after_s=1)

    async def _measure(
        self, tenant: str, warm: WarmBank, view: View, row: EventRow, paraphrases: Sequence[EncodedText], others: int
    ) -> Measured:
        if row.embedding is None or row.response is None or row.right is None or row.input is None:
            raise AssertionError(f"event {row.seq} has nothing to learn")  # never appended so; redacted rows are not applied
        lesson = lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words)
        beside = await self.reader.neighbours(tenant, warm, view, lesson.key, others)
        neighbours = [text_of(other) for other in beside]
        text = EncodedText(lesson.key, row.tokens, row.input)
        with self.stage("apply"):
            taking = Taking(view, lesson, row.response, _stacked(paraphrases), _stacked(neighbours))
            learning = asyncio.ensure_future(self.lessons.submit([taking], tenant))
            try:
                asked = [text, *paraphrases, *neighbours]
                same, *rest = await self.judge.same_inputs(tenant, row.bank, [one.text for one in asked])
            finally:
                (learned,) = await learning  # whatever happens, nobody leaves the view while it is written to
            if isinstance(learned, Exception):
                raise learned
        if view is warm.view:
            support = SupportRow(seq=row.seq, id=row.id, embedding=row.embedding, input=row.input)
            warm.supports.add(row.response, support, NEWEST, alone=int(view.counts[row.response]) == 1)

        async def said(text: EncodedText, found: list[Candidate], same: Sequence[SameInputRow], upto: int = row.seq) -> list[Candidate]:
            if view.forgotten:  # the state has moved on: it cannot be asked again about before
                found = await self.reader.hold_back(tenant, warm, view, text.key, found, HEARD, again=upto == row.seq)
            return (await self.judge.judged(tenant, warm, view, text, found, same, upto=upto)).candidates

        before, after = await said(text, learned.before, same, row.seq - 1), await said(text, learned.after, same)
        told = [await said(*one) for one in zip(paraphrases, learned.paraphrases, rest[: len(paraphrases)], strict=True)]
        answers = zip(neighbours, learned.others_before, learned.others_after, rest[len(paraphrases) :], strict=True)
        moved = [
            self._given(await said(one, was, it, row.seq - 1)) != self._given(await said(one, now, it)) for one, was, now, it in answers
        ]
        texts = await self.reader.texts(tenant, warm, [candidate.index for candidate in (*before[:1], *after[:1])])
        return Measured(
            before=self.reader.said(before, texts),
            after=self.reader.said(after, texts),
            surprise=1.0 - next((found.confidence for found in before if found.index == row.response), 0.0),
            paraphrases=wire.ParaphraseCheck(n=len(told), fixed=sum(self._given(found) == row.response for found in told)),
            locality=wire.Locality(n=len(beside), flipped=[other.id for other, flipped in zip(beside, moved, strict=True) if flipped]),
        )

    def _given(self, found: Sequence[Candidate]) -> int | None:
        """The answer that is given, None where the memory abstains."""
        return found[0].index if found and found[0].confidence >= self.recall.config.abstain_below else None


def refuse_closed(closed: frozenset[Source], drafts: Sequence[Draft | TurnDraft]) -> None:
    """Raise `Conflict` where a session or key that teaches the bank nothing now has taught, or said, one of them."""
    for draft in drafts:
        sources = {Source(session=draft.session_id): "session", Source(key=draft.taught_by): "key"}
        for source in closed & sources.keys():
            raise Conflict(
                f"the {sources[source]} {source.session or source.key} is in quarantine and teaches this bank nothing; lift that first"
            )


def _draft(item: wire.NewCorrection, id: str, text: EncodedText, words: EncodedText | None, taught_by: str) -> Draft:
    return Draft(
        id=id,
        session_id=item.session_id,
        input=item.input,
        wrong=item.wrong,
        right=item.right,
        metadata=item.metadata,
        embedding=text.key.tobytes(),
        tokens=text.tokens,
        words=None if words is None else words.key.tobytes(),
        taught_by=taught_by,
    )


def _stacked(texts: Sequence[EncodedText]) -> Keys:
    return np.stack([text.key for text in texts]) if texts else NO_KEYS


def _judged(before: wire.Said, row: EventRow) -> str:
    if before.value is None:
        return "nothing"
    return "right" if before.value == row.right else "wrong"


def _taught(row: EventRow, measured: Measured, snapshot_id: str, seconds: float) -> wire.Taught:
    return wire.Taught(
        id=row.id,
        seq=row.seq,
        status="active",
        receipt=wire.Receipt(
            item=wire.BeforeAfter(before=measured.before, after=measured.after),
            paraphrase=measured.paraphrases,
            locality=measured.locality,
        ),
        state=wire.StateRef(snapshot_id=snapshot_id, seq=row.seq),
        usage=wire.Usage(cpu_ms=round(1e3 * seconds, 3), tokens_in=row.tokens, updates=1),
    )
