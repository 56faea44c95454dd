"""Idempotency-Key on every POST: a retried request has the effect of one.

- The key belongs to the API key that sent it, and to method, path, query and body: another one of these is refused (422), a running
  request is told so (409).
- A reply is stored when the call succeeded. A call that failed leaves nothing behind, so that the same key may try again.
- A correction is marked committed in the transaction that appends it, a rollback in the one that moves the head. When its reply was lost
  with the process, the retry is answered from what is stored (`recover`).
"""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any

import structlog
from litestar import Response

from service.api import replies
from service.api.caller import Caller
from service.errors import Conflict, IdempotencyInFlight, Invalid, OutcomeUnknown, PalimpsestError
from service.store import idempotency
from service.store.keyed import Keyed

KEY_MAX = 200
TRIES = 3  # workers that a request may be sent to when those before were lost on the way
LEASE_S = 15.0  # a request that was silent for so long is taken for dead, and the same key may try again
log = structlog.get_logger()

Work = Callable[[str | None], Awaitable[replies.Sent]]
Recover = Callable[[idempotency.Committed], Awaitable[replies.Sent]]


async def once(
    caller: Caller,
    work: Work,
    *,
    status: int,
    recover: Recover | None = None,
    stored: Callable[[Any], replies.Sent] | None = None,
    quotes: bool = False,
    reads: bool = False,
) -> Response[Any]:
    """The reply of `work(name)`, run at most once for the request's Idempotency-Key.

    `name` is what the store knows the key by (None without one); `stored` is what is kept of a reply that may not be kept whole. A reply
    that `quotes` the memory is not given again once something was forgotten: work that only `reads` is done again then.

    Raises:
        Invalid, IdempotencyMismatch, IdempotencyInFlight: about the key. Whatever `work` raises.
    """
    name = _name(caller)
    if name is None:
        return replies.send(await work(None), status)
    tenant, now = caller.tenant, caller.deps.now()
    request_hash = await _request_hash(caller)
    keyed = Keyed(caller.deps.database, durable=recover is None and not reads)
    begun = await keyed.begin(tenant, name, request_hash=request_hash, now=now, lease_s=LEASE_S, quotes=quotes)
    match begun:
        case idempotency.Done() if begun.reply != idempotency.ERASED:
            return replies.send_again(begun.reply, begun.status)
        case idempotency.Done() if not reads:
            raise Conflict("this request was done; its reply is gone because something that it may quote was forgotten or erased")
        case idempotency.Committed():
            if recover is None:
                raise Conflict("this request was done, and its reply is lost")
            reply = await recover(begun)
        case _:
            reply = await _first(caller, name, work, recover)
    await _finish(keyed, caller, name, status, replies.encode(stored(reply) if stored else reply), now if quotes else None)
    sent = replies.send(reply, status)
    if isinstance(begun, idempotency.Committed):
        sent.headers["Idempotent-Replayed"] = "true"
    return sent


async def _first(caller: Caller, name: str, work: Work, recover: Recover | None) -> replies.Sent:
    try:
        return await _renewing(caller, name, work(name) if recover is None else _surely(caller, name, work, recover))
    except Exception:  # not when cancelled: the engine ends what it began, and the key must still be there then
        try:
            async with caller.deps.database.write(caller.tenant) as conn:
                await idempotency.abandon(conn, caller.tenant, name)
        except PalimpsestError as error:  # the key frees itself when its lease ends
            log.warning("idempotency key not freed", action="abandon", request=caller.request_id, why=error.code)
        raise


async def _renewing(caller: Caller, name: str, work: Awaitable[replies.Sent]) -> replies.Sent:
    """The work's reply; the key's lease is renewed for as long as it takes."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=LEASE_S / 3))[0]:
            try:
                async with caller.deps.database.write(caller.tenant) as conn:
                    await idempotency.renew(conn, caller.tenant, name, now=caller.deps.now(), lease_s=LEASE_S)
            except PalimpsestError as error:  # a busy database: the next one may come in time
                log.warning("lease not renewed", action="renew", request=caller.request_id, why=error.code)
    except asyncio.CancelledError:
        task.cancel()
        raise
    return task.result()


async def _surely(caller: Caller, name: str, work: Work, recover: Recover) -> replies.Sent:
    """The reply also when a worker was lost on the way: it has marked the key committed, or never will once another has."""
    for left in reversed(range(TRIES)):
        try:
            return await work(name)
        except (OutcomeUnknown, IdempotencyInFlight):  # in flight: the lost one was quicker after all
            async with caller.deps.database.read(caller.tenant) as conn:
                done = await idempotency.committed(conn, caller.tenant, name)
            if done is not None:
                return await recover(done)
            if not left:
                raise
    raise AssertionError("the last try returns or raises")


async def _finish(keyed: Keyed, caller: Caller, name: str, status: int, reply: bytes, quotes_since: datetime | None) -> None:
    try:
        await keyed.finish(caller.tenant, name, status=status, reply=reply, now=caller.deps.now(), quotes_since=quotes_since)
    except PalimpsestError as error:  # what was asked is done and durable: say so, although a retry cannot be answered from here
        log.warning("reply not stored", action="finish", request=caller.request_id, why=error.code)


def refuse_key(caller: Caller, why: str) -> None:
    """Raise where the request has an Idempotency-Key and its reply cannot be kept for one.

    Raises:
        Invalid: it has.
    """
    if "idempotency-key" in caller.request.headers:
        raise Invalid(f"Idempotency-Key: {why}", errors=[{"field": "Idempotency-Key", "message": why}])


def _name(caller: Caller) -> str | None:
    given = caller.request.headers.get("idempotency-key")
    if given is None:
        return None
    if not 1 <= len(given) <= KEY_MAX or not given.isascii() or not given.isprintable():
        message = f"1 to {KEY_MAX} printable ASCII characters"
        raise Invalid(f"Idempotency-Key: {message}", errors=[{"field": "Idempotency-Key", "message": message}])
    return hashlib.sha256(f"{caller.principal.key_id}\n{given}".encode()).hexdigest()


async def _request_hash(caller: Caller) -> bytes:
    request = caller.request
    asked = b"?" + request.scope["query_string"] if request.scope["query_string"] else b""
    return hashlib.sha256(f"{request.method} {request.scope['path']}".encode() + asked + b"\n" + await request.body()).digest()
