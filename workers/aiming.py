"""Aiming: which events the state that a rollback leads to has to hold. Arithmetic on the bank's lineage; nothing is folded here.

A rollback may lead to any set of live events of the ledger, since the weights are a fold over it: those of a snapshot, those of a moment,
those that did not come from somewhere, and chosen ones besides. What was exactly forgotten is in none of them; what is in quarantine may
belong to one, and comes into its weights when the quarantine is lifted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from service import wire
from service.errors import Conflict, Invalid, NotFound
from service.store import history, snapshots
from service.store.db import Database
from service.store.lineage import Spans, above, among, live, normal, only, subtract
from service.store.rows import SnapshotRow
from workers.replay import Lineage
from workers.versions import refuse_tainted

LATEST = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Origin:
    """What a state of another moment grows from: the snapshot `first`, or else what grew from the `head` of then; when that was."""

    at: datetime
    head: str | None = None
    first: str | None = None


@dataclass(frozen=True, slots=True)
class Aim:
    """What a rollback leads to."""

    spans: Spans  # exactly the events that the new state holds
    held: Spans  # quarantined events that belong to it and are not in its weights
    name: str  # for the head's history and the audit
    snapshot: SnapshotRow | None  # whose weights are these, as they were saved
    origin: Origin | None  # None: it grows from the present head
    bases: tuple[SnapshotRow, ...]  # what it may be folded from, in this order
    sleeps: tuple[int, ...]  # where its language model has slept


@dataclass(frozen=True, slots=True)
class _Base:
    """A state to which corrections may be added that came after its position `seq`."""

    spans: Spans  # with those that are in quarantine
    seq: int
    name: str
    sleeps: tuple[int, ...]
    snapshot: SnapshotRow | None = None
    origin: Origin | None = None


async def aim(database: Database, tenant: str, found: Lineage, request: wire.RollbackRequest) -> Aim:
    """Where the request leads in the bank as it was `found`.

    Raises:
        NotFound: no such snapshot, correction or source in this bank, or no bank at that time. TaintedSnapshot: as `refuse_tainted`.
        Conflict: a chosen correction was forgotten, or is in quarantine. Invalid: what was asked for has no meaning.
    """
    base = await _base(database, tenant, found, request)
    spans = base.spans
    if request.keep == "corrections_after":
        spans = normal((*spans, *above(subtract(found.whole, _gone(found)), base.seq)))
    elif not isinstance(request.keep, str):
        spans = normal((*spans, *only(await _chosen(database, tenant, found, request.keep))))
    apart = [row.seq for row in found.quarantined]
    spans, held = subtract(spans, apart), among(spans, apart)
    saved = base.snapshot if base.snapshot is not None and base.snapshot.spans == spans else None
    bases = await bases_of(database, tenant, found, base.origin)
    return Aim(spans, held, base.name, saved, base.origin, bases, base.sleeps)


async def bases_of(database: Database, tenant: str, found: Lineage, origin: Origin | None) -> tuple[SnapshotRow, ...]:
    """The snapshots that a state may be folded from, those that it grows from first.

    No other has a slow level that came later: a state of before a consolidation is not what that made of it.
    """
    if origin is None:
        return found.bases
    async with database.read(tenant) as conn:
        heads = {row.snapshot: row.created_at for row in await snapshots.heads(conn, tenant, found.bank.id)}
        first = [] if origin.first is None else [await snapshots.get_kept(conn, tenant, origin.first, found.bank.id)]

    def head_of(row: SnapshotRow) -> str:
        """The head whose slow level it has."""
        return row.id if row.id in heads or row.parent is None else row.parent

    head = head_of(first[0]) if first else origin.head
    rest = [row for row in found.bases if row.id != origin.first and heads.get(head_of(row), LATEST) <= origin.at]
    return (*first, *sorted(rest, key=lambda row: head_of(row) != head))  # stable: newest first


async def _base(database: Database, tenant: str, found: Lineage, request: wire.RollbackRequest) -> _Base:
    if request.to is not None:
        async with database.read(tenant) as conn:
            target = await snapshots.get_snapshot(conn, tenant, request.to, found.bank.id)
        refuse_tainted(target, list(found.tombstones))
        origin = Origin(target.created_at, first=target.id)
        return _Base(_belonging(target, found), target.seq, target.id, target.sleeps, target, origin)
    if request.to_time is not None:
        return await _at_time(database, tenant, found, request.to_time)
    if request.source is None:
        raise Invalid("to, to_time or source has to be given")
    if request.keep == "corrections_after":
        raise Invalid("keep: nothing comes after a source; it takes none or chosen corrections")
    return await _without_source(database, tenant, found, request.source)


async def _at_time(database: Database, tenant: str, found: Lineage, at: datetime) -> _Base:
    bank = found.bank
    async with database.read(tenant) as conn:
        head = await snapshots.head_at(conn, tenant, bank.id, at)
        newest = await history.newest_before(conn, tenant, bank.id, at)
    if head is None:
        raise NotFound(f"the bank had no state at {at.isoformat()}; it was created at {bank.created_at.isoformat()}")
    seq = min(max(head.seq, newest), bank.seq)
    exact = [row.seq for row in found.tombstones if row.exact]
    return _Base(live(_belonging(head, found), head.seq, seq, exact), seq, at.isoformat(), head.sleeps, origin=Origin(at, head.id))


async def _without_source(database: Database, tenant: str, found: Lineage, source: wire.Source) -> _Base:
    async with database.read(tenant) as conn:
        seqs = await history.seqs_of_source(conn, tenant, found.bank.id, session=source.session_id, key=source.key_id)
    name = f"session {source.session_id}" if source.session_id is not None else f"key {source.key_id}"
    if not seqs:
        raise NotFound(f"no correction of this bank was taught by {name}")
    return _Base(subtract(found.whole, seqs), found.bank.seq, f"everything but {name}", found.head.sleeps)


async def _chosen(database: Database, tenant: str, found: Lineage, ids: Sequence[str]) -> list[int]:
    wanted = list(dict.fromkeys(ids))
    async with database.read(tenant) as conn:
        rows = await history.by_ids(conn, tenant, found.bank.id, wanted, turns=True)
    missing = sorted(set(wanted) - {row.id for row in rows})
    if missing:
        raise NotFound(f"keep: no correction {', '.join(missing[:5])} in this bank")
    gone = [row.id for row in rows if row.seq in _gone(found)]
    if gone:
        raise Conflict(f"keep: {', '.join(gone[:5])} was forgotten and does not come back")
    held = {row.seq for row in found.quarantined}
    apart = [row.id for row in rows if row.seq in held]
    if apart:
        raise Conflict(f"keep: {', '.join(apart[:5])} is in quarantine; lift that first")
    return [row.seq for row in rows]


def _belonging(snapshot: SnapshotRow, found: Lineage) -> Spans:
    """Its events, and those that it was folded without because of a quarantine that still holds them: of the others it is to be without."""
    return normal((*snapshot.spans, *among(snapshot.held, [row.seq for row in found.quarantined])))


def _gone(found: Lineage) -> set[int]:
    return {row.seq for row in found.tombstones}
