"""Appending what is taught: one transaction of its own, in one go.

What a correction writes is always the same: the bank's row, the event, its response if that is new, what is looked up beside it, the change
for the feed, its session, its Idempotency-Key. On a SQLite file that is `ledger.append`, over the connection of short changes.

On PostgreSQL it is one message. Its rows are made before it is sent, from what the bank's owner believes of its ledger (`Believed`), and
its statement checks every part of that: epoch, head, the end of the chain, the ordinals of the responses. If anything is not so, nothing
is written and the owner has to look. The bank's row is locked by a statement before it, so that the one that checks sees what whoever had
the lock before has written: its redaction, perhaps, of a response that is about to be said again.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from msgspec import structs
from psycopg.types.numeric import Int4, Int8
from sqlalchemy import BigInteger, Integer, String, Table
from sqlalchemy.dialects.postgresql.psycopg import dialect

from service.errors import IdempotencyInFlight, NotOwner
from service.ids import new_id
from service.store import idempotency, ledger
from service.store.db import Database
from service.store.linking import event_of, first_words, link, response_hash, told, used_sessions
from service.store.lookup import beside
from service.store.rows import BankRow, Draft, EventRow
from service.store.tables import event, lookup, response

Check = Callable[[Sequence[EventRow]], None]

LOCK = "SELECT FROM bank WHERE tenant = %(tenant)s::text AND id = %(bank)s::text FOR NO KEY UPDATE"
SAYS = ("ordinal", "text", "text_hash", "embedding")
EVENT = tuple(column.name for column in event.columns if column.name not in ("tenant", "bank", "redacted_at"))
BESIDE = ("seq", "at", "text")


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a bank's ledger ends: what the next append goes on from."""

    seq: int
    last_hash: str
    responses: int  # ordinals given out

    @classmethod
    def of(cls, bank: BankRow) -> "Tail":
        """Of the bank as it was read."""
        return cls(bank.seq, bank.last_hash, bank.responses)

    def after(self, events: Sequence[EventRow]) -> "Tail":
        """Once these were appended."""
        said = max(event.response for event in events if event.response is not None)
        return Tail(events[-1].seq, events[-1].hash, max(self.responses, said + 1))


@dataclass(frozen=True, slots=True)
class Believed:
    """What a bank's owner knows of it: its fence, the end of its ledger, and of the responses that are to be said those that it has."""

    epoch: int
    head_version: int
    tail: Tail
    ordinals: Mapping[str, int]


class Appending:
    """Appends corrections to banks, each time in a transaction of its own."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def append(
        self, tenant: str, bank: str, drafts: Sequence[Draft], believed: Believed, *, key: str | None, check: Check, now: datetime
    ) -> list[EventRow]:
        """Append the corrections in order, all or none, and mark the Idempotency-Key `key` as committed; durable on return.

        `check` is shown the rows before they are kept, and may raise.

        Raises:
            NotOwner: the bank is not what its owner believes. AlreadyTaught: one of the ids is in the ledger.
            IdempotencyInFlight: another request with the key was quicker. In all these cases nothing was kept.
            CommitUnknown: the connection broke before the answer came.
        """
        if self._database.dialect == "sqlite":
            return await self._to_a_file(tenant, bank, drafts, believed, key=key, check=check, now=now)
        return await self._to_a_server(tenant, bank, drafts, believed, key=key, check=check, now=now)

    async def _to_a_file(
        self, tenant: str, bank: str, drafts: Sequence[Draft], believed: Believed, *, key: str | None, check: Check, now: datetime
    ) -> list[EventRow]:
        async def work(conn: Any) -> list[EventRow]:  # noqa: ANN401
            fence = {"epoch": believed.epoch, "head_version": believed.head_version}
            rows = await ledger.append(conn, tenant, bank, drafts, **fence, now=now)
            if rows[0].seq != believed.tail.seq + 1:
                raise NotOwner()  # the ledger has what its owner lacks, as after a commit whose outcome was unknown
            check(rows)
            if key is not None:
                await idempotency.mark_committed(conn, tenant, key, bank=bank, first_seq=rows[0].seq, last_seq=rows[-1].seq)
            return rows

        return await self._database.at_once(tenant, work)

    async def _to_a_server(
        self, tenant: str, bank: str, drafts: Sequence[Draft], believed: Believed, *, key: str | None, check: Check, now: datetime
    ) -> list[EventRow]:
        tail, given = believed.tail, first_words(drafts)
        new = [text for text in dict.fromkeys(draft.right for draft in drafts) if text not in believed.ordinals]
        ordinals = {**believed.ordinals, **{text: tail.responses + place for place, text in enumerate(new)}}
        events = link(tenant, bank, drafts, ordinals, tail.seq + 1, believed.epoch, tail.last_hash, now)
        rows = [event_of(draft, values, given[draft.right]) for draft, values in zip(drafts, events, strict=True)]
        check(rows)
        said = [{"ordinal": ordinals[text], "text": text, "text_hash": response_hash(text), "embedding": given[text]} for text in new]
        old = [(believed.ordinals[text], response_hash(text)) for text in given if text in believed.ordinals]
        values = _whose(tenant, bank, believed) | _ends(rows, drafts, key, now)
        values |= {"old_ordinal": [Int4(ordinal) for ordinal, _ in old], "old_text_hash": [digest for _, digest in old]}
        values |= {"old": Int4(len(old)), "responses": Int4(tail.responses + len(new))}
        values |= _arrays("said", response, SAYS, said) | _arrays("written", event, EVENT, events)
        values |= _arrays("looked_up", lookup, BESIDE, [beside(tenant, row) for row in rows])
        try:
            found = await self._database.send(tenant, [(LOCK, {"tenant": tenant, "bank": bank}), (APPEND, values)])
        except psycopg.errors.UniqueViolation as error:  # ordinals are given out under the row's lock, so it is an id
            if error.diag.constraint_name == "uq_event_id":
                raise ledger.AlreadyTaught() from error
            raise NotOwner() from error  # a response that the owner does not know
        moved, pending = found[0][:2]
        if not moved:
            raise NotOwner() if key is None or pending else IdempotencyInFlight(retry_after_s=1)
        words = {ordinal: embedding for _, _, ordinal, embedding in found if ordinal is not None}
        return [structs.replace(row, words=words[row.response]) if row.response in words else row for row in rows]


def _whose(tenant: str, bank: str, believed: Believed) -> dict[str, Any]:
    tail = believed.tail
    fence = {"epoch": Int4(believed.epoch), "head_version": Int4(believed.head_version)}
    return {"tenant": tenant, "bank": bank, **fence, "seq": Int4(tail.seq), "hash": tail.last_hash, "known": Int4(tail.responses)}


def _ends(rows: Sequence[EventRow], drafts: Sequence[Draft], key: str | None, now: datetime) -> dict[str, Any]:
    return {
        "first": Int4(rows[0].seq),
        "last": Int4(rows[-1].seq),
        "last_hash": rows[-1].hash,
        "events": Int4(len(rows)),
        "tokens": Int4(sum(row.tokens for row in rows)),
        "sessions": used_sessions(drafts),
        "key": key,
        "change": new_id("chg"),
        "told": json.dumps(told(drafts, rows[0].seq)),
        "now": now,
    }


def _arrays(name: str, table: Table, columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The values of rows column by column. Numbers have their column's width, so that a larger one is no other statement."""
    arrays: dict[str, list[Any]] = {}
    for column in columns:
        kind = table.c[column].type
        wide: Callable[[Any], Any] = Int8 if isinstance(kind, BigInteger) else Int4 if isinstance(kind, Integer) else _as_it_is
        arrays[f"{name}_{column}"] = [None if row[column] is None else wide(row[column]) for row in rows]
    return arrays


