"""Turns of conversations: events of the ledger as corrections are, in the same order and the same hash chain.

A turn says what the user said (`input`) and, where the client gave it, what was right to answer (`right`). It has no response and no
embedding: only the bank's language model learns from it. Whatever forgets, quarantines, rolls back or erases events does it to turns.
"""

import secrets
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import NamedTuple

import msgspec
from sqlalchemy import ColumnElement, func, insert, literal, literal_column, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import NotOwner
from service.store import sessions
from service.store.ledger import AlreadyTaught
from service.store.linking import BODY_VERSION, chain_hash, content_hash
from service.store.tables import bank as banks
from service.store.tables import event

TURN = "turn"
EVER = datetime.min.replace(tzinfo=UTC)


class TurnDraft(NamedTuple):
    """A turn that is about to be appended; `tokens` are the language model's."""

    id: str
    session_id: str | None
    input: str
    right: str | None
    tokens: int
    taught_by: str


class Place(NamedTuple):
    """Where a turn stands in the ledger."""

    seq: int
    hash: str


class Said(NamedTuple):
    """What an event says to the language model."""

    seq: int
    turn: bool  # else it is a correction
    input: str
    right: str | None


_INDEXED: ColumnElement[str] = literal_column("'turn'")  # a bound value would not find the index that has turns alone


class _Words(msgspec.Struct):
    input: str
    right: str | None = None


_BODY = msgspec.msgpack.Decoder(_Words)


async def append(conn: AsyncConnection, tenant: str, bank: str, draft: TurnDraft, *, epoch: int, head_version: int, now: datetime) -> Place:
    """Append the turn, fenced as `ledger.append` is.

    Raises:
        NotOwner: the bank has another epoch or head, or is gone; nothing was written. AlreadyTaught: its id is in the ledger.
    """
    mine = (banks.c.tenant == tenant) & (banks.c.id == bank)
    fence = (banks.c.epoch == epoch) & (banks.c.head_version == head_version)
    taken = update(banks).where(mine, fence)
    taken = taken.values(
        seq=banks.c.seq + 1,
        debt_tokens=banks.c.debt_tokens + draft.tokens,
        debt_events=banks.c.debt_events + 1,
        debt_since=func.coalesce(banks.c.debt_since, literal(now, banks.c.debt_since.type)),
    )
    row = (await conn.execute(taken.returning(banks.c.seq, banks.c.last_hash))).first()
    if row is None:
        raise NotOwner()
    body = msgspec.msgpack.encode({"v": BODY_VERSION, "input": draft.input, "wrong": None, "right": draft.right, "metadata": {}})
    salt = secrets.token_bytes(16)
    content = content_hash(salt, body, b"")
    values = {
        "tenant": tenant,
        "bank": bank,
        "seq": row.seq,
        "id": draft.id,
        "epoch": epoch,
        "kind": TURN,
        "session": draft.session_id,
        "response": None,
        "body": body,
        "embedding": b"",
        "salt": salt,
        "input_hash": None,  # by this and the next equal situations are found: a turn is none
        "words_hash": None,
        "tokens": draft.tokens,
        "content_hash": content,
        "prev_hash": row.last_hash,
        "created_at": now,
        "taught_by": draft.taught_by,
    }
    values["hash"] = chain_hash(row.last_hash, values, content)
    try:
        await conn.execute(insert(event).values(values))
    except IntegrityError as error:  # seqs are given out under the row's lock, so it is the id
        raise AlreadyTaught() from error
    await conn.execute(update(banks).where(mine).values(last_hash=values["hash"]))
    if draft.session_id is not None:
        await sessions.open_session(conn, tenant, bank, draft.session_id, now=now, before=EVER)
    return Place(row.seq, values["hash"])


async def said(conn: AsyncConnection, tenant: str, bank: str, after: int, upto: int, limit: int) -> list[Said]:
    """What the events with `after < seq <= upto` say, in order; redacted ones are left out."""
    query = select(event.c.seq, event.c.kind, event.c.body).where(event.c.tenant == tenant, event.c.bank == bank)
    query = query.where(event.c.seq > after, event.c.seq <= upto, event.c.redacted_at.is_(None)).order_by(event.c.seq).limit(limit)
    return [_said(*row) for row in await conn.execute(query)]


async def seqs(conn: AsyncConnection, tenant: str, bank: str, upto: int) -> list[int]:
    """The positions of all turns up to a seq, in order, redacted ones too."""
    query = select(event.c.seq).where(event.c.tenant == tenant, event.c.bank == bank, event.c.kind == _INDEXED, event.c.seq <= upto)
    return list((await conn.execute(query.order_by(event.c.seq))).scalars())


async def known(conn: AsyncConnection, tenant: str, bank: str, ids: Sequence[str], *, since: datetime) -> tuple[str, int] | None:
    """Id and position of the turn that has the first of the ids, or was said `since` then under another of them."""
    mine = (event.c.tenant == tenant) & (event.c.bank == bank) & event.c.id.in_(ids)
    query = select(event.c.id, event.c.seq).where(mine, (event.c.id == ids[0]) | (event.c.created_at >= since))
    row = (await conn.execute(query.order_by(event.c.seq.desc()).limit(1))).first()
    return None if row is None else (row.id, row.seq)


def _said(seq: int, kind: str, body: bytes) -> Said:
    words = _BODY.decode(body)
    return Said(seq, kind == TURN, words.input, words.right)
