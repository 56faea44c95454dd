"""Sessions: one conversation in a bank, opened before its first question so that this is answered from memory.

A session is a name and two times. Corrections that carry its name keep it open, and stay when it is closed; a correction may name one that
was never opened here. A key that may ask may open, warm and close; to list what others opened takes `memory:inspect`.
"""

from datetime import datetime, timedelta

import msgspec
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
from service.api.texts import known_form
from service.errors import Capacity, WriterBusy
from service.ids import new_id
from service.store import sessions
from service.store.sessions import SessionRow

TAGS = ["sessions"]
PURGED = 100  # rows of expired sessions that go when a new one comes: many more than come
ASK_AGAIN_S = 1  # where whoever could not load a bank did not say when


@post(
    "/v1/sessions",
    operation_id="open_session",
    summary="Open a session and load its bank",
    tags=TAGS,
    opt=needs("recall:read"),
    dto=Strict[wire.NewSession],
    status_code=201,
)
async def open_session(caller: NamedDependency[Caller], data: JSONBody[wire.NewSession]) -> Response[wire.OpenedSession]:
    """It is open even if nobody can load the bank now: `warm` is false then, and `eta_ms` tells when to try."""
    bank = await caller.bank_row(data.bank)

    async def work(_: str | None) -> wire.OpenedSession:
        now, before = caller.deps.now(), _before(caller)
        async with caller.deps.database.write(caller.tenant) as conn:
            row = await sessions.open_session(conn, caller.tenant, bank.id, data.id or new_id("ses"), now=now, before=before)
            if row.created_at == row.last_used_at:
                await sessions.purge(conn, caller.tenant, before, PURGED)
        warmth = await _warmed(caller, bank.id)
        state = wire.StateRef(snapshot_id=bank.head, seq=bank.seq) if bank.head else None
        return wire.OpenedSession(**msgspec.structs.asdict(_shown(caller, row)), state=state, warm=warmth.warm, eta_ms=warmth.eta_ms)

    return await once(caller, work, status=201)


@get("/v1/sessions", operation_id="list_sessions", summary="The open sessions of a bank", tags=TAGS, opt=needs("memory:inspect"))
async def list_sessions(
    caller: NamedDependency[Caller], bank: BankParam = None, limit: Limit = LIMIT_DEFAULT, cursor: Cursor = None
) -> Response[wire.Page[wire.Session]]:
    """In the order of their ids."""
    row = await caller.bank_row(bank)
    pager = Pager(f"sessions:{row.id}", str, limit, cursor)
    before = _before(caller)
    async with caller.deps.database.read(caller.tenant) as conn:
        page = await pager.page(
            lambda after, number: sessions.list_sessions(conn, caller.tenant, row.id, after, number, before=before),
            _id,
            lambda session: _shown(caller, session),
        )
    return replies.send(page)


@get("/v1/sessions/{session_id:str}", operation_id="get_session", summary="One session", tags=TAGS, opt=needs("recall:read"))
async def get_session(caller: NamedDependency[Caller], session_id: FromPath[str], bank: BankParam = None) -> Response[wire.Session]:
    """To look at it is not to use it."""
    row = await caller.bank_row(bank)
    async with caller.deps.database.read(caller.tenant) as conn:
        session = await sessions.get_session(conn, caller.tenant, row.id, known_form(session_id), before=_before(caller))
    return replies.send(_shown(caller, session))


@delete(
    "/v1/sessions/{session_id:str}",
    operation_id="close_session",
    summary="Close a session; what was taught in it stays",
    tags=TAGS,
    opt=needs("recall:read"),
    status_code=204,
)
async def close_session(caller: NamedDependency[Caller], session_id: FromPath[str], bank: BankParam = None) -> None:
    """Corrections keep the session's name."""
    row = await caller.bank_row(bank)
    async with caller.deps.database.write(caller.tenant) as conn:
        await sessions.close_session(conn, caller.tenant, row.id, known_form(session_id), before=_before(caller))


@post(
    "/v1/sessions/{session_id:str}/warm",
    operation_id="warm_session",
    summary="Load a session's bank before it is asked",
    tags=TAGS,
    opt=needs("recall:read"),
    status_code=200,
)
async def warm_session(caller: NamedDependency[Caller], session_id: FromPath[str], bank: BankParam = None) -> Response[wire.Warmth]:
    """Uses the session."""
    row = await caller.bank_row(bank)

    async def work(_: str | None) -> wire.Warmth:
        now, before = caller.deps.now(), _before(caller)
        async with caller.deps.database.write(caller.tenant) as conn:
            await sessions.use_session(conn, caller.tenant, row.id, known_form(session_id), now=now, before=before)
        return await _warmed(caller, row.id)

    return await once(caller, work, status=200)


async def _warmed(caller: Caller, bank: str) -> wire.Warmth:
    """A hint only: whoever asks meets what is in the way then."""
    try:
        return await caller.deps.engine.warm(caller.tenant, bank)
    except (Capacity, WriterBusy) as error:
        return wire.Warmth(warm=False, eta_ms=1e3 * (error.retry_after_s or ASK_AGAIN_S))


def _ttl(caller: Caller) -> timedelta:
    return timedelta(seconds=caller.deps.settings.session_ttl_s)


def _before(caller: Caller) -> datetime:
    """Sessions that were not used since are gone."""
    return caller.deps.now() - _ttl(caller)


def _id(row: SessionRow) -> str:
    return row.id


def _shown(caller: Caller, row: SessionRow) -> wire.Session:
    return wire.Session(
        id=row.id,
        bank=row.bank,
        created_at=row.created_at,
        last_used_at=row.last_used_at,
        expires_at=row.last_used_at + _ttl(caller),
    )
