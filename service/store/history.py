"""The ledger's read side: what to fold, what supports an answer, what to show."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import Column, ColumnElement, Row, Select, and_, bindparam, func, or_, select, union_all
from sqlalchemy.ext.asyncio import AsyncConnection

from service.store.asking import Asking, Values
from service.store.banks import genesis_hash
from service.store.lineage import Spans, holds, newest
from service.store.linking import input_hash, words_hash
from service.store.rows import EventRow, LessonRow, ResponseRow, SameInputRow, SupportRow
from service.store.tables import event, response

CHUNK = 500  # values in one IN list
RANGES = 64  # spans that one statement tells apart
FAR = 2**31 - 1  # above every seq

NEWEST_OF = (
    select(event.c.seq, event.c.id, event.c.embedding, event.c.body)
    .where(event.c.tenant == bindparam("tenant"), event.c.bank == bindparam("bank"), event.c.response == bindparam("ordinal"))
    .where(event.c.redacted_at.is_(None), event.c.seq < bindparam("below"))
    .order_by(event.c.seq.desc())
    .limit(bindparam("limit"))
)


def _newest_same(*conditions: ColumnElement[bool]) -> Select[Any]:
    query = select(event.c.seq, event.c.id, event.c.response)
    query = query.where(event.c.tenant == bindparam("tenant"), event.c.bank == bindparam("bank"), *conditions)
    return query.where(event.c.redacted_at.is_(None), event.c.seq < bindparam("below")).limit(bindparam("limit"))


# Two looks, each into an index of its own that reads no more than it gives; one look for either would read the bank. What was taught before
# words were compared, or by a process of a version that does not, is found by its letters alone, all else by both. The first look is in the
# order of its index, which no other has: a plan that is made for empty tables would as soon read the bank backwards.
_BY_WORDS = _newest_same(event.c.words_hash >= bindparam("words"), event.c.words_hash <= bindparam("words"))
_BY_LETTERS = _newest_same(event.c.input_hash == bindparam("hash"))
SAME_INPUT = select(
    union_all(
        select(_BY_WORDS.order_by(event.c.words_hash.desc(), event.c.seq.desc()).subquery()),
        select(_BY_LETTERS.order_by(event.c.seq.desc()).subquery()),
    ).subquery()
)


class _Input(msgspec.Struct):
    """What is wanted of an event's body."""

    input: str


class Spoken(NamedTuple):
    """A response, how often it is said, and the position of the correction that said it first."""

    response: int
    times: int
    first: int


_BODY = msgspec.msgpack.Decoder(_Input)
_TAUGHT = event.c.kind == "correction"  # what is folded into `Recall`; turns of conversations are the language model's
_SAID = (response.c.tenant == event.c.tenant) & (response.c.bank == event.c.bank) & (response.c.ordinal == event.c.response)


async def lessons(conn: AsyncConnection, tenant: str, bank: str, after: int, upto: int, limit: int) -> list[LessonRow]:
    """The events with `after < seq <= upto` in order, as folding needs them; redacted ones are left out."""
    query = (
        select(event.c.seq, event.c.embedding, event.c.tokens, event.c.response, response.c.text, response.c.embedding)
        .select_from(event.join(response, _SAID))
        .where(*_of(tenant, bank), event.c.seq > after, event.c.seq <= upto, event.c.redacted_at.is_(None))
        .order_by(event.c.seq)
        .limit(limit)
    )
    rows = await conn.execute(query)
    return [LessonRow(seq=row[0], embedding=row[1], tokens=row[2], response=row[3], right=row[4], words=row[5]) for row in rows]


async def spoken(conn: AsyncConnection, tenant: str, bank: str, spans: Spans) -> list[Spoken]:
    """How often each response is said by the corrections at the positions in `spans`, and first at which; redacted ones count, too."""
    if not spans:
        return []
    told = (event.c.response, func.count().label("times"), func.min(event.c.seq).label("first"))
    place: ColumnElement[Any] = event.c.seq + 0  # so that SQLite reads the narrow index by response, and not the wide rows by seq
    mine = (*_of(tenant, bank), event.c.response.is_not(None))
    if len(spans) <= RANGES:
        inside = or_(*(and_(place > after, place <= upto) for after, upto in spans))
        rows = await conn.execute(select(*told).where(*mine, inside).group_by(event.c.response))
        return [Spoken(row[0], row[1], row[2]) for row in rows]
    found: dict[int, Spoken] = {}
    for row in await conn.execute(select(event.c.response, event.c.seq).where(*mine)):
        if holds(spans, row.seq):
            before = found.get(row.response, Spoken(row.response, 0, row.seq))
            found[row.response] = Spoken(row.response, before.times + 1, min(before.first, row.seq))
    return list(found.values())


async def newest_said(conn: AsyncConnection, tenant: str, bank: str, spans: Spans, limit: int) -> list[tuple[int, int]]:
    """`(seq, response)` of the newest corrections at the positions in `spans`, which the ledger has, at most `limit`, in order."""
    said: list[tuple[int, int]] = []
    seqs = newest(spans, limit)
    for start in range(0, len(seqs), CHUNK):
        some = seqs[start : start + CHUNK]
        query = select(event.c.seq, event.c.response).where(*_of(tenant, bank), event.c.seq.in_(some), event.c.response.is_not(None))
        said += [(row[0], row[1]) for row in await conn.execute(query)]
    return sorted(said)


