"""The ledger's write side: the fenced append, and the hash chain that shows whether a row was changed.

    content_hash = SHA-256(salt ‖ body ‖ embedding)
    hash         = SHA-256(prev_hash ‖ JSON [seq, id, kind, epoch, response, tokens, content_hash, created_at])

So everything that an event brings to the weights is covered. The embedding of a response's own words is not: it follows from the response's
text, which the body of its first event holds.

An erased row keeps its content_hash and loses salt, body and embedding, so the chain still verifies, and nothing about the text can be
guessed from the hash.
"""

import hashlib
import secrets
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from sqlalchemy import func, insert, literal, select, update
from sqlalchemy.dialects.postgresql import insert as upsert_postgresql
from sqlalchemy.dialects.sqlite import insert as upsert_sqlite
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import ChecksumMismatch, NotOwner, PalimpsestError
from service.store import changes
from service.store.banks import find_bank, genesis_hash
from service.store.lookup import beside
from service.store.rows import Draft, EventRow
from service.store.tables import bank as banks
from service.store.tables import event, lookup, response, session

BODY_VERSION = 1
PAGE = 1_000


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
    mine = (banks.c.tenant == tenant) & (banks.c.id == bank)
    fence = (banks.c.epoch == epoch) & (banks.c.head_version == head_version)
    taken = update(banks).where(mine, fence)
    taken = taken.values(
        seq=banks.c.seq + len(drafts),
        debt_tokens=banks.c.debt_tokens + sum(draft.tokens for draft in drafts),
        debt_events=banks.c.debt_events + len(drafts),
        debt_since=func.coalesce(banks.c.debt_since, literal(now, banks.c.debt_since.type)),
    )
    row = (await conn.execute(taken.returning(banks.c.seq, banks.c.last_hash, banks.c.responses))).first()
    if row is None:
        raise NotOwner()
    said, known = await _said(conn, tenant, bank, drafts, row.responses)
    first, prev = row.seq - len(drafts) + 1, row.last_hash
    rows = []
    for seq, draft in enumerate(drafts, start=first):
        rows.append(_row(tenant, bank, draft, seq, epoch, said[draft.right].ordinal, prev, now))
        prev = rows[-1]["hash"]
    try:
        await conn.execute(insert(event), rows)
    except IntegrityError as error:  # seqs are given out under the row's lock, so it is an id
        raise AlreadyTaught() from error
    await conn.execute(update(banks).where(mine).values(last_hash=prev, responses=known))
    told = {"corrections": [draft.id for draft in drafts], "first_seq": first, "last_seq": row.seq}
    await changes.emit(conn, tenant, "correction.created", bank, told, now)
    await _touch_sessions(conn, tenant, bank, {draft.session_id for draft in drafts if draft.session_id}, now)
    events = [_event(draft, values, said[draft.right].words) for draft, values in zip(drafts, rows, strict=True)]
    await conn.execute(insert(lookup), [beside(tenant, row) for row in events])
    return events


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


def content_hash(salt: bytes, body: bytes, embedding: bytes) -> str:
    """What a row's hash says about its content."""
    return hashlib.sha256(salt + body + embedding).hexdigest()


def chain_hash(prev: str, row: Mapping[str, Any], content_hash: str) -> str:
    """A row's link to the one before it."""
    created_at = row["created_at"].astimezone(UTC).isoformat(timespec="microseconds")
    told = [row[name] for name in ("seq", "id", "kind", "epoch", "response", "tokens")]
    return hashlib.sha256(prev.encode() + msgspec.json.encode([*told, content_hash, created_at])).hexdigest()


def input_hash(text: str) -> bytes:
    """By which equal inputs are found; goes when the event is redacted."""
    return hashlib.sha256(text.encode()).digest()[:16]


def _row(tenant: str, bank: str, draft: Draft, seq: int, epoch: int, ordinal: int, prev: str, now: datetime) -> dict[str, Any]:
    body = msgspec.msgpack.encode(
        {"v": BODY_VERSION, "input": draft.input, "wrong": draft.wrong, "right": draft.right, "metadata": draft.metadata}
    )
    salt = secrets.token_bytes(16)
    content = content_hash(salt, body, draft.embedding)
    row = {
        "tenant": tenant,
        "bank": bank,
        "seq": seq,
        "id": draft.id,
        "epoch": epoch,
        "kind": "correction",
        "session": draft.session_id,
        "response": ordinal,
        "body": body,
        "embedding": draft.embedding,
        "salt": salt,
        "input_hash": input_hash(draft.input),
        "tokens": draft.tokens,
        "content_hash": content,
        "prev_hash": prev,
        "created_at": now,
        "taught_by": draft.taught_by,
    }
    return row | {"hash": chain_hash(prev, row, content)}


def _event(draft: Draft, values: dict[str, Any], words: bytes | None) -> EventRow:
    return EventRow(
        id=draft.id,
        bank=values["bank"],
        seq=values["seq"],
        epoch=values["epoch"],
        kind=values["kind"],
        session_id=draft.session_id,
        response=values["response"],
        input=draft.input,
        wrong=draft.wrong,
        right=draft.right,
        metadata=draft.metadata,
        embedding=draft.embedding,
        tokens=draft.tokens,
        content_hash=values["content_hash"],
        prev_hash=values["prev_hash"],
        hash=values["hash"],
        created_at=values["created_at"],
        redacted_at=None,
        words=words,
        taught_by=values["taught_by"],
    )


async def _said(conn: AsyncConnection, tenant: str, bank: str, drafts: Sequence[Draft], known: int) -> tuple[dict[str, _Said], int]:
    """Each draft's response by text, new ones in order of first use with the words given; and how many ordinals are given out then.

    The words of a known response stay as they were: events that the weights hold were folded with them.
    """
    given = {draft.right: draft.words for draft in reversed(drafts)}  # the first draft that says a response is the one that counts
    digests = {text: hashlib.sha256(text.encode()).digest() for text in dict.fromkeys(draft.right for draft in drafts)}
    query = select(response.c.text_hash, response.c.ordinal, response.c.embedding)
    query = query.where(response.c.tenant == tenant, response.c.bank == bank, response.c.text_hash.in_(list(digests.values())))
    stored = {row.text_hash: _Said(row.ordinal, row.embedding) for row in await conn.execute(query)}
    new = []
    for text, digest in digests.items():
        if digest not in stored:
            stored[digest] = _Said(known, given[text])
            new.append({"tenant": tenant, "bank": bank, "ordinal": known, "text": text, "text_hash": digest, "embedding": given[text]})
            known += 1
    if new:
        await conn.execute(insert(response), new)
    return {text: stored[digest] for text, digest in digests.items()}, known


async def _touch_sessions(conn: AsyncConnection, tenant: str, bank: str, ids: set[str], now: datetime) -> None:
    upsert = upsert_sqlite if conn.dialect.name == "sqlite" else upsert_postgresql
    for name in sorted(ids):  # in one order, so that two writers never wait for each other
        statement = upsert(session).values(tenant=tenant, bank=bank, id=name, created_at=now, last_used_at=now)
        await conn.execute(statement.on_conflict_do_update(index_elements=["tenant", "bank", "id"], set_={"last_used_at": now}))
