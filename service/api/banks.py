"""Banks: the weight lineages of a tenant."""

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody
from msgspec import structs

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, Cursor, Limit, Pager
from service.api.texts import check_bank_name, known_name
from service.store import banks, present
from service.store.rows import BankRow

TAGS = ["banks"]


@post(
    "/v1/banks",
    operation_id="create_bank",
    summary="Create an empty bank",
    tags=TAGS,
    opt=needs("admin"),
    dto=Strict[wire.NewBank],
    status_code=201,
)
async def create_bank(caller: NamedDependency[Caller], data: JSONBody[wire.NewBank]) -> Response[wire.Bank]:
    """Its name is unique within the tenant."""
    caller.refuse_pinned("create banks")
    check_bank_name(data.name)

    async def work(_: str | None) -> wire.Bank:
        return await caller.deps.engine.create_bank(caller.tenant, data.name, actor=caller.actor)

    return await once(caller, work, status=201)


@get("/v1/banks", operation_id="list_banks", summary="The banks that this key may use", tags=TAGS)
async def list_banks(
    caller: NamedDependency[Caller], limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Bank]]:
    """In the order of their ids."""
    only = None if caller.principal.banks is None else sorted(caller.principal.banks)
    pager = Pager("banks", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: banks.list_banks(conn, caller.tenant, after, number, only), _id, lambda row: _shown(caller, row)
        )
    return replies.send(page)


@get("/v1/banks/{bank_id:str}", operation_id="get_bank", summary="One bank; `ETag` names its head", tags=TAGS)
async def get_bank(caller: NamedDependency[Caller], bank_id: FromPath[str]) -> Response[wire.Bank]:
    """By id or name."""
    bank = _shown(caller, await caller.bank_row(known_name(bank_id)))
    return replies.send(bank, headers={"ETag": bank.etag})


@delete(
    "/v1/banks/{bank_id:str}",
    operation_id="delete_bank",
    summary="Delete a bank, its ledger and its snapshots, for good",
    tags=TAGS,
    opt=needs("admin"),
    status_code=204,
)
async def delete_bank(caller: NamedDependency[Caller], bank_id: FromPath[str]) -> None:
    """By id or name."""
    row = await caller.bank_row(known_name(bank_id))
    await caller.deps.engine.delete_bank(caller.tenant, row.id, actor=caller.actor)


def _shown(caller: Caller, row: BankRow) -> wire.Bank:
    """The bank; where it comes from is told to nobody who may not use that."""
    return present.bank(row if caller.sees(row.branch_of) else structs.replace(row, branch_of=None))


def _id(row: BankRow) -> str:
    return row.id