async def worded(conn: AsyncConnection, tenant: str, bank: str) -> set[int]:
    """The ordinals of responses whose own words are taught."""
    query = select(response.c.ordinal).where(response.c.tenant == tenant, response.c.bank == bank, response.c.embedding.is_not(None))
    return set((await conn.execute(query)).scalars())


async def newest_of(conn: AsyncConnection | Asking, tenant: str, bank: str, ordinal: int, limit: int, below: int = FAR) -> list[SupportRow]:
    """The newest unredacted corrections that say a response, newest first, below a seq."""
    values: Values = {"tenant": tenant, "bank": bank, "ordinal": ordinal, "limit": limit, "below": below}
    rows = await conn.execute(NEWEST_OF, values)
    return [SupportRow(seq=row[0], id=row[1], embedding=row[2], input=_BODY.decode(row[3]).input) for row in rows]


async def same_input(conn: AsyncConnection | Asking, tenant: str, bank: str, text: str, limit: int, below: int = FAR) -> list[SameInputRow]:
    """The newest unredacted corrections in the words of an input, newest first, below a seq."""
    place: Values = {"tenant": tenant, "bank": bank, "limit": limit, "below": below}
    values: Values = {**place, "hash": input_hash(text), "words": words_hash(text)}
    found = {row[0]: SameInputRow(seq=row[0], id=row[1], response=row[2]) for row in await conn.execute(SAME_INPUT, values)}
    return [found[seq] for seq in sorted(found, reverse=True)[:limit]]


async def same_inputs(conn: AsyncConnection, tenant: str, bank: str, texts: Sequence[str], limit: int) -> dict[str, list[SameInputRow]]:
    """What `same_input` has, for each of many texts."""
    words, letters = {text: words_hash(text) for text in texts}, {text: input_hash(text) for text in texts}
    by_words = await _hashed(conn, tenant, bank, event.c.words_hash, list(words.values()))
    by_letters = await _hashed(conn, tenant, bank, event.c.input_hash, list(letters.values()), event.c.words_hash.is_(None))
    found = {text: by_words.get(words[text], []) + by_letters.get(letters[text], []) for text in texts}
    return {text: sorted(rows, key=lambda row: -row.seq)[:limit] for text, rows in found.items()}


async def _hashed(
    conn: AsyncConnection, tenant: str, bank: str, column: Column[bytes], hashes: Sequence[bytes], *more: ColumnElement[bool]
) -> dict[bytes, list[SameInputRow]]:
    """The unredacted corrections that have one of the hashes in a column, by hash, in no order: see `later_same_input`."""
    found: dict[bytes, list[SameInputRow]] = {}
    wanted = list(dict.fromkeys(hashes))
    query = select(column, event.c.seq, event.c.id, event.c.response).where(*_of(tenant, bank), event.c.redacted_at.is_(None), *more)
    for start in range(0, len(wanted), CHUNK):
        for row in await conn.execute(query.where(column.in_(wanted[start : start + CHUNK]))):
            found.setdefault(row[0], []).append(SameInputRow(seq=row.seq, id=row.id, response=row.response))
    return found


async def responses(conn: AsyncConnection, tenant: str, bank: str, ordinals: Sequence[int] | None = None) -> list[ResponseRow]:
    """The bank's responses by ordinal, all or the given ones; ordinals of erased responses are missing."""
    query = select(response.c.ordinal, response.c.text).where(response.c.tenant == tenant, response.c.bank == bank)
    query = query.order_by(response.c.ordinal)
    if ordinals is not None:
        query = query.where(response.c.ordinal.in_(list(ordinals)))
    return [ResponseRow(ordinal=row[0], text=row[1]) for row in await conn.execute(query)]


async def by_ids(conn: AsyncConnection, tenant: str, bank: str, ids: Sequence[str], *, turns: bool = False) -> list[EventRow]:
    """The bank's corrections with these ids, and `turns` too, in order of seq; unknown ones are missing."""
    return await _chunked(conn, _events(tenant, bank, turns=turns), event.c.id, ids)


async def by_id(conn: AsyncConnection, tenant: str, id: str) -> EventRow | None:
    """The correction with this id, of whichever bank of the tenant; None if there is none."""
    row = (await conn.execute(_events(tenant).where(event.c.id == id))).first()
    return None if row is None else _event(row)


async def by_seqs(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int], *, turns: bool = False) -> list[EventRow]:
    """The bank's corrections at these positions, and `turns` too, in order."""
    return await _chunked(conn, _events(tenant, bank, turns=turns), event.c.seq, seqs)


async def ids_of_source(conn: AsyncConnection, tenant: str, bank: str, *, session: str | None, key: str | None, limit: int) -> list[str]:
    """The corrections that were taught in a session, or with a key, in order of seq, at most `limit`."""
    query = select(event.c.id).where(*_of(tenant, bank), _taught(session, key)).order_by(event.c.seq).limit(limit)
    return list((await conn.execute(query)).scalars())


