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

from model import Recall
from service import wire
from service.errors import NotOwner, PalimpsestError, Quota, WriterBusy
from service.store import history, idempotency, ledger
from service.store.db import CommitUnknown, Database
from service.store.rows import Draft, EventRow, SupportRow
from service.tracing import Stage
from workers.batch import Batcher
from workers.encoding import EncodedText
from workers.judging import Judge
from workers.learning import Taken, Taking
from workers.reading import HEARD, NEWEST, Reader
from workers.replay import lesson_of
from workers.view import NO_KEYS, View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

TRIES = 3  # acquisitions before a caller is told that another writer holds the bank


@dataclass(frozen=True, slots=True)
class Measured:
    """What the memory said to a taught input before and after, and how many paraphrases are answered right after."""

    before: wire.Said
    after: wire.Said
    fixed: int


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
    ) -> list[wire.Taught]:
        """All items or none, in order; `words` are the own words of responses that may be new. The caller holds the bank's lock.

        Raises:
            AlreadyTaught: as `ledger.append`.
        """
        drafts = [_draft(item, id, text, words.get(item.right)) for item, id, text in zip(items, ids, encoded, strict=True)]
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
        taught = []
        for row, asked in zip(rows, paraphrases, strict=True):
            measured = await self._measure(tenant, warm, view, row, asked)
            taught.append(_taught(row, measured, len(asked), view.snapshot_id, time.perf_counter() - begin))
            begin = time.perf_counter()
        return taught

    async def _append(
        self, tenant: str, bank_id: str, drafts: Sequence[Draft], idempotency_key: str | None
    ) -> tuple[WarmBank, list[EventRow]]:
        for _ in range(TRIES):
            warm = await self.warm.locked(tenant, bank_id)
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

    async def _measure(self, tenant: str, warm: WarmBank, view: View, row: EventRow, paraphrases: Sequence[EncodedText]) -> Measured:
        if row.embedding is None or row.response is None or row.right is None or row.input is None:
            raise AssertionError(f"event {row.seq} has nothing to learn")  # never appended so; redacted rows are not applied
        lesson = lesson_of(row.embedding, row.right, row.tokens, row.seq, row.words)
        keys = np.stack([text.key for text in paraphrases]) if paraphrases else NO_KEYS
        asked_texts = [row.input, *(one.text for one in paraphrases)]
        with self.stage("apply"):
            learning = asyncio.ensure_future(self.lessons.submit([Taking(view, lesson, row.response, keys)], tenant))
            try:
                same, *others = await self.judge.same_inputs(tenant, row.bank, asked_texts)
            finally:
                (learned,) = await learning  # whatever happens, nobody leaves the view while it is written to
            if isinstance(learned, Exception):
                raise learned
        before, after, asked = learned.before, learned.after, learned.paraphrases
        if view is warm.view:
            support = SupportRow(seq=row.seq, id=row.id, embedding=row.embedding, input=row.input[: history.COMPARED])
            warm.supports.add(row.response, support, NEWEST, alone=int(view.counts[row.response]) == 1)
        if view.forgotten:
            before = await self.reader.hold_back(tenant, warm, view, lesson.key, before, HEARD, again=False)  # the state has moved on
            after = await self.reader.hold_back(tenant, warm, view, lesson.key, after, HEARD)
        text = EncodedText(lesson.key, row.tokens, row.input)
        before = (await self.judge.judged(tenant, warm, view, text, before, same, upto=row.seq - 1)).candidates[:1]
        after = (await self.judge.judged(tenant, warm, view, text, after, same, upto=row.seq)).candidates[:1]
        fixed = 0
        for one, found, known in zip(paraphrases, asked, others, strict=True):
            judged = (await self.judge.judged(tenant, warm, view, one, found, known, upto=row.seq)).candidates
            fixed += bool(judged) and judged[0].index == row.response and judged[0].confidence >= self.recall.config.abstain_below
        texts = await self.reader.texts(tenant, warm, [candidate.index for candidate in (*before, *after)])
        return Measured(self.reader.said(before, texts), self.reader.said(after, texts), fixed)


def _draft(item: wire.NewCorrection, id: str, text: EncodedText, words: EncodedText | None) -> Draft:
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
    )


def _taught(row: EventRow, measured: Measured, asked: int, snapshot_id: str, seconds: float) -> wire.Taught:
    return wire.Taught(
        id=row.id,
        seq=row.seq,
        status="active",
        receipt=wire.Receipt(
            item=wire.BeforeAfter(before=measured.before, after=measured.after),
            paraphrase=wire.ParaphraseCheck(n=asked, fixed=measured.fixed),
        ),
        state=wire.StateRef(snapshot_id=snapshot_id, seq=row.seq),
        usage=wire.Usage(cpu_ms=round(1e3 * seconds, 3), tokens_in=row.tokens, updates=1),
    )
