"""Corrections as rows: what is written for them, and the hash chain that shows whether a row was changed. Pure functions.

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
from typing import Any

import msgspec

from service.store.rows import Draft, EventRow
from service.store.wording import same_words

BODY_VERSION = 1


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


def words_hash(text: str) -> bytes:
    """By which inputs of the same words are found (`wording.same_words`); goes when the event is redacted."""
    return hashlib.sha256(same_words(text).encode()).digest()[:16]


def link(
    tenant: str, bank: str, drafts: Sequence[Draft], ordinals: Mapping[str, int], first: int, epoch: int, prev: str, now: datetime
) -> list[dict[str, Any]]:
    """The rows of `event` for corrections that follow each other from `first` on, behind the row whose hash is `prev`."""
    rows: list[dict[str, Any]] = []
    for seq, draft in enumerate(drafts, start=first):
        rows.append(_row(tenant, bank, draft, seq, epoch, ordinals[draft.right], prev, now))
        prev = rows[-1]["hash"]
    return rows


def told(drafts: Sequence[Draft], first: int) -> dict[str, Any]:
    """What the feed tells of corrections that were appended."""
    return {"corrections": [draft.id for draft in drafts], "first_seq": first, "last_seq": first + len(drafts) - 1}


def used_sessions(drafts: Sequence[Draft]) -> list[str]:
    """The sessions that they were taught in, in one order, so that two writers never wait for each other."""
    return sorted({draft.session_id for draft in drafts if draft.session_id})


def response_hash(text: str) -> bytes:
    """By which a response is found."""
    return hashlib.sha256(text.encode()).digest()


def first_words(drafts: Sequence[Draft]) -> dict[str, bytes | None]:
    """For each response the words that the first draft which says it brings: they are the ones that count."""
    return {draft.right: draft.words for draft in reversed(drafts)}


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
        "words_hash": words_hash(draft.input),
        "tokens": draft.tokens,
        "content_hash": content,
        "prev_hash": prev,
        "created_at": now,
        "taught_by": draft.taught_by,
    }
    return row | {"hash": chain_hash(prev, row, content)}


def event_of(draft: Draft, values: Mapping[str, Any], words: bytes | None) -> EventRow:
    """The correction as it was appended."""
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
