"""Branches: make a bank from another, compare the two, and bring what was taught back."""

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
from service.api.texts import check_bank_name, known_form
from service.api.versions import ProbesParam
from service.errors import NotFound
from service.store import branches, present
from service.store.rows import BranchRow

TAGS = ["branches"]


@post(
    "/v1/branches",
    operation_id="create_branch",
    summary="Make a bank that begins with what another one holds",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.NewBranch],
    status_code=201,
)
async def create_branch(caller: NamedDependency[Caller], data: JSONBody[wire.NewBranch]) -> Response[wire.Branch]:
    """It is taught and asked like any bank; what is forgotten in the other bank is forgotten in it, too."""
    caller.refuse_pinned("create banks")
    check_bank_name(data.name)
    bank = await caller.bank(data.bank)

    async def work(_: str | None) -> wire.Branch:
        return await caller.deps.engine.create_branch(caller.tenant, bank, data.name, at=data.at, actor=caller.actor)

    return await once(caller, work, status=201)


@get("/v1/branches", operation_id="list_branches", summary="The branches of a bank", tags=TAGS, opt=needs("snapshots:read"))
async def list_branches(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Branch]]:
    """In the order of their ids."""
    row = await caller.bank_row(bank)
    pager = Pager(f"branches:{row.id}", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: branches.list_branches(conn, caller.tenant, row.id, after, number), _id, present.branch
        )
    return replies.send(page)


@get(
    "/v1/branches/{branch_id:str}/diff",
    operation_id="diff_branch",
    summary="What differs between a bank and its branch",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def diff_branch(
    caller: NamedDependency[Caller], branch_id: FromPath[str], probes: ProbesParam = wire.PROBES
) -> Response[wire.SnapshotDiff]:
    """From the bank to the branch, as they are now."""
    row = await _visible(caller, branch_id)
    return replies.send(await caller.deps.engine.diff_branch(caller.tenant, row.bank, row.id, probes=probes))


@post(
    "/v1/branches/{branch_id:str}/promote",
    operation_id="promote_branch",
    summary="Bring what was taught in a branch into its bank",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.Promotion],
    status_code=200,
)
async def promote_branch(
    caller: NamedDependency[Caller], branch_id: FromPath[str], data: JSONBody[wire.Promotion]
) -> Response[wire.Promoted]:
    """The branch is gone then. 412 when the bank has moved since it was made, unless `refold` is asked for."""

    async def work(_: str | None) -> wire.Promoted:
        row = await _visible(caller, branch_id)
        return await caller.deps.engine.promote_branch(caller.tenant, row.bank, row.id, refold=data.refold, actor=caller.actor)

    return await once(caller, work, status=200)


@delete(
    "/v1/branches/{branch_id:str}",
    operation_id="delete_branch",
    summary="Delete a branch, its ledger and its snapshots, for good",
    tags=TAGS,
    opt=needs("admin"),
    status_code=204,
)
async def delete_branch(caller: NamedDependency[Caller], branch_id: FromPath[str]) -> None:
    """The bank that it was made from stays as it is."""
    row = await _visible(caller, branch_id)
    await caller.deps.engine.delete_bank(caller.tenant, row.id, actor=caller.actor)


async def _visible(caller: Caller, branch_id: str) -> BranchRow:
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await branches.get(conn, caller.tenant, known_form(branch_id))
    if not caller.sees(row.id) or not caller.sees(row.bank):
        raise NotFound(f"this key has no branch {branch_id}")
    return row


def _id(row: BranchRow) -> str:
    return row.id
