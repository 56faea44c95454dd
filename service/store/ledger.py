"""The ledger's write side: the fenced append, and the check of the hash chain (`linking.py`).

Here an append is part of a transaction; one that is a transaction of its own, as that of a correction, is made by `appending.py`.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import bindparam, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import ChecksumMismatch, NotOwner, PalimpsestError
from service.store import changes
from service.store.banks import find_bank, genesis_hash
from service.store.linking import chain_hash, content_hash, event_of, first_words, link, response_hash, told, used_sessions
from service.store.lookup import beside
from service.store.rows import Draft, EventRow
from service.store.tables import bank as banks
from service.store.tables import event, lookup, response, session

PAGE = 1_000

# Constants, so that they are compiled once; values of an UPDATE may not have the name of a column that they are not for.
MINE = (banks.c.tenant == bindparam("of_tenant"), banks.c.id == bindparam("of_bank"))
TAKE = (
    update(banks)
    .where(*MINE, banks.c.epoch == bindparam("believed_epoch"), banks.c.head_version == bindparam("believed_head"))
    .values(
        seq=banks.c.seq + bindparam("events"),
        debt_tokens=banks.c.debt_tokens + bindparam("tokens"),
        debt_events=banks.c.debt_events + bindparam("events"),
        debt_since=func.coalesce(banks.c.debt_since, bindparam("now", type_=banks.c.debt_since.type)),
    )
    .returning(banks.c.seq, banks.c.last_hash, banks.c.responses)
)
END = update(banks).where(*MINE).values(last_hash=bindparam("ends_with"), responses=bindparam("given_out"))
SAID = select(response.c.text_hash, response.c.ordinal, response.c.embedding)
SAID_ONE = SAID.where(
    response.c.tenant == bindparam("of_tenant"), response.c.bank == bindparam("of_bank"), response.c.text_hash == bindparam("digest")
)
ADD_EVENT, ADD_RESPONSE, ADD_LOOKUP = insert(event), insert(response), insert(lookup)
USED = {
    name: added.on_conflict_do_update(index_elements=["tenant", "bank", "id"], set_={"last_used_at": added.excluded.last_used_at})
    for name, added in (("sqlite", upsert_sqlite(session)), ("postgresql", upsert_postgresql(session)))
}


class AlreadyTaught(PalimpsestError):
    """A call that was lost on the way has appended these corrections; its replies can be made again (never sent to a client)."""


class _Said(NamedTuple):
    """A response as the ledger has it."""

    ordinal: int
    words: bytes | None


async def append(
    conn: AsyncConnection, tenant: str, bank: str, drafts: Sequence[Draft], *, epoch: int, head_version: int, now: datetime
) -> list[EventRow]:
    """Append the corrections in order, all or none; the caller's transaction makes them durable.

    One conditional UPDATE is at once the allocation of seqs, the lock of the bank's row, the fence, and the note of what a consolidation
    has to cover.

    Raises:
        NotOwner: the bank has another epoch or head than the caller believes (or is gone); nothing was written.
        AlreadyTaught: one of the ids is in the ledger; nothing of this transaction may be kept.
    """
    mine: dict[str, Any] = {"of_tenant": tenant, "of_bank": bank}
    taken = {"events": len(drafts), "tokens": sum(draft.tokens for draft in drafts), "now": now}
    row = (await conn.execute(TAKE, mine | taken | {"believed_epoch": epoch, "believed_head": head_version})).first()
    if row is None:
        raise NotOwner()
    said, known = await _said(conn, mine, drafts, row.responses)
    first, prev = row.seq - len(drafts) + 1, row.last_hash
    events = link(tenant, bank, drafts, {text: each.ordinal for text, each in said.items()}, first, epoch, prev, now)
    try:
        await conn.execute(ADD_EVENT, events)
    except IntegrityError as error:  # seqs are given out under the row's lock, so it is an id
        raise AlreadyTaught() from error
    await conn.execute(END, mine | {"ends_with": events[-1]["hash"], "given_out": known})
    await changes.emit(conn, tenant, "correction.created", bank, told(drafts, first), now)
    used = {"tenant": tenant, "bank": bank, "created_at": now, "last_used_at": now}
    for name in used_sessions(drafts):
        await conn.execute(USED[conn.dialect.name], used | {"id": name})
    rows = [event_of(draft, values, said[draft.right].words) for draft, values in zip(drafts, events, strict=True)]
    await conn.execute(ADD_LOOKUP, [beside(tenant, row) for row in rows])
    return rows


async def verify_chain(conn: AsyncConnection, tenant: str, bank: str, upto: int | None = None) -> int:
    """Read the whole chain, or its first `upto` rows, and check every link; how many rows they are.

    Raises:
        ChecksumMismatch: a row was changed, removed or put in; the message names its seq. NotFound: the tenant has no such bank.
    """
    prev, seq = genesis_hash(bank), 0
    while True:
        query = select(event).where(event.c.tenant == tenant, event.c.bank == bank, event.c.seq > seq).order_by(event.c.seq).limit(PAGE)
        rows = (await conn.execute(query if upto is None else query.where(event.c.seq <= upto))).all()
        for row in rows:
            seq += 1
            content = row.content_hash if row.redacted_at else content_hash(row.salt, row.body, row.embedding)
            whole = chain_hash(prev, row._asdict(), content)
            if (row.seq, row.content_hash, row.prev_hash, row.hash) != (seq, content, prev, whole):
                raise ChecksumMismatch(f"the ledger of bank {bank} was changed at seq {seq}: its hash chain does not hold")
            prev = row.hash
        if len(rows) < PAGE:
            break
    stored = await find_bank(conn, tenant, bank)
    if upto is not None and seq == upto < stored.seq:
        return seq
    if (stored.seq, stored.last_hash) != (seq, prev):
        raise ChecksumMismatch(f"the ledger of bank {bank} ends at seq {seq} and should end at {stored.seq}")
    return seq


async def _said(conn: AsyncConnection, mine: dict[str, Any], drafts: Sequence[Draft], known: int) -> tuple[dict[str, _Said], int]:
    """Each draft's response by text, new ones in order of first use with the words given; and how many ordinals are given out then.

    The words of a known response stay as they were: events that the weights hold were folded with them.
    """
    given = first_words(drafts)
    digests = {text: response_hash(text) for text in dict.fromkeys(draft.right for draft in drafts)}
    if len(digests) == 1:
        rows = await conn.execute(SAID_ONE, mine | {"digest": next(iter(digests.values()))})
    else:
        whose = (response.c.tenant == mine["of_tenant"], response.c.bank == mine["of_bank"])
        rows = await conn.execute(SAID.where(*whose, response.c.text_hash.in_(list(digests.values()))))
    stored = {row.text_hash: _Said(row.ordinal, row.embedding) for row in rows}
    new = []
    for text, digest in digests.items():
        if digest not in stored:
            stored[digest] = _Said(known, given[text])
            row = {"tenant": mine["of_tenant"], "bank": mine["of_bank"], "ordinal": known}
            new.append(row | {"text": text, "text_hash": digest, "embedding": given[text]})
            known += 1
    if new:
        await conn.execute(ADD_RESPONSE, new)
    return {text: stored[digest] for text, digest in digests.items()}, known
