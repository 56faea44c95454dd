"""Forgetting: previewed at will, effective in the request, exact after its job, and certified."""

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, JSONBody

from service import wire
from service.api import certificate, confirming, replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.pages import LIMIT_DEFAULT, BankParam, Cursor, Limit, Pager
from service.api.sources import check_source, named
from service.api.texts import check_note, known_form
from service.errors import Forbidden, NotFound
from service.store import forgets
from service.store.rows import ForgetRow

TAGS = ["forget"]


@post(
    "/v1/forget",
    operation_id="forget",
    summary="Forget corrections",
    tags=TAGS,
    opt=needs("forget", "erase"),
    dto=Strict[wire.ForgetRequest],
    status_code=202,
    responses={200: ResponseSpec(wire.Forgotten, description="A dry run: nothing was changed")},
)
async def forget(caller: NamedDependency[Caller], data: JSONBody[wire.ForgetRequest]) -> Response[wire.Forgotten]:
    """From the answer on nothing is answered with them. The mode `erase` needs the scope `erase`, the others `forget`.

    A `dry_run` tells what would be forgotten and which answers would change at once, and gives a `confirm_token`: sent back with the same
    request, it makes sure that just this is forgotten.
    """
    scope = "erase" if data.mode == "erase" else "forget"
    if not caller.principal.allows(scope):
        raise Forbidden(f"mode {data.mode} needs a key with the scope {scope}; ask an admin for one")
    check_note("reason", data.reason)
    check_source(data.corrections, data.source)
    bank = await caller.bank_row(data.bank)

    async def work(_: str | None) -> wire.Forgotten:
        wanted = await named(caller, bank, data.corrections, data.source)
        what = (caller.tenant, bank.id, data.mode, sorted(wanted))
        if data.dry_run:
            return await _preview(caller, bank.id, data.mode, wanted, what)
        if data.confirm_token is not None:
            confirming.check(caller.deps.pepper, data.confirm_token, what, caller.deps.now())
        return await caller.deps.engine.forget(caller.tenant, bank.id, wanted, mode=data.mode, reason=data.reason, actor=caller.actor)

    return await once(caller, work, status=200 if data.dry_run else 202, quotes=data.dry_run, reads=data.dry_run)


@get("/v1/forget", operation_id="list_certificates", summary="Certificates, newest first", tags=TAGS, opt=needs("forget"))
async def list_certificates(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Certificate]]:
    """Of one bank, or of all of them when the key is for the whole tenant and no bank is named: then those of deleted banks, too.

    Nothing is asked for it: look at a certificate itself to see what a suppressed correction says now.
    """
    every = bank is None and caller.principal.banks is None
    bank_id = None if every else (await caller.bank_row(bank)).id
    pager = Pager(f"certificates:{bank_id}", str, limit, cursor)
    server = caller.deps.database.dialect != "sqlite"
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: forgets.list_forgets(conn, caller.tenant, bank_id, after, number),
            _id,
            lambda row: certificate.of(row, None, server=server),
        )
    return replies.send(page)


@get(
    "/v1/forget/{forget_id:str}",
    operation_id="get_certificate",
    summary="What a forget has done: its certificate",
    tags=TAGS,
    opt=needs("forget"),
)
async def get_certificate(caller: NamedDependency[Caller], forget_id: FromPath[str]) -> Response[wire.Certificate]:
    """Ids, digests and times only. It is complete when its job has ended; a suppressed correction is asked now.

    When the bank is deleted it stays, for keys of the whole tenant.
    """
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await forgets.get_forget(conn, caller.tenant, known_form(forget_id))
    gone = row.bank_deleted_at is not None
    if not caller.sees(None if gone else row.bank):
        raise NotFound(f"no forget {forget_id}")
    asked = None
    if row.mode == "suppress" and not gone:
        asked = await caller.deps.engine.membership(caller.tenant, row.bank, list(row.event_ids))
    return replies.send(certificate.of(row, asked, server=caller.deps.database.dialect != "sqlite"))


async def _preview(caller: Caller, bank: str, mode: wire.ForgetMode, wanted: list[str], what: tuple[object, ...]) -> wire.Forgotten:
    seen = await caller.deps.engine.preview_forget(caller.tenant, bank, wanted)
    until = caller.deps.now().replace(microsecond=0) + confirming.GOOD_FOR
    return wire.Forgotten(
        id=None,
        effective_now=False,
        mode=mode,
        corrections=wanted,
        job_id=None,
        dry_run=True,
        flips=seen.flips,
        probes=seen.probes,
        probes_of=seen.probes_of,
        confirm_token=confirming.token(caller.deps.pepper, what, until),
        confirm_until=until,
    )


def _id(row: ForgetRow) -> str:
    return row.id
