"""Teaching: append, then apply, then measure (`receipts.py`).

The order is the promise (I1, I2): the ledger row is committed before a weight changes, and the reply leaves after both. When it is
unknown whether the commit happened, or applying fails, the warm state is dropped and the ledger folded again: memory never holds what
the ledger lacks.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from service import wire
from service.errors import Conflict, Invalid, NotOwner, PalimpsestError, Quota, WriterBusy
from service.store.appending import Appending, Believed
from service.store.failures import CommitUnknown
from service.store.ledger import AlreadyTaught
from service.store.lookup import Before
from service.store.quarantines import Source
from service.store.rows import Draft, EventRow
from service.store.turns import TurnDraft
from service.tracing import Stage
from workers.encoding import EncodedText
from workers.receipts import Around, LookedUp, Measured, Receipts, others_beside
from workers.view import View
from workers.warm import WarmBanks
from workers.warm_bank import WarmBank

AGAIN_S = 15.0  # after which one of unknown outcome is not made again: its caller will not wait for ever
TRIES = 3  # appends before a caller is told that another writer holds the bank, or that nobody can say


@dataclass(frozen=True, slots=True)
class Teacher:
    """Appends corrections to a bank's ledger and folds them into its warm state."""

    appending: Appending
    warm: WarmBanks
    receipts: Receipts
    most: int  # distinct responses of a bank
    stage: Stage
    noted: Callable[[str, str, Sequence[Before]], None]  # told what was said before each correction
    now: Callable[[], datetime]

    async def look_up(self, tenant: str, bank_id: str, item: wire.NewCorrection) -> LookedUp | None:
        """What the ledger has of a correction's texts; None where the bank is not warm or being changed, and will stand elsewhere by then.

        The caller need not have the bank's lock.
        """
        warm = self.warm.peek(bank_id)
        if warm is None or self.warm.is_wanted(bank_id):
            return None
        return await self.receipts.look_up(tenant, warm, [item.input, *item.paraphrases])

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
        looked_up: LookedUp | None = None,
    ) -> list[wire.Taught]:
        """All items or none, in order; `words` are the own words of responses that may be new. The caller holds the bank's lock.

        `looked_up`: of the first of them, what the ledger had when it came.

        Raises:
            Invalid: a situation or an answer is blank: what is in the ledger has to be learnable for ever.
            AlreadyTaught: as `ledger.append`. Conflict: a session of them, or the key, is quarantined.
        """
        refuse_blank(items)
        drafts = [_draft(item, id, text, words.get(item.right), taught_by) for item, id, text in zip(items, ids, encoded, strict=True)]

        async def look_round(warm: WarmBank) -> Around:
            return await self.receipts.look_round(tenant, warm, encoded[0], paraphrases[0], others_beside(len(items)), looked_up)

        warm, rows, looking = await self._append(tenant, bank_id, drafts, idempotency_key, look_round)
        try:
            return await self.apply(tenant, warm, warm.view, rows, paraphrases, await looking)
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
        around: Around | None = None,
    ) -> list[wire.Taught]:
        """Fold the appended rows into the view, measuring a receipt for each; `around` the first was looked already, before it came."""
        begin = time.perf_counter()
        known = {row.response: row.right for row in rows if row.response is not None and row.right is not None}
        for ordinal, text in known.items():
            warm.texts.keep(ordinal, text)
        taught: list[wire.Taught] = []
        befores: list[Before] = []
        others = others_beside(len(rows))
        for row, asked in zip(rows, paraphrases, strict=True):
            measured = await self.receipts.measure(tenant, warm, view, row, asked, others, around)
            around = None
            taught.append(_taught(row, measured, view.snapshot_id, time.perf_counter() - begin))
            befores.append(Before(row.seq, _judged(measured.before, row), measured.surprise))
            begin = time.perf_counter()
        self.noted(tenant, warm.row.id, befores)
        return taught

    async def _append(
        self,
        tenant: str,
        bank_id: str,
        drafts: Sequence[Draft],
        idempotency_key: str | None,
        look_round: Callable[[WarmBank], Awaitable[Around]],
    ) -> tuple[WarmBank, list[EventRow], "asyncio.Future[Around]"]:
        """The bank, what was appended to it, and what `look_round` finds beside that.

        An append whose outcome nobody knows is made again: whether it was kept can be seen once the bank was taken anew, since no older
        one can come through then.
        """
        lost: CommitUnknown | None = None
        until = time.monotonic() + AGAIN_S
        for _ in range(TRIES):
            looking: asyncio.Future[Around] | None = None
            try:
                warm = await self.warm.locked(tenant, bank_id)
                refuse_closed(warm.view.closed, drafts)  # the append is fenced: a quarantine that is set meanwhile raises the epoch
                believed = _believed(warm, drafts)
                looking = asyncio.ensure_future(look_round(warm))
                with self.stage("append"):
                    rows = await self.appending.append(
                        tenant, bank_id, drafts, believed, key=idempotency_key, check=self._refuse_too_many, now=self.now()
                    )
                warm.tail = warm.tail.after(rows)
                return warm, rows, looking
            except BaseException as error:
                if looking is not None:
                    await asyncio.gather(looking, return_exceptions=True)  # nobody leaves the view while it is asked
                if isinstance(error, NotOwner | CommitUnknown) or not isinstance(error, PalimpsestError):
                    self.warm.drop(bank_id)  # another process took the bank, or nobody can say what was kept: from the ledger, then
                if isinstance(error, CommitUnknown) and looking is not None:  # the append itself
                    lost = error
                    if time.monotonic() >= until:
                        break
                elif not isinstance(error, NotOwner):
                    if lost is not None and isinstance(error, PalimpsestError) and not isinstance(error, AlreadyTaught):
                        raise lost from error  # this try has kept nothing; that says nothing of the one before
                    raise
        raise lost or WriterBusy(retry_after_s=1)

    def _refuse_too_many(self, rows: Sequence[EventRow]) -> None:
        if any(row.response is not None and row.response >= self.most for row in rows):
            raise Quota(f"a bank tells at most {self.most} distinct responses apart, and this one has them; use another")


def refuse_blank(items: Sequence[wire.NewCorrection]) -> None:
    """Raise `Invalid` where a situation or an answer says nothing, to whoever calls the engine past the api."""
    faults = [
        {"field": f"items[{place}].{name}", "message": "blank"}
        for place, item in enumerate(items)
        for name, text in (("input", item.input), ("right", item.right))
        if not text.strip()
    ]
    if faults:
        raise Invalid(f"{faults[0]['field']}: blank", errors=faults)


def refuse_closed(closed: frozenset[Source], drafts: Sequence[Draft | TurnDraft]) -> None:
    """Raise `Conflict` where a session or key that teaches the bank nothing now has taught, or said, one of them."""
    for draft in drafts:
        sources = {Source(session=draft.session_id): "session", Source(key=draft.taught_by): "key"}
        for source in closed & sources.keys():
            raise Conflict(
                f"the {sources[source]} {source.session or source.key} is in quarantine and teaches this bank nothing; lift that first"
            )


def _believed(warm: WarmBank, drafts: Sequence[Draft]) -> Believed:
    book = warm.view.book
    known = {draft.right: place for draft in drafts if (place := book.place(draft.right)) is not None}
    return Believed(warm.row.epoch, warm.head_version, warm.tail, known)


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
