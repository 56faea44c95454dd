"""A bank's beginning and end, and the audit lines of its snapshots."""

from typing import Any

from service import wire
from service.cluster.engine import Actor
from service.ids import new_id
from service.store import audit, banks, present, snapshots
from service.store.rows import HeadMove, SnapshotDraft, SnapshotRow
from workers.versions import Versions


async def create(versions: Versions, tenant: str, name: str, encoder_digest: str, actor: Actor) -> wire.Bank:
    """A new bank whose head is its genesis: the initial weights, which need no blob.

    Raises:
        Conflict: the tenant has a bank of this name.
    """
    async with versions.database.write(tenant) as conn:
        return await begin(conn, versions, tenant, name, encoder_digest, actor)


async def begin(conn: Any, versions: Versions, tenant: str, name: str, encoder_digest: str, actor: Actor) -> wire.Bank:  # noqa: ANN401
    """As `create`, in an open transaction."""
    bank_id = new_id("bank")
    initial = versions.recall.initial()
    genesis = SnapshotDraft(
        id=new_id("snap"),
        kind="genesis",
        parent=None,
        seq=0,
        spans=(),
        digest=initial.digest(),
        config_hash=versions.recall.config.hash,
        clock=initial.clock.as_dict(),
        levels=(),
        label=None,
        note=None,
        pinned=False,
        created_by=actor.key_id,
        gate=None,
    )
    now = versions.now()
    await banks.create_bank(conn, tenant, name, id=bank_id, config_hash=genesis.config_hash, encoder_digest=encoder_digest, now=now)
    move = HeadMove(expected_version=0, moved_by=actor.key_id, reason="created")
    await snapshots.commit_snapshot(conn, tenant, bank_id, genesis, now=now, epoch=None, move_head=move)
    who: dict[str, Any] = {"actor": actor.key_id, "request_id": actor.request_id, "now": now}
    await audit.record(conn, tenant, action="bank.create", target=bank_id, detail={"name": name}, **who)
    return present.bank(await banks.find_bank(conn, tenant, bank_id))


async def delete(versions: Versions, tenant: str, bank_id: str, actor: Actor) -> None:
    """Delete the bank's rows in one transaction, then the blobs that nothing else needs. Its certificates stay."""
    async with versions.database.write(tenant) as conn:
        digests = await banks.delete_bank(conn, tenant, bank_id, versions.now())
        await audit.record(
            conn,
            tenant,
            actor=actor.key_id,
            request_id=actor.request_id,
            action="bank.delete",
            target=bank_id,
            detail={},
            now=versions.now(),
        )
    await versions.drop_blobs(tenant, digests)


async def audit_snapshot(versions: Versions, tenant: str, bank_id: str, row: SnapshotRow, actor: Actor) -> None:
    """Note who took which snapshot."""
    detail = {"snapshot": row.id, "seq": row.seq, "digest": row.digest}
    async with versions.database.write(tenant) as conn:
        await audit.record(
            conn,
            tenant,
            actor=actor.key_id,
            request_id=actor.request_id,
            action="snapshot",
            target=bank_id,
            detail=detail,
            now=versions.now(),
        )
