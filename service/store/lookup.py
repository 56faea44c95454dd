"""What people look up of a bank's ledger: its texts by a part of them, and its course in time.

Beside each event lies a row of `lookup`, made in the transaction that appends the event: its texts folded to one form (so that both
dialects find the same, by reading the bank's rows through), when it was taught, and, written a moment later, what the memory said before.
The text goes when the event is redacted, and is not found from the moment on that the correction was forgotten, in whatever mode.

What is counted has no text in it and stays.
"""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import BigInteger, Executable, bindparam, case, func, insert, literal_column, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service import wire
from service.store.rows import EventRow
from service.store.snapshots import get_snapshot
from service.store.tables import drift, lookup, tombstone

WIDTHS = {"hour": (3_600, 0), "day": (86_400, 0), "week": (604_800, 259_200)}  # seconds, and by how many 1970 began after a Monday

NOTE = (
    update(lookup)
    .where(lookup.c.tenant == bindparam("of_tenant"), lookup.c.bank == bindparam("of_bank"), lookup.c.seq == bindparam("at_seq"))
    .where(lookup.c.said_before.is_(None))
    .values(said_before=bindparam("said"), surprise=bindparam("how_much"))
)


class Before(NamedTuple):
    """What the memory said to an event's input before it was taught: right, wrong or nothing; and its surprise, 0 to 1."""

    seq: int
    said: str
    surprise: float


class Counted(NamedTuple):
    """A span of time: how many events, how many of them were measured, and of these how many went wrong or met silence."""

    place: int  # number of the bucket
    corrections: int
    measured: int
    mistakes: int
    unknown: int
    surprise: float | None


class Drifted(NamedTuple):
    """How far each level was from the snapshot before when one was taken."""

    created_at: datetime
    levels: dict[str, float]


def notes(tenant: str, bank: str, measured: Sequence[Before]) -> list[tuple[Executable, dict[str, Any]]]:
    """The statements that write down what was said before, with their values; a second time changes nothing."""
    mine = {"of_tenant": tenant, "of_bank": bank}
    return [(NOTE, mine | {"at_seq": each.seq, "said": each.said, "how_much": each.surprise}) for each in measured]


async def search(conn: AsyncConnection, tenant: str, bank: str, words: Sequence[str], before_seq: int | None, limit: int) -> list[int]:
    """The seqs of events whose texts hold all the words (`words_of`), newest first; forgotten ones are not found."""
    forgotten = select(tombstone.c.seq).where(tombstone.c.tenant == tenant, tombstone.c.bank == bank)
    query = select(lookup.c.seq).where(lookup.c.tenant == tenant, lookup.c.bank == bank, lookup.c.seq.not_in(forgotten))
    for word in words:
        query = query.where(lookup.c.text.contains(word, autoescape=True))
    if before_seq is not None:
        query = query.where(lookup.c.seq < before_seq)
    return list((await conn.execute(query.order_by(lookup.c.seq.desc()).limit(limit))).scalars())


async def course(conn: AsyncConnection, tenant: str, bank: str, bucket: wire.Bucket, since: datetime, until: datetime) -> list[Counted]:
    """The events of `since <= at < until` in the buckets that have any, oldest first."""
    width_s, shift_s = WIDTHS[bucket]
    place = ((lookup.c.at + literal_column(str(shift_s), BigInteger)) // literal_column(str(width_s), BigInteger)).label("bucket")
    wrong, nothing = (func.count(case((lookup.c.said_before == said, 1))) for said in ("wrong", "nothing"))
    query = select(place, func.count(), func.count(lookup.c.said_before), wrong, nothing, func.avg(lookup.c.surprise))
    query = query.where(lookup.c.tenant == tenant, lookup.c.bank == bank)
    query = query.where(lookup.c.at >= math.ceil(since.timestamp()), lookup.c.at < math.ceil(until.timestamp()))
    return [Counted(*row) for row in await conn.execute(query.group_by(literal_column("bucket")).order_by(literal_column("bucket")))]


async def add_drift(conn: AsyncConnection, tenant: str, bank: str, snapshot: str, levels: dict[str, float], now: datetime) -> None:
    """Write down how far each level is from the snapshot before; `NotFound` if the bank has no such snapshot."""
    await get_snapshot(conn, tenant, snapshot, bank)
    await conn.execute(insert(drift).values(tenant=tenant, bank=bank, snapshot=snapshot, levels=levels, created_at=now))


async def drifts(conn: AsyncConnection, tenant: str, bank: str, since: datetime, until: datetime) -> list[Drifted]:
    """Those of `since <= created_at < until`, oldest first."""
    query = select(drift.c.created_at, drift.c.levels).where(drift.c.tenant == tenant, drift.c.bank == bank)
    query = query.where(drift.c.created_at >= since, drift.c.created_at < until).order_by(drift.c.created_at)
    return [Drifted(*row) for row in await conn.execute(query)]


def beside(tenant: str, event: EventRow) -> dict[str, Any]:
    """The row for an event that is appended in the same transaction."""
    return {"tenant": tenant, "bank": event.bank, "seq": event.seq, "at": int(event.created_at.timestamp()), "text": searched(event)}


def words_of(asked: str) -> list[str]:
    """What has to be found, in the form of `searched`."""
    return list(dict.fromkeys(_folded(asked).split()))


def searched(row: EventRow) -> str:
    """All texts of an event in the form in which they are searched."""
    return _folded("\n".join(text for text in (row.input, row.right, row.wrong, *_strings(row.metadata)) if text))


def place_of(at: datetime, bucket: wire.Bucket) -> int:
    """The number of the bucket that a time is in."""
    width_s, shift_s = WIDTHS[bucket]
    return (math.floor(at.timestamp()) + shift_s) // width_s


def beginning(place: int, bucket: wire.Bucket) -> datetime:
    """When the bucket of a number begins."""
    width_s, shift_s = WIDTHS[bucket]
    return datetime.fromtimestamp(place * width_s - shift_s, UTC)


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", text).casefold()


def _strings(value: object) -> Iterator[str]:
    """Names and values in metadata, in order."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield str(name)
            yield from _strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)
    elif value is not None:
        yield str(value)
