"""The change feed: what happened in the tenant, as it happens, over server-sent events.

Whoever comes back says with `Last-Event-ID` up to where it has read, and gets everything behind that which is not older than a week. A
stream stays open for as long as the client likes, so it takes no place among the requests in progress: it has one among the streams, of
which a tenant has few in one process (limits.py). It ends when the process does, and when its key has ended.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Annotated

import msgspec
from litestar import get
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, QueryParameter
from litestar.response import Stream

from service import wire
from service.api.auth import needs, presented_by
from service.api.caller import Caller
from service.errors import Invalid, PalimpsestError
from service.store import changes, present
from service.store.rows import ChangeRow

LOOK_S = 0.5  # between looks for what is new
QUIET_S = 15.0  # after which a silent stream says that it is alive
PAGE = 100

LastEventId = Annotated[
    str | None, HeaderParameter(name="Last-Event-ID", max_length=20, description="`id` of the last event that was read.")
]
OneBank = Annotated[
    str | None,
    QueryParameter(
        min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$", description="Name or id of the one bank that is meant; else all."
    ),
]
WaitS = Annotated[
    float | None,
    QueryParameter(ge=0, le=3_600, description="Seconds after which the stream ends; else it stays open. 0: what is there now."),
]
Events = Annotated[
    str | None,
    QueryParameter(max_length=400, description="Which events, with commas between them; else all."),
]


class Ending:
    """Whether the process is about to end."""

    def __init__(self) -> None:
        self.now = False

    def end(self) -> None:
        """Let every stream end within a look."""
        self.now = True


@get(
    "/v1/stream",
    operation_id="stream_changes",
    summary="What happens, as it happens",
    tags=["webhooks"],
    opt=needs("memory:inspect"),
    media_type="text/event-stream",
)
async def stream_changes(
    caller: NamedDependency[Caller],
    bank: OneBank = None,
    events: Events = None,
    wait_s: WaitS = None,
    last_event_id: LastEventId = None,
) -> Stream:
    """Server-sent events with `id`, `event` and `data`; ids and states only. Without `Last-Event-ID` it begins with what happens next.

    `missed` is sent first where what came after `Last-Event-ID` is not kept any more: read the state of things anew.
    """
    kinds = _kinds(events)
    banks = None if caller.principal.banks is None else sorted(caller.principal.banks)
    if bank is not None:
        banks = [(await caller.bank_row(bank)).id]
    state = caller.request.scope["state"]
    caller.limiter.streams(state, caller.tenant)
    after, missed = await _begin(caller, last_event_id)
    state["leave_early"]()
    told = _told(caller, after, kinds, banks, missed=missed, until=None if wait_s is None else time.monotonic() + wait_s)
    return Stream(told, media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})


async def _told(
    caller: Caller, after: int, kinds: Sequence[str] | None, banks: Sequence[str] | None, *, missed: bool, until: float | None
) -> AsyncIterator[bytes]:
    ending: Ending = caller.request.app.state.ending
    yield _place(after, "event: missed\ndata: {}" if missed else ": here")
    said = time.monotonic()
    while not ending.now and await _may_go_on(caller):
        try:
            rows, seen = await _look(caller, after, kinds, banks)
        except PalimpsestError:  # a busy database: the client loses nothing, and comes back with what it has read
            return
        for row in rows:
            yield _event(row)
        full = len(rows) == PAGE
        after = rows[-1].position if full else max(after, seen)
        now = time.monotonic()
        if rows:
            said = now
        elif now - said >= QUIET_S:
            said = now
            yield _place(after, ": still here")
        if until is not None and now >= until and not full:
            return
        if not full:
            await asyncio.sleep(LOOK_S)


async def _look(caller: Caller, after: int, kinds: Sequence[str] | None, banks: Sequence[str] | None) -> tuple[list[ChangeRow], int]:
    """What is new behind a place, and the last place that was looked at."""
    database, tenant = caller.deps.database, caller.tenant
    async with database.read(tenant) as conn:
        waiting = await changes.waiting(conn, tenant)
    if waiting:
        async with database.write(tenant) as conn:
            await changes.publish(conn, tenant, caller.deps.now())
    async with database.read(tenant) as conn:
        seen = await changes.last(conn, tenant)
        return await changes.page(conn, tenant, after, PAGE, kinds=kinds, banks=banks), seen


async def _begin(caller: Caller, last_event_id: str | None) -> tuple[int, bool]:
    """The place that a stream starts behind, and whether something after it is not kept any more."""
    if last_event_id is not None and (not last_event_id.isascii() or not last_event_id.isdigit() or len(last_event_id) > 15):
        raise _invalid("Last-Event-ID", "not an id of this feed")
    _, seen = await _look(caller, 0, [], [])
    if last_event_id is None:
        return seen, False
    async with caller.deps.database.read(caller.tenant) as conn:
        first = await changes.first(conn, caller.tenant)
    after, kept_behind = int(last_event_id), seen if first is None else first - 1
    return max(after, kept_behind), after < kept_behind


async def _may_go_on(caller: Caller) -> bool:
    """Whether the key is still good: it may be revoked or end while the stream is open."""
    try:
        await caller.keyring.find(presented_by(caller.request))
    except PalimpsestError:
        return False
    return True


def _kinds(events: str | None) -> list[str] | None:
    if events is None:
        return None
    kinds = events.split(",")
    unknown = [kind for kind in kinds if kind not in changes.KINDS]
    if unknown:
        raise _invalid("events", f"no event {unknown[0][:40]!r}; the events are {', '.join(changes.KINDS)}")
    return kinds


def _place(after: int, said: str) -> bytes:
    """A place without an event: whoever comes back has nothing twice and misses nothing, also before the first event."""
    return f"{said}\nid: {after}\n\n".encode()


def _event(row: ChangeRow) -> bytes:
    told: wire.Change = present.change(row)
    return f"id: {row.position}\nevent: {row.kind}\ndata: {msgspec.json.encode(told).decode()}\n\n".encode()


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])