def _as_it_is(value: Any) -> Any:  # noqa: ANN401
    return value


def _add(name: str, table: Table, columns: Sequence[str]) -> str:
    """The part of the statement that adds rows to a table once the bank's row was moved on."""
    arrays = ", ".join(f"%({name}_{column})s::{_type(table, column)}[]" for column in columns)
    names = ", ".join(f'"{column}"' for column in columns)
    return (
        f'{name} AS (INSERT INTO "{table.name}" (tenant, bank, {names})'  # noqa: S608 (names of ours)
        f" SELECT %(tenant)s::text, %(bank)s::text, added.* FROM moved, unnest({arrays}) AS added ({names}))"
    )


def _type(table: Table, column: str) -> str:
    """The type of a column's values; of texts without a length, to which a cast would cut them."""
    kind = table.c[column].type
    return "TEXT" if isinstance(kind, String) else kind.compile(dialect=_DIALECT)


_DIALECT = dialect()  # type: ignore[no-untyped-call]
_OWN = "tenant = %(tenant)s::text AND bank = %(bank)s::text"
# `old`: each by a whole key, also in a table of few rows (LIMIT keeps the planner from joining them in another way).
_KEYED = "tenant = %(tenant)s::text AND key = %(key)s::text AND status = 'pending'"
APPEND = f"""
WITH pending AS MATERIALIZED (SELECT 1 FROM idempotency WHERE {_KEYED} FOR UPDATE),
old AS MATERIALIZED (
  SELECT said.* FROM unnest(%(old_ordinal)s::integer[], %(old_text_hash)s::bytea[]) AS quoted (place, hash),
    LATERAL (SELECT ordinal, embedding FROM response WHERE {_OWN} AND ordinal = quoted.place AND text_hash = quoted.hash LIMIT 1) AS said
),
moved AS (
  UPDATE bank SET seq = %(last)s, last_hash = %(last_hash)s::text, responses = %(responses)s,
    debt_tokens = debt_tokens + %(tokens)s, debt_events = debt_events + %(events)s, debt_since = coalesce(debt_since, %(now)s::timestamptz)
  WHERE tenant = %(tenant)s::text AND id = %(bank)s::text AND epoch = %(epoch)s AND head_version = %(head_version)s
    AND seq = %(seq)s AND last_hash = %(hash)s::text AND responses = %(known)s
    AND (SELECT count(*) FROM old) = %(old)s
    AND (%(key)s::text IS NULL OR EXISTS (SELECT FROM pending))
  RETURNING 1
),
{_add("said", response, SAYS)},
{_add("written", event, EVENT)},
{_add("looked_up", lookup, BESIDE)},
changed AS (
  INSERT INTO change (tenant, id, kind, bank, data, created_at)
  SELECT %(tenant)s::text, %(change)s::text, 'correction.created', %(bank)s::text, %(told)s::json, %(now)s::timestamptz FROM moved
),
used AS (
  INSERT INTO session (tenant, bank, id, created_at, last_used_at)
  SELECT %(tenant)s::text, %(bank)s::text, name, %(now)s::timestamptz, %(now)s::timestamptz FROM moved, unnest(%(sessions)s::text[]) AS name
  ON CONFLICT (tenant, bank, id) DO UPDATE SET last_used_at = excluded.last_used_at
),
marked AS (
  UPDATE idempotency SET status = 'committed', bank = %(bank)s::text, first_seq = %(first)s, last_seq = %(last)s FROM moved WHERE {_KEYED}
)
SELECT EXISTS (SELECT FROM moved), EXISTS (SELECT FROM pending), old.ordinal, old.embedding FROM (VALUES (1)) AS once LEFT JOIN old ON true
"""  # noqa: S608 (names of ours)
