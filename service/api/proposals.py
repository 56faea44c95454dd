"""Proposals: corrections that a conversation seems to hold, for somebody to confirm or dismiss. Nothing is learned before."""

from litestar import Response, delete, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.deps import Connection
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.texts import check_corrections, known_form
from service.errors import NotFound
from service.store import history, proposals
from service.store.idempotency import Committed

TAGS = ["corrections"]


@get("/v1/proposals", operation_id="list_proposals", summary="Proposed corrections of a bank", tags=TAGS, opt=needs("memory:inspect"))
async def list_proposals(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Proposal]]:
    """Those that nobody has confirmed or dismissed, in the order they were made."""
    row = await caller.bank_row(bank)
    pager = Pager(f"proposals:{row.id}", str, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: proposals.list_proposals(conn, caller.tenant, row.id, after, number), _id, lambda found: found
        )
    return replies.send(page)


@post(
    "/v1/proposals/{proposal_id:str}/confirm",
    operation_id="confirm_proposal",
    summary="Teach what was proposed",
    tags=TAGS,
    opt=needs("corrections:write"),
    dto=Strict[wire.ConfirmProposal],
    status_code=201,
)
async def confirm_proposal(
    caller: NamedDependency[Caller], proposal_id: FromPath[str], data: JSONBody[wire.ConfirmProposal]
) -> Response[wire.Taught]:
    """It becomes a correction like any other, in the words of the proposal or of this request."""

    async def work(key: str | None) -> wire.Taught:
        async with caller.deps.database.read(caller.tenant) as conn:
            found = await _visible(conn, caller, proposal_id)
        item = wire.NewCorrection(
            input=data.input or found.input,
            right=data.right or found.right,
            wrong=data.wrong or found.wrong,
            session_id=found.session_id,
            metadata={"proposal": found.id},
        )
        check_corrections([item], batch=False)
        ids = [f"cor_{found.id.partition('_')[2]}"]  # its number: confirmed twice, it is taught once
        (taught,) = await caller.deps.engine.teach(caller.tenant, found.bank, [item], actor=caller.actor, idempotency_key=key, ids=ids)
        await _drop(caller, found.id, {"correction": taught.id})
        return taught

    async def recover(done: Committed) -> wire.Taught:
        async with caller.deps.database.read(caller.tenant) as conn:
            (row,) = await history.by_seqs(conn, caller.tenant, done.bank, [done.first_seq])
        item = wire.NewCorrection(input=row.input or "", right=row.right or "")
        (taught,) = await caller.deps.engine.taught(caller.tenant, done.bank, done.first_seq, [item])
        await _drop(caller, known_form(proposal_id), {"correction": taught.id})
        return taught

    return await once(caller, work, status=201, recover=recover, quotes=True)


@delete(
    "/v1/proposals/{proposal_id:str}",
    operation_id="dismiss_proposal",
    summary="Dismiss what was proposed",
    tags=TAGS,
    opt=needs("corrections:write"),
    status_code=204,
)
async def dismiss_proposal(caller: NamedDependency[Caller], proposal_id: FromPath[str]) -> None:
    """Nothing of it is kept."""
    async with caller.deps.database.read(caller.tenant) as conn:
        found = await _visible(conn, caller, proposal_id)
    await _drop(caller, found.id, {"bank": found.bank})


async def _drop(caller: Caller, id: str, told: dict[str, str]) -> None:
    async with caller.deps.database.write(caller.tenant) as conn:
        await proposals.drop_proposal(conn, caller.tenant, id)
        await caller.note(conn, "proposal.confirm" if "correction" in told else "proposal.dismiss", id, told)


async def _visible(conn: Connection, caller: Caller, id: str) -> wire.Proposal:
    found = await proposals.get_proposal(conn, caller.tenant, known_form(id))
    if not caller.sees(found.bank):
        raise NotFound(f"this key has no proposal {id}")
    return found


def _id(found: wire.Proposal) -> str:
    return found.id