async def seqs_of_source(conn: AsyncConnection, tenant: str, bank: str, *, session: str | None, key: str | None) -> list[int]:
    """The positions of all corrections that were taught in a session, or with a key, in order."""
    query = select(event.c.seq).where(*_of(tenant, bank), _taught(session, key)).order_by(event.c.seq)
    return list((await conn.execute(query)).scalars())


async def page(
    conn: AsyncConnection, tenant: str, bank: str, after_seq: int | None, limit: int, descending: bool = False, *, turns: bool = False
) -> list[EventRow]:
    """A page of the corrections after a seq (before it when descending); with `turns` of the whole ledger."""
    query = _events(tenant, bank, turns=turns).order_by(event.c.seq.desc() if descending else event.c.seq).limit(limit)
    if after_seq is not None:
        query = query.where(event.c.seq < after_seq if descending else event.c.seq > after_seq)
    return [_event(row) for row in await conn.execute(query)]


async def later_same_input(conn: AsyncConnection, tenant: str, bank: str, seqs: Sequence[int]) -> dict[int, list[tuple[int, int]]]:
    """For each of the events, the later ones with the same input, as `(seq, response)`."""
    # Not one statement that joins events with events, nor one in an order: SQLite, which knows no figures of its tables, would read the
    # whole bank for either; so it would for the first, had it an index that covers all that is asked for.
    wanted = select(event.c.seq, event.c.input_hash, event.c.response).where(*_of(tenant, bank), event.c.seq.in_(list(seqs)))
    inputs = {row.seq: row.input_hash for row in await conn.execute(wanted) if row.input_hash is not None}
    same = select(event.c.input_hash, event.c.seq, event.c.response).where(*_of(tenant, bank), event.c.input_hash.in_(set(inputs.values())))
    found: dict[bytes, list[tuple[int, int]]] = {}
    for row in await conn.execute(same):
        found.setdefault(row.input_hash, []).append((row.seq, row.response))
    return {seq: sorted(later for later in found.get(inputs.get(seq, b""), []) if later[0] > seq) for seq in seqs}


async def with_its_input(conn: AsyncConnection, tenant: str, bank: str, seq: int) -> list[EventRow]:
    """The events with the same input as the one at a position, that one among them, in order; none if its text was erased."""
    asked = select(event.c.input_hash).where(*_of(tenant, bank), event.c.seq == seq).scalar_subquery()
    query = _events(tenant, bank).where(event.c.input_hash == asked).order_by(event.c.seq)
    return [_event(row) for row in await conn.execute(query)]


async def newest_before(conn: AsyncConnection, tenant: str, bank: str, at: datetime) -> int:
    """The position of the newest event that was there at a time, 0 if none was."""
    query = select(func.max(event.c.seq)).where(*_of(tenant, bank), event.c.created_at <= at)
    return (await conn.execute(query)).scalar() or 0


async def chain_at(conn: AsyncConnection, tenant: str, bank: str, seq: int) -> str | None:
    """The hash of the chain at a position, None if the ledger does not go so far."""
    if seq == 0:
        return genesis_hash(bank)
    return (await conn.execute(select(event.c.hash).where(*_of(tenant, bank), event.c.seq == seq))).scalar()


def _of(tenant: str, bank: str) -> tuple[Any, Any]:
    return event.c.tenant == tenant, event.c.bank == bank


def _taught(session: str | None, key: str | None) -> ColumnElement[bool]:
    return event.c.session == session if key is None else event.c.taught_by == key


def _events(tenant: str, bank: str | None = None, *, turns: bool = False) -> Select[Any]:
    columns = (event, response.c.embedding.label("words"))
    query = select(*columns).select_from(event.outerjoin(response, _SAID))
    query = query.where(*(_of(tenant, bank) if bank else (event.c.tenant == tenant,)))
    return query if turns else query.where(_TAUGHT)


async def _chunked(conn: AsyncConnection, query: Select[Any], column: ColumnElement[Any], values: Sequence[Any]) -> list[EventRow]:
    rows = []
    for start in range(0, len(values), CHUNK):
        rows += [_event(row) for row in await conn.execute(query.where(column.in_(list(values[start : start + CHUNK]))))]
    return sorted(rows, key=lambda row: row.seq)


def _event(row: Row[Any]) -> EventRow:
    body = msgspec.msgpack.decode(row.body) if row.body is not None else {}
    return EventRow(
        id=row.id,
        bank=row.bank,
        seq=row.seq,
        epoch=row.epoch,
        kind=row.kind,
        session_id=row.session,
        response=row.response,
        input=body.get("input"),
        wrong=body.get("wrong"),
        right=body.get("right"),
        metadata=body.get("metadata"),
        embedding=row.embedding,
        tokens=row.tokens,
        content_hash=row.content_hash,
        prev_hash=row.prev_hash,
        hash=row.hash,
        created_at=row.created_at,
        redacted_at=row.redacted_at,
        words=row.words,
        taught_by=row.taught_by,
    )
