"""Snapshots and rollback."""

from typing import Annotated

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, HeaderParameter, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.texts import check_note, known_form
from service.store import forgets, present, snapshots
from service.store.idempotency import Committed
from service.store.rows import SnapshotRow

TAGS = ["versions"]

IfMatch = Annotated[
    str | None, HeaderParameter(name="If-Match", max_length=200, description="`etag` of the bank; 412 when its head has moved.")
]


@post(
    "/v1/snapshots",
    operation_id="take_snapshot",
    summary="Save the bank as it is now",
    tags=TAGS,
    opt=needs("snapshots:write"),
    dto=Strict[wire.NewSnapshot],
    status_code=201,
)
async def take_snapshot(caller: NamedDependency[Caller], data: JSONBody[wire.NewSnapshot]) -> Response[wire.Snapshot]:
    """The head does not move."""
    check_note("note", data.note)
    bank = await caller.bank(data.bank)

    async def work(_: str | None) -> wire.Snapshot:
        return await caller.deps.engine.snapshot(caller.tenant, bank, label=data.label, note=data.note, pin=data.pin, actor=caller.actor)

    return await once(caller, work, status=201)


@get("/v1/snapshots", operation_id="list_snapshots", summary="Snapshots, newest first", tags=TAGS, opt=needs("snapshots:read"))
async def list_snapshots(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Snapshot]]:
    """`tainted_by` names the forgotten corrections that a snapshot still holds."""
    row = await caller.bank_row(bank)
    pager = Pager(f"snapshots:{row.id}", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        gone = await forgets.tombstones(conn, caller.tenant, row.id)
        page = await pager.page(
            lambda after, number: snapshots.list_snapshots(conn, caller.tenant, row.id, after, number),
            _id,
            lambda snapshot: present.snapshot(snapshot, row.head, gone),
        )
    return replies.send(page)


@get("/v1/snapshots/{snapshot_id:str}", operation_id="get_snapshot", summary="One snapshot", tags=TAGS, opt=needs("snapshots:read"))
async def get_snapshot(caller: NamedDependency[Caller], snapshot_id: FromPath[str], bank: BankParam = None) -> Response[wire.Snapshot]:
    """Levels with the digests of their weights."""
    row = await caller.bank_row(bank)
    async with caller.deps.database.read(caller.tenant) as conn:
        snapshot = await snapshots.get_snapshot(conn, caller.tenant, known_form(snapshot_id), row.id)
        gone = await forgets.tombstones(conn, caller.tenant, row.id)
    return replies.send(present.snapshot(snapshot, row.head, gone))


@post(
    "/v1/rollback",
    operation_id="roll_back",
    summary="Return to the behaviour of a snapshot",
    tags=TAGS,
    opt=needs("rollback"),
    dto=Strict[wire.RollbackRequest],
    status_code=200,
)
async def roll_back(
    caller: NamedDependency[Caller], data: JSONBody[wire.RollbackRequest], if_match: IfMatch = None
) -> Response[wire.RolledBack]:
    """The state before is saved first, so that a rollback can be rolled back. `dry_run` tells which answers would change."""
    check_note("reason", data.reason)
    bank = await caller.bank(data.bank)

    async def work(key: str | None) -> wire.RolledBack:
        return await caller.deps.engine.roll_back(
            caller.tenant,
            bank,
            data.to,
            dry_run=data.dry_run,
            if_match=if_match,
            reason=data.reason,
            actor=caller.actor,
            idempotency_key=key,
        )

    async def recover(done: Committed) -> wire.RolledBack:
        return await caller.deps.engine.rolled_back(caller.tenant, done.bank, done.first_seq)

    return await once(caller, work, status=200, recover=recover, quotes=True)


def _id(row: SnapshotRow) -> str:
    return row.id
