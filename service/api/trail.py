"""The audit trail: who changed what, when, in which request; and whether its hash chain holds."""

from litestar import Response, get
from litestar.di import NamedDependency

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.caller import Caller
from service.api.pages import LIMIT_DEFAULT, Cursor, Limit, Pager
from service.store import audit
from service.store.rows import AuditRow


@get("/v1/audit", operation_id="list_audit", summary="The audit trail, newest first", tags=["audit"], opt=needs("admin"))
async def list_audit(
    caller: NamedDependency[Caller], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.AuditEntry]]:
    """Ids and numbers only; no text that was taught."""
    caller.refuse_pinned("read the audit trail")
    pager = Pager("audit", int, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: audit.page(conn, caller.tenant, after, number), _seq, _shown)
    return replies.send(page)


@get("/v1/audit/verify", operation_id="verify_audit", summary="Whether the audit's hash chain holds", tags=["audit"], opt=needs("admin"))
async def verify_audit(caller: NamedDependency[Caller]) -> Response[wire.AuditVerified]:
    """Reads every entry; names the first one that was changed or is missing."""
    caller.refuse_pinned("verify the audit trail")
    async with caller.deps.database.read(caller.tenant) as conn:
        found = await audit.verify(conn, caller.tenant)
    broken = None
    if found.broken_seq is not None:
        broken = wire.BrokenEntry(seq=found.broken_seq, id=found.broken_id, why=found.why or "missing")
    return replies.send(wire.AuditVerified(ok=broken is None, entries=found.entries, hash=found.hash, broken=broken))


def _seq(row: AuditRow) -> int:
    return row.seq


def _shown(row: AuditRow) -> wire.AuditEntry:
    return wire.AuditEntry(
        id=row.id,
        seq=row.seq,
        actor=row.actor,
        request_id=row.request_id,
        action=row.action,
        target=row.target,
        detail=row.detail,
        prev_hash=row.prev_hash,
        hash=row.hash,
        created_at=row.created_at,
    )
