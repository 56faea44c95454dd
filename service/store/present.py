"""Rows as people and programs see them: store rows to wire replies."""

from collections.abc import Sequence

from service import wire
from service.store.lineage import count, holds
from service.store.rows import BankRow, BranchRow, SnapshotRow, TombstoneRow


def bank(row: BankRow) -> wire.Bank:
    """A bank; its etag names its head."""
    return wire.Bank(
        id=row.id,
        name=row.name,
        seq=row.seq,
        head=row.head,
        etag=f'"{row.head}"',
        encoder_digest=row.encoder_digest,
        config_hash=row.config_hash,
        created_at=row.created_at,
    )


def snapshot(row: SnapshotRow, head: str, tombstones: Sequence[TombstoneRow]) -> wire.Snapshot:
    """A snapshot, with the exactly forgotten corrections that it still holds."""
    return wire.Snapshot(
        id=row.id,
        parent=row.parent,
        kind=row.kind,  # type: ignore[arg-type]  # the column's CHECK lists the same words
        seq=row.seq,
        corrections=count(row.spans),
        digest=row.digest,
        levels=list(row.levels),
        label=row.label,
        note=row.note,
        pinned=row.pinned,
        tainted_by=[tombstone.event_id for tombstone in tombstones if tombstone.exact and holds(row.spans, tombstone.seq)],
        config_hash=row.config_hash,
        is_head=row.id == head,
        created_by=row.created_by,
        created_at=row.created_at,
    )


def branch(row: BranchRow) -> wire.Branch:
    """A branch, with the number of corrections that it began with."""
    return wire.Branch(
        id=row.id, name=row.name, bank=row.bank, corrections=count(row.spans), created_by=row.created_by, created_at=row.created_at
    )
