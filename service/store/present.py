"""Rows as people and programs see them: store rows to wire replies."""

from collections.abc import Sequence

from service import wire
from service.store.lineage import count, holds
from service.store.rows import BankRow, BranchRow, ChangeRow, DeliveryRow, QuarantineRow, SnapshotRow, TombstoneRow, WebhookRow


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
        branch_of=row.branch_of,
    )


def snapshot(row: SnapshotRow, head: str, tombstones: Sequence[TombstoneRow]) -> wire.Snapshot:
    """A snapshot, with the exactly forgotten corrections that it still holds."""
    return wire.Snapshot(
        id=row.id,
        parent=row.parent,
        kind=row.kind,  # type: ignore[arg-type]  # the column's CHECK lists the same words
        seq=row.seq,
        corrections=row.clock.get("events", count(row.spans)),  # its spans have turns of conversations, too
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


def quarantine(row: QuarantineRow) -> wire.Quarantine:
    """A quarantine, set or lifted."""
    return wire.Quarantine(
        id=row.id,
        bank=row.bank,
        source=row.source,
        corrections=row.corrections,
        reason=row.reason,
        job_id=row.job_id,
        created_by=row.created_by,
        created_at=row.created_at,
        lifted_by=row.lifted_by,
        lifted_at=row.lifted_at,
    )


def change(row: ChangeRow) -> wire.Change:
    """A change as others are told of it."""
    kind: wire.ChangeKind = row.kind  # type: ignore[assignment]  # only these are emitted
    return wire.Change(id=row.id, event=kind, bank=row.bank, data=row.data, created_at=row.created_at)


def webhook(row: WebhookRow) -> wire.Webhook:
    """A webhook without its secret."""
    return wire.Webhook(id=row.id, url=row.url, events=list(row.events), created_by=row.created_by, created_at=row.created_at)


def delivery(row: DeliveryRow) -> wire.Delivery:
    """A delivery; it is due at no time once it has ended."""
    return wire.Delivery(
        id=row.id,
        webhook=row.webhook,
        change=row.change,
        event=row.kind,
        status=row.status,  # type: ignore[arg-type]  # the column's CHECK lists the same words
        attempts=row.attempts,
        due_at=row.due_at if row.status == "pending" else None,
        answered=row.answered,
        error=row.error,
        created_at=row.created_at,
        updated_at=row.updated_at,
    )


def branch(row: BranchRow) -> wire.Branch:
    """A branch, with the number of corrections that it began with."""
    return wire.Branch(
        id=row.id, name=row.name, bank=row.bank, corrections=count(row.spans), created_by=row.created_by, created_at=row.created_at
    )
