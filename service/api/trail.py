"""The audit trail: who changed what, when, in which request."""

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
    pager = Pager("audit", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: audit.page(conn, caller.tenant, after, number), _id, _shown)
    return replies.send(page)


def _id(row: AuditRow) -> str:
    return row.id


def _shown(row: AuditRow) -> wire.AuditEntry:
    return wire.AuditEntry(
        id=row.id,
        actor=row.actor,
        request_id=row.request_id,
        action=row.action,
        target=row.target,
        detail=row.detail,
        created_at=row.created_at,
    )
