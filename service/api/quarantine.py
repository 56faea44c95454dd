"""Quarantine: corrections, a session or a key held out of a bank's memory until somebody lifts it."""

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.sources import check_source
from service.api.texts import check_note, known_form
from service.errors import NotFound
from service.store import present, quarantines
from service.store.rows import QuarantineRow

TAGS = ["quarantine"]


@post(
    "/v1/quarantine",
    operation_id="set_quarantine",
    summary="Hold corrections, a session or a key out of the memory",
    tags=TAGS,
    opt=needs("forget"),
    dto=Strict[wire.NewQuarantine],
    status_code=202,
)
async def set_quarantine(caller: NamedDependency[Caller], data: JSONBody[wire.NewQuarantine]) -> Response[wire.Quarantine]:
    """From the answer on nothing is answered with them, and the source teaches this bank nothing; the weights follow by a job."""
    check_note("reason", data.reason)
    check_source(data.corrections, data.source)
    bank, source = await caller.bank(data.bank), data.source or wire.Source()

    async def work(_: str | None) -> wire.Quarantine:
        return await caller.deps.engine.quarantine(
            caller.tenant,
            bank,
            data.corrections or [],
            session=source.session_id,
            key=source.key_id,
            reason=data.reason,
            actor=caller.actor,
        )

    return await once(caller, work, status=202)


@get("/v1/quarantine", operation_id="list_quarantines", summary="Quarantines of a bank", tags=TAGS, opt=needs("forget"))
async def list_quarantines(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Quarantine]]:
    """In the order they were set, lifted ones too."""
    row = await caller.bank_row(bank)
    pager = Pager(f"quarantine:{row.id}", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: quarantines.page(conn, caller.tenant, row.id, after, number), _id, present.quarantine)
    return replies.send(page)


@delete(
    "/v1/quarantine/{quarantine_id:str}",
    operation_id="lift_quarantine",
    summary="Lift a quarantine",
    tags=TAGS,
    opt=needs("forget"),
    status_code=202,
)
async def lift_quarantine(caller: NamedDependency[Caller], quarantine_id: FromPath[str]) -> Response[wire.Quarantine]:
    """What it held answers again, as if it had never been held, unless it was forgotten or rolled back, or another one holds it."""
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await quarantines.get(conn, caller.tenant, known_form(quarantine_id))
    if not caller.sees(row.bank):
        raise NotFound(f"no quarantine {quarantine_id}")
    lifted = await caller.deps.engine.lift(caller.tenant, row.bank, row.id, actor=caller.actor)
    return replies.send(lifted, 202)


def _id(row: QuarantineRow) -> str:
    return row.id
