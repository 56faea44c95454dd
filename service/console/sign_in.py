"""Signing in to the console: a key, sent once in a header as by any program, becomes a cookie that no script can read.

The cookie is a random token whose hash is a row beside the key. So the browser keeps nothing that is worth more than twelve hours, the
key is looked at for each request as if it had been sent itself, and who signs out or revokes the key ends it here, not only in a browser.
"""

import secrets
from datetime import timedelta
from typing import Any

from litestar import Request, Response, delete, get, post
from litestar.di import NamedDependency

from service import wire
from service.api.auth import PUBLIC, Presented, principal_of
from service.api.caller import Caller
from service.api.keys import whoami_of
from service.console import cookie
from service.errors import Conflict, Unauthenticated
from service.ids import new_id
from service.store import sign_ins

SECONDS = 43_200  # of a sign-in: a working day
NO_STORE = {"Cache-Control": "no-store"}


@get("/console/sign-in", operation_id="signed_in", include_in_schema=False, opt=PUBLIC)
async def signed_in(request: Request[Any, Any, Any]) -> Response[wire.WhoAmI | None]:
    """Who is signed in, or nothing: the page asks before it knows whether to show the form, and 401 would be an error in every console."""
    try:
        principal = await principal_of(request)
    except Unauthenticated:
        return Response(None, status_code=204, headers=NO_STORE)
    return Response(whoami_of(principal), headers=NO_STORE)


@post("/console/sign-in", operation_id="sign_in", include_in_schema=False, status_code=201)
async def sign_in(caller: NamedDependency[Caller]) -> Response[wire.WhoAmI]:
    """Takes a key like any route of /v1, and only from the console's page: no other page signs anybody in to an account of its choice."""
    cookie.refuse_foreign(caller.request.headers)
    if caller.principal.sign_in is not None:
        raise Conflict("signed in already; a new sign-in takes the key itself")
    token, now = secrets.token_urlsafe(32), caller.deps.now()
    row = new_id("sgn")
    async with caller.deps.database.write(caller.tenant) as conn:
        await sign_ins.add_sign_in(
            conn,
            caller.tenant,
            id=row,
            key=caller.principal.key_id,
            lookup_hash=Presented(token, is_cookie=True).lookup_hash(caller.deps.pepper),
            now=now,
            expires_at=now + timedelta(seconds=SECONDS),
        )
        await caller.note(conn, "console.sign_in", row, {})
    return Response(
        whoami_of(caller.principal),
        status_code=201,
        cookies=[cookie.signed_in(caller.request.headers, token, SECONDS)],
        headers=NO_STORE,
    )


@delete("/console/sign-in", operation_id="sign_out", include_in_schema=False, status_code=204)
async def sign_out(caller: NamedDependency[Caller]) -> Response[None]:
    """The cookie is worth nothing from now on, wherever a copy of it may be."""
    row = caller.principal.sign_in
    if row is None:
        raise Conflict("this request came with a key, which is not signed in; revoke the key to end it")
    async with caller.deps.database.write(caller.tenant) as conn:
        if await sign_ins.end_sign_in(conn, caller.tenant, row):
            await caller.note(conn, "console.sign_out", row, {})
    caller.keyring.forget(row)
    return Response(None, status_code=204, cookies=[cookie.signed_out(caller.request.headers)])
