"""Snapshots: taken, listed, labelled and pinned, compared, verified, deleted."""

from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter
from msgspec import UNSET

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.texts import check_note, known_form
from service.store import forgets, present, snapshots
from service.store.rows import SnapshotRow

TAGS = ["versions"]

ProbesParam = Annotated[
    int, QueryParameter(ge=1, le=wire.COMPARED_MAX, description="Corrections that both states are asked about, at most: 2 ms for each.")
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


@patch(
    "/v1/snapshots/{snapshot_id:str}",
    operation_id="change_snapshot",
    summary="Label, note or pin a snapshot",
    tags=TAGS,
    opt=needs("snapshots:write"),
    dto=Strict[wire.SnapshotChange],
)
async def change_snapshot(
    caller: NamedDependency[Caller], snapshot_id: FromPath[str], data: JSONBody[wire.SnapshotChange], bank: BankParam = None
) -> Response[wire.Snapshot]:
    """What is not given stays. A pinned or labelled snapshot is never taken by retention, and a pinned one cannot be deleted."""
    said = {name: value for name in data.__struct_fields__ if (value := getattr(data, name)) is not UNSET}
    check_note("note", said.get("note"))
    row = await caller.bank_row(bank)
    async with caller.deps.database.write(caller.tenant) as conn:
        snapshot = await snapshots.amend(conn, caller.tenant, row.id, known_form(snapshot_id), said)
        gone = await forgets.tombstones(conn, caller.tenant, row.id)
        if said:
            await caller.note(
                conn, "snapshot.change", row.id, {"snapshot": snapshot.id, "changed": sorted(said), "pinned": snapshot.pinned}
            )
    return replies.send(present.snapshot(snapshot, row.head, gone))


@delete(
    "/v1/snapshots/{snapshot_id:str}",
    operation_id="delete_snapshot",
    summary="Give up a snapshot's weights for good",
    tags=TAGS,
    opt=needs("snapshots:write"),
    status_code=204,
)
async def delete_snapshot(caller: NamedDependency[Caller], snapshot_id: FromPath[str], bank: BankParam = None) -> None:
    """409 for the head, the genesis and pinned ones. Nothing learned is lost: the ledger has it."""
    named = await caller.bank(bank)
    await caller.deps.engine.delete_snapshot(caller.tenant, named, known_form(snapshot_id), actor=caller.actor)


@get(
    "/v1/snapshots/{snapshot_id:str}/diff/{other_id:str}",
    operation_id="diff_snapshots",
    summary="What changed between two snapshots",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def diff_snapshots(
    caller: NamedDependency[Caller],
    snapshot_id: FromPath[str],
    other_id: FromPath[str],
    bank: BankParam = None,
    probes: ProbesParam = wire.PROBES,
) -> Response[wire.SnapshotDiff]:
    """Corrections gained and lost, live corrections answered otherwise, how far each level moved. `head` is the present state."""
    named = await caller.bank(bank)
    return replies.send(await caller.deps.engine.diff(caller.tenant, named, known_form(snapshot_id), known_form(other_id), probes=probes))


@post(
    "/v1/snapshots/{snapshot_id:str}/verify",
    operation_id="verify_snapshot",
    summary="Look at a snapshot's bytes and ledger, and load it",
    tags=TAGS,
    opt=needs("snapshots:read"),
    status_code=200,
)
async def verify_snapshot(caller: NamedDependency[Caller], snapshot_id: FromPath[str], bank: BankParam = None) -> Response[wire.Verified]:
    """The digest of each blob, the hash chain of the ledger rows that it covers, and a load. What is wrong is told: `ok` is false."""
    named = await caller.bank(bank)

    async def work(_: str | None) -> wire.Verified:
        return await caller.deps.engine.verify(caller.tenant, named, known_form(snapshot_id))

    return await once(caller, work, status=200)


def _id(row: SnapshotRow) -> str:
    return row.id
