"""Teaching, and reading back what was taught: corrections and the ledger they are rows of."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.limits import BY_ITEMS
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Order, Pager
from service.api.texts import check_corrections, known_form
from service.errors import Invalid, NotFound
from service.ids import new_id
from service.store import corrections, history
from service.store.idempotency import Committed
from service.store.rows import EventRow

TAGS = ["corrections"]


@post(
    "/v1/corrections",
    operation_id="teach",
    summary="Teach: what is right in a situation",
    tags=TAGS,
    opt=needs("corrections:write"),
    dto=Strict[wire.NewCorrection],
    status_code=201,
)
async def teach(caller: NamedDependency[Caller], data: JSONBody[wire.NewCorrection]) -> Response[wire.Taught]:
    """The correction is durable and in the weights when the answer arrives; the receipt holds what the memory said before and after."""
    check_corrections([data], batch=False)
    bank = await caller.bank(data.bank)

    ids = [new_id("cor")]

    async def work(key: str | None) -> wire.Taught:
        return (await caller.deps.engine.teach(caller.tenant, bank, [data], actor=caller.actor, idempotency_key=key, ids=ids))[0]

    async def recover(done: Committed) -> wire.Taught:
        return (await caller.deps.engine.taught(caller.tenant, done.bank, done.first_seq, [data]))[0]

    return await once(caller, work, status=201, recover=recover, quotes=True)


@post(
    "/v1/corrections/batch",
    operation_id="teach_batch",
    summary="Teach up to 1,000 corrections, in order, all or none",
    tags=TAGS,
    opt=needs("corrections:write") | BY_ITEMS,
    dto=Strict[wire.NewCorrections],
    status_code=201,
)
async def teach_batch(caller: NamedDependency[Caller], data: JSONBody[wire.NewCorrections]) -> Response[wire.TaughtBatch]:
    """One bank for the whole batch: `bank` here, or the same in every item."""
    await caller.charge(len(data.items))
    check_corrections(data.items, batch=True)
    bank = await caller.bank(_one_bank(data))

    ids = [new_id("cor") for _ in data.items]

    async def work(key: str | None) -> wire.TaughtBatch:
        return _batch(await caller.deps.engine.teach(caller.tenant, bank, data.items, actor=caller.actor, idempotency_key=key, ids=ids))

    async def recover(done: Committed) -> wire.TaughtBatch:
        return _batch(await caller.deps.engine.taught(caller.tenant, done.bank, done.first_seq, data.items))

    return await once(caller, work, status=201, recover=recover, quotes=True)


@get("/v1/corrections", operation_id="list_corrections", summary="Corrections and their status", tags=TAGS, opt=needs("memory:inspect"))
async def list_corrections(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None, order: Order = "oldest"
) -> Response[wire.Page[wire.Correction]]:
    """In the order they were taught, or newest first."""
    row, newest = await caller.bank_row(bank), order == "newest"
    pager = Pager(f"corrections:{row.id}:{order}", int, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: history.page(conn, caller.tenant, row.id, after, number, newest), _seq, lambda event: event
        )
        items = await corrections.shown(conn, caller.tenant, row, page.items)
    return replies.send(wire.Page(items=items, next_cursor=page.next_cursor))


@get(
    "/v1/corrections/{correction_id:str}",
    operation_id="get_correction",
    summary="One correction and its status",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def get_correction(
    caller: NamedDependency[Caller], correction_id: FromPath[str], bank: BankParam = None
) -> Response[wire.Correction]:
    """Texts are null once it was erased."""
    row = await caller.bank_row(bank)
    async with caller.deps.database.read(caller.tenant) as conn:
        events = await history.by_ids(conn, caller.tenant, row.id, [known_form(correction_id)])
        if not events:
            raise NotFound(f"the bank {row.name} has no correction {correction_id}")
        (shown,) = await corrections.shown(conn, caller.tenant, row, events)
    return replies.send(shown)


@get("/v1/events", operation_id="list_events", summary="The ledger, row by row", tags=TAGS, opt=needs("memory:inspect"))
async def list_events(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.EventRow]]:
    """With each row's place in the hash chain."""
    row = await caller.bank_row(bank)
    pager = Pager(f"events:{row.id}", int, limit, cursor)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(lambda after, number: history.page(conn, caller.tenant, row.id, after, number, turns=True), _seq, _event)
    return replies.send(page)


def _seq(event: EventRow) -> int:
    return event.seq


def _one_bank(batch: wire.NewCorrections) -> str | None:
    named = batch.bank
    for place, item in enumerate(batch.items):
        if item.bank is not None and item.bank != (named or item.bank):
            message = "a batch is for one bank"
            raise Invalid(f"items[{place}].bank: {message}", errors=[{"field": f"items[{place}].bank", "message": message}])
        named = named or item.bank
    return named


def _batch(taught: list[wire.Taught]) -> wire.TaughtBatch:
    usages = [one.usage for one in taught]
    usage = wire.Usage(
        cpu_ms=round(sum(usage.cpu_ms for usage in usages), 3),
        tokens_in=sum(usage.tokens_in for usage in usages),
        updates=sum(usage.updates for usage in usages),
        level_writes=sum(usage.level_writes for usage in usages),
    )
    return wire.TaughtBatch(items=taught, state=taught[-1].state, usage=usage)


def _event(event: EventRow) -> wire.EventRow:
    return wire.EventRow(
        id=event.id,
        seq=event.seq,
        kind=event.kind,
        epoch=event.epoch,
        session_id=event.session_id,
        input=event.input,
        right=event.right,
        wrong=event.wrong,
        tokens=event.tokens,
        prev_hash=event.prev_hash,
        hash=event.hash,
        created_at=event.created_at,
        redacted_at=event.redacted_at,
    )
