"""Conversations in the way of OpenAI's API: what is remembered goes into the system message, and whoever has the model completes it.

A program that speaks that API changes its address, its key and the name of its model. Errors have that API's form (`problems.py`). While a
conversation waits for its upstream it takes no place among the requests in progress: calls to upstreams have a bound of their own. It ends
when the client leaves.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable
from dataclasses import dataclass
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
from service.chat.composing import last_said, note, with_note
from service.chat.errors import ChatError, UpstreamFailed
from service.chat.objecting import objection
from service.errors import PalimpsestError
from service.ids import new_id
from service.store import proposals

TAGS = ["chat"]
EVENTS = "text/event-stream"
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
    seen: Seen | None


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
    talk = Talk(caller, backends.of(data.model), data, data.memory.bank or memory_bank, seen_in(min_state))
    if data.stream:
        refuse_key(caller, "a stream cannot be repeated; send it without")
        return await _streamed(talk)

    async def work(_: str | None) -> replies.Sent:
        asked, remembered = await _prepared(talk)
        with caller.deps.metrics.stage("upstream", "client"):
            completion = await _unless_left(caller.request, talk.backend.complete(asked))
        return completion | {"memory": remembered}

    return await once(caller, work, status=200, quotes=True, reads=True, durable=True)  # asked twice, the upstream costs twice


@get("/v1/models", operation_id="list_models", summary="The models of conversations", tags=TAGS, opt=needs("recall:read"))
async def list_models(caller: NamedDependency[Caller]) -> Response[wire.ChatModels]:
    """As OpenAI's API has it."""
    backends: Backends = caller.request.app.state.backends
    return replies.send(wire.ChatModels(data=[wire.ChatModel(id=model) for model in backends.models()]))


async def _prepared(talk: Talk) -> tuple[Asked, wire.ChatRemembered]:
    """What the backend is asked, and what is remembered of it; from here on the request only waits for that."""
    caller = talk.caller
    body = msgspec.json.decode(await caller.request.body())
    body.pop("memory", None)
    bank = await caller.bank(talk.bank)
    answers, state = await _recalled(talk, bank)
    said = note(answers, caller.deps.settings.note_tokens)
    body["messages"] = with_note(body["messages"], said.text)
    recall_id = new_id("rec") if state else None
    proposal = await _proposed(talk)
    remembered = wire.ChatRemembered(recall_id=recall_id, used=said.used, abstained=not answers, state=state, proposal=proposal)
    caller.request.scope["state"]["leave_early"]()
    return Asked(caller.tenant, bank, body), remembered


async def _recalled(talk: Talk, bank: str) -> tuple[list[wire.Answer], wire.StateRef | None]:
    """What the memory says to the user's last message, and in which state; nothing and none where it is not asked."""
    text = last_said(talk.data.messages)[: wire.TEXT_MAX] if talk.backend.noted else ""
    if not text.strip():
        return [], None
    check_inputs("messages", [text])
    items, state, _ = await recall_since(
        talk.caller, bank, [text], talk.seen, top_k=RECALLED, min_confidence=None, at=talk.data.memory.at, explain=False
    )
    return items[0].answers, state


async def _proposed(talk: Talk) -> wire.Proposal | None:
    """What the last message plainly corrects, kept as a proposal. That it could not be kept is no reason to answer nothing."""
    caller, memory = talk.caller, talk.data.memory
    found = objection(talk.data.messages) if memory.learn else None
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
    asked, remembered = await _prepared(talk)
    with caller.deps.metrics.stage("upstream", "client"):
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
    except ChatError as error:
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
