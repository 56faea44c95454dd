"""Conversations in the way of OpenAI's API: what is remembered goes into the system message, and whoever has the model completes it.

A program that speaks that API changes its address, its key and the name of its model. Errors have that API's form (`problems.py`). While a
conversation waits for its upstream it takes no place among the requests in progress: calls to upstreams have a bound of their own. It ends
when the client leaves.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, TypeVar

import msgspec
import structlog
from litestar import Request, Response, get, post
from litestar.background_tasks import BackgroundTask
from litestar.di import NamedDependency
from litestar.exceptions import ClientException
from litestar.params import HeaderParameter, JSONBody
from litestar.response import Stream

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once, refuse_key
from service.api.memory import MinState, Seen, recall_since, seen_in
from service.api.problems import LEFT, chat_problem
from service.api.texts import check_inputs
from service.chat import sse
from service.chat.backends import Asked, Backend, Backends, Streaming
from service.chat.composing import last_said, note, text_of, with_note
from service.chat.errors import ChatError, UpstreamFailed
from service.chat.hope import turn_of
from service.chat.objecting import objection
from service.errors import Invalid, PalimpsestError
from service.ids import new_id
from service.store import banks, proposals
from service.store.db import Database

TAGS = ["chat"]
EVENTS = "text/event-stream"
LISTED = 1_000  # banks
RECALLED = 3  # answers that are asked for; behind the best one only likely ones are shown, see composing.py
T = TypeVar("T")
log = structlog.get_logger()

MemoryBank = Annotated[
    str | None,
    HeaderParameter(
        name="Memory-Bank",
        min_length=1,
        max_length=128,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="Name or id of the bank, where the body's `memory` names none; else the key's one bank, else `default`.",
    ),
]


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation to be completed."""

    caller: Caller
    backend: Backend
    data: wire.ChatRequest
    bank: str | None  # as it was named
    at: str | None  # a snapshot of it
    seen: Seen | None

    @property
    def learns(self) -> bool:
        """Whether the bank learns what is said: not from a key that may teach it nothing, and not at a snapshot."""
        wanted = self.backend.learns and self.data.memory.learn and self.at is None
        return wanted and self.caller.principal.allows("corrections:write")


@post(
    "/v1/chat/completions",
    operation_id="complete_chat",
    summary="Complete a conversation with what is remembered",
    tags=TAGS,
    opt=needs("recall:read"),
    dto=Strict[wire.ChatRequest],
    status_code=200,
    media_type=EVENTS,  # a stream takes the route's, and no other
)
async def complete_chat(
    caller: NamedDependency[Caller], data: JSONBody[wire.ChatRequest], min_state: MinState = None, memory_bank: MemoryBank = None
) -> Response[wire.ChatCompletion]:
    """As OpenAI's API has it, `stream` too. `memory` chooses the bank and tells what was remembered."""
    backends: Backends = caller.request.app.state.backends
    talk = _talk(caller, backends.of(data.model), data, memory_bank, seen_in(min_state))
    if data.stream:
        refuse_key(caller, "a stream cannot be repeated; send it without")
        return await _streamed(talk)

    async def work(name: str | None) -> replies.Sent:
        asked, remembered = await _prepared(talk, name)
        with caller.deps.metrics.stage("upstream", "client"), _taught(remembered, name):
            completion = await _unless_left(caller.request, talk.backend.complete(asked))
        return completion | {"memory": remembered}

    return await once(caller, work, status=200, quotes=True, reads=True, durable=True)  # asked twice, the upstream costs twice


@get("/v1/models", operation_id="list_models", summary="The models of conversations", tags=TAGS, opt=needs("recall:read"))
async def list_models(caller: NamedDependency[Caller]) -> Response[wire.ChatModels]:
    """As OpenAI's API has it."""
    backends: Backends = caller.request.app.state.backends
    known = await backends.models(caller.tenant, caller.principal.banks)
    return replies.send(wire.ChatModels(data=[wire.ChatModel(id=model) for model in known]))


async def bank_names(database: Database, tenant: str, only: Collection[str] | None) -> list[str]:
    """The names of a tenant's banks, of `only` where a key is pinned to them, at most `LISTED`: a list of models has no pages."""
    async with database.read(tenant) as conn:
        rows = await banks.list_banks(conn, tenant, None, LISTED, None if only is None else sorted(only))
    return [row.name for row in rows]


def _talk(caller: Caller, backend: Backend, data: wire.ChatRequest, header: str | None, seen: Seen | None) -> Talk:
    """The conversation, and where it is held: as the name of its model says, else `memory`, else the header.

    Raises:
        Invalid: two of them say different things.
    """
    place, memory = backend.place(data.model), data.memory
    for field, named, given in (("bank", place.bank, memory.bank or header), ("at", place.at, memory.at)):
        if named is not None and given is not None and named != given:
            message = f"the model's name says {named!r}, memory.{field} or its header {given!r}; say it once"
            raise Invalid(message, errors=[{"field": f"memory.{field}", "message": message}])
    return Talk(caller, backend, data, place.bank or memory.bank or header, place.at or memory.at, seen)


async def _prepared(talk: Talk, name: str | None) -> tuple[Asked, wire.ChatRemembered]:
    """What the backend is asked, and what is remembered of it; from here on the request only waits for that.

    What a bank learns is in its ledger by then. `name` is what the store knows the request's Idempotency-Key by.
    """
    caller = talk.caller
    body = msgspec.json.decode(await caller.request.body())
    body.pop("memory", None)
    bank = await caller.bank(talk.bank)
    answers, state = await _recalled(talk, bank)
    said = note(answers, caller.deps.settings.note_tokens)
    body["messages"] = with_note(body["messages"], said.text)
    recall_id = new_id("rec") if state else None
    proposal = await _proposed(talk)
    asked = Asked(caller.tenant, bank, body, talk.data.messages, talk.at)
    turn = await _observed(talk, asked, name)
    state = state if turn is None else turn.state
    remembered = wire.ChatRemembered(recall_id=recall_id, used=said.used, abstained=not answers, state=state, proposal=proposal, turn=turn)
    caller.request.scope["state"]["leave_early"]()
    return asked, remembered


async def _observed(talk: Talk, asked: Asked, name: str | None) -> wire.TurnTaken | None:
    """What the bank learns of what was said last, once. A retry under the same Idempotency-Key teaches it nothing more."""
    if not talk.backend.learns:
        return None
    talk.backend.check(asked)
    check_inputs("messages", [text for message in asked.messages if (text := text_of(message)).strip()])
    turn = turn_of(asked.messages, talk.data.memory.session_id) if talk.learns else None
    if turn is None:
        return None
    caller = talk.caller
    ids = [new_id("trn")] if name is None else turn_ids(name, asked.bank, turn, caller.deps.now())
    return await caller.deps.engine.observe(caller.tenant, asked.bank, turn, actor=caller.actor, ids=ids)


def turn_ids(name: str, bank: str, turn: wire.NewTurn, now: datetime) -> list[str]:
    """What the turn of a request under an Idempotency-Key is called today, and what it was called yesterday: a key is known for a day. And
    what it will be called tomorrow: a retry after midnight may be quicker than its first try, which then goes on.
    """
    today = int(now.timestamp() // 86_400)
    told = [[str(day), name, bank, turn.input, turn.right or ""] for day in (today, today - 1, today + 1)]
    return [f"trn_{hashlib.sha256(msgspec.json.encode(each)).hexdigest()[:26].upper()}" for each in told]


@contextlib.contextmanager
def _taught(remembered: wire.ChatRemembered, name: str | None) -> Iterator[None]:
    """Around an answer: where it fails after the bank has learned what was said, who asks is told, and not to send the same again."""
    try:
        yield
    except PalimpsestError as error:
        if remembered.turn is not None and name is None:  # under an Idempotency-Key the same may be sent again
            error.repeatable = False
            error.detail += f" (What was said is learned, as turn {remembered.turn.id}: ask again with memory.learn false.)"
        raise


async def _recalled(talk: Talk, bank: str) -> tuple[list[wire.Answer], wire.StateRef | None]:
    """What the memory says to the user's last message, and in which state; nothing and none where it is not asked."""
    text = last_said(talk.data.messages)[: wire.TEXT_MAX] if talk.backend.noted else ""
    if not text.strip():
        return [], None
    check_inputs("messages", [text])
    items, state, _ = await recall_since(
        talk.caller, bank, [text], talk.seen, top_k=RECALLED, min_confidence=None, at=talk.at, explain=False
    )
    return items[0].answers, state


async def _proposed(talk: Talk) -> wire.Proposal | None:
    """What the last message plainly corrects, kept as a proposal. That it could not be kept is no reason to answer nothing."""
    caller, memory = talk.caller, talk.data.memory
    found = objection(talk.data.messages) if memory.learn and talk.backend.noted else None  # a bank's own model learns it as it was said
    if found is None:
        return None
    bank = await caller.bank_row(talk.bank)
    given = {**found._asdict(), "session_id": memory.session_id, "created_by": caller.principal.key_id, "now": caller.deps.now()}
    try:
        async with caller.deps.database.write(caller.tenant) as conn:
            return await proposals.propose(conn, caller.tenant, bank.id, id=new_id("prp"), **given)
    except PalimpsestError as error:
        log.warning("proposal not kept", action="propose", request=caller.request_id, why=error.code)
        return None


async def _streamed(talk: Talk) -> Response[Any]:
    caller = talk.caller
    asked, remembered = await _prepared(talk, None)
    with caller.deps.metrics.stage("upstream", "client"), _taught(remembered, None):
        streaming = await _unless_left(caller.request, talk.backend.stream(asked))
    ended = BackgroundTask(streaming.close)  # a client that leaves at once may leave the events unread
    told = _told(caller, streaming, remembered)
    return Stream(told, media_type=EVENTS, headers={"X-Accel-Buffering": "no"}, background=ended)


async def _told(caller: Caller, streaming: Streaming, remembered: wire.ChatRemembered) -> AsyncIterator[bytes]:
    """The events as they come; the first chunk tells what was remembered, and what goes wrong then is an event, too."""
    first = True
    try:
        async for event in streaming.events:
            data = sse.data_of(event)
            if first and data and data != sse.DONE:
                first = False
                event = _remembering(data, remembered)  # noqa: PLW2901
            yield event
    except (ChatError, PalimpsestError) as error:
        yield sse.event_of(chat_problem(error, instance=caller.request.scope["path"], request_id=caller.request_id))
    finally:
        await streaming.close()


def _remembering(data: bytes, remembered: wire.ChatRemembered) -> bytes:
    chunk = msgspec.json.decode(data)
    if not isinstance(chunk, dict):
        raise UpstreamFailed("the upstream sent what is no chunk of a completion")
    return sse.event_of(msgspec.json.encode(chunk | {"memory": remembered}))


async def _unless_left(request: Request[Any, Any, Any], work: Awaitable[T]) -> T:
    """The work's result; it is cancelled when the client leaves."""
    working, leaving = asyncio.ensure_future(work), asyncio.ensure_future(_left(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientException(LEFT)
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _left(request: Request[Any, Any, Any]) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
