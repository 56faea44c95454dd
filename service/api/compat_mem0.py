"""`/compat/mem0`: memories in the shapes of mem0, so that its clients need another address only. Both of its path sets, one handler each.

A memory is a correction: its text is the answer, and what it answers is the situation. A user, or an agent, is a bank of that name; an
update supersedes; a delete suppresses. No language model reads along, so nothing is inferred from what is added.
"""

from collections.abc import Callable
from typing import Annotated, Any

from litestar import Response, delete, get, post, put
from litestar.di import NamedDependency
from litestar.params import FromPath, JSONBody, QueryParameter

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.limits import BY_ITEMS
from service.api.mem0_shapes import BANKS, added, bank_of, lessons, listed, shown
from service.api.texts import check_bank_name, check_corrections, check_inputs, check_note, known_form
from service.errors import Conflict, NotFound
from service.ids import new_id
from service.store import banks, corrections, history
from service.store.idempotency import Committed
from service.store.rows import BankRow, EventRow

TAGS = ["mem0"]
AT = "/compat/mem0"
LISTED = 1_000  # the newest corrections of a bank, among which the listed ones are

Entity = Annotated[str | None, QueryParameter(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$", description="Whose memories.")]
PageNumber = Annotated[int, QueryParameter(ge=1, le=LISTED, description="Which page, from 1.")]
PageSize = Annotated[int, QueryParameter(ge=1, le=200, description="Memories on a page.")]


def _named(operation: str) -> Callable[[Any, Any, list[Any]], str]:
    """One operation id for each of a handler's two paths."""
    return lambda _handler, _method, path: f"{operation}_platform" if str(path[2]) in ("v1", "v3") else operation


@get(f"{AT}/v1/ping", operation_id="mem0_ping", summary="mem0: whether the key is good", tags=TAGS)
async def ping(caller: NamedDependency[Caller]) -> Response[wire.Mem0Ping]:
    """What mem0's clients ask when they are made."""
    return replies.send(wire.Mem0Ping(org_id=caller.tenant))


@post(
    [f"{AT}/memories", f"{AT}/v3/memories/add"],
    operation_id=_named("mem0_add"),
    summary="mem0: remember messages as they are",
    tags=TAGS,
    opt=needs("corrections:write") | BY_ITEMS,
    dto=Strict[wire.Mem0Add],
    status_code=200,
)
async def add(caller: NamedDependency[Caller], data: JSONBody[wire.Mem0Add]) -> Response[wire.Mem0Added]:
    """A user or agent that is new gets a bank, if the key may create one."""
    await caller.charge(1 if isinstance(data.messages, str) else len(data.messages))
    items, whose = lessons(data), bank_of(data)
    check_corrections(items, batch=True)
    ids = [new_id("cor") for _ in items]

    async def work(key: str | None) -> wire.Mem0Added:
        bank = await _bank_or_new(caller, whose)
        return added(items, await caller.deps.engine.teach(caller.tenant, bank, items, actor=caller.actor, idempotency_key=key, ids=ids))

    async def recover(done: Committed) -> wire.Mem0Added:
        return added(items, await caller.deps.engine.taught(caller.tenant, done.bank, done.first_seq, items))

    return await once(caller, work, status=200, recover=recover, quotes=True)


@post(
    f"{AT}/v3/memories",
    operation_id="mem0_list_platform",
    summary="mem0: memories of a user or an agent",
    tags=TAGS,
    opt=needs("memory:inspect"),
    dto=Strict[wire.Mem0Scope],
    status_code=200,
)
async def list_by_filters(
    caller: NamedDependency[Caller], data: JSONBody[wire.Mem0Scope], page: PageNumber = 1, page_size: PageSize = 100
) -> Response[wire.Mem0Listed]:
    """Those that hold, newest first, of the newest 1,000 corrections."""
    whose = bank_of(data)

    async def work(_: str | None) -> wire.Mem0Listed:
        return await _listed(caller, whose, page, page_size)

    return await once(caller, work, status=200, quotes=True, reads=True)


@get(f"{AT}/memories", operation_id="mem0_list", summary="mem0: memories of a user or an agent", tags=TAGS, opt=needs("memory:inspect"))
async def list_memories(
    caller: NamedDependency[Caller], user_id: Entity = None, agent_id: Entity = None, page: PageNumber = 1, page_size: PageSize = 100
) -> Response[wire.Mem0Listed]:
    """Those that hold, newest first, of the newest 1,000 corrections."""
    return replies.send(await _listed(caller, bank_of(wire.Mem0Scope(user_id=user_id, agent_id=agent_id)), page, page_size))


@post(
    [f"{AT}/search", f"{AT}/v3/memories/search"],
    operation_id=_named("mem0_search"),
    summary="mem0: ask the memory of a user or an agent",
    tags=TAGS,
    opt=needs("recall:read"),
    dto=Strict[wire.Mem0Search],
    status_code=200,
)
async def search(caller: NamedDependency[Caller], data: JSONBody[wire.Mem0Search]) -> Response[wire.Mem0Found]:
    """Nothing of a user or agent that is not known."""
    check_inputs("query", [data.query])
    whose = bank_of(data)

    async def work(_: str | None) -> wire.Mem0Found:
        row = await _bank_if_any(caller, whose)
        return wire.Mem0Found(results=[] if row is None else await _recalled(caller, row, data))

    return await once(caller, work, status=200, quotes=True, reads=True)


@get(
    [f"{AT}/memories/{{memory_id:str}}", f"{AT}/v1/memories/{{memory_id:str}}"],
    operation_id=_named("mem0_get"),
    summary="mem0: one memory",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def get_memory(caller: NamedDependency[Caller], memory_id: FromPath[str]) -> Response[wire.Mem0Memory]:
    """Also one that was superseded; not one that was forgotten."""
    row, found = await _memory(caller, memory_id)
    return replies.send(shown(row, found))


@put(
    [f"{AT}/memories/{{memory_id:str}}", f"{AT}/v1/memories/{{memory_id:str}}"],
    operation_id=_named("mem0_update"),
    summary="mem0: another text in the place of a memory",
    tags=TAGS,
    opt=needs("corrections:write"),
    dto=Strict[wire.Mem0Update],
)
async def update(caller: NamedDependency[Caller], memory_id: FromPath[str], data: JSONBody[wire.Mem0Update]) -> Response[wire.Mem0Memory]:
    """The answer has the id of the new memory, which supersedes the old one; both are in the history."""
    row, old = await _memory(caller, memory_id)
    metadata = old.metadata if data.metadata is None else data.metadata
    wrong = old.right if old.right != data.text else None
    new = wire.NewCorrection(input=old.input or "", right=data.text, wrong=wrong, session_id=old.session_id, metadata=metadata or {})
    check_corrections([new], batch=False)
    (taught,) = await caller.deps.engine.teach(caller.tenant, row.id, [new], actor=caller.actor, idempotency_key=None)
    return replies.send(shown(*await _memory(caller, taught.id)))


@delete(
    [f"{AT}/memories/{{memory_id:str}}", f"{AT}/v1/memories/{{memory_id:str}}"],
    operation_id=_named("mem0_delete"),
    summary="mem0: forget a memory",
    tags=TAGS,
    opt=needs("forget"),
    status_code=200,
)
async def delete_memory(caller: NamedDependency[Caller], memory_id: FromPath[str]) -> Response[wire.Mem0Done]:
    """And what it had superseded: nothing is answered with any of them, however often this is said. `POST /v1/forget` erases as well."""
    row, found = await _memory(caller, memory_id, forgotten=True)
    async with caller.deps.database.read(caller.tenant) as conn:
        older = [event.id for event in await history.with_its_input(conn, caller.tenant, row.id, found.seq) if event.seq < found.seq]
    await caller.deps.engine.forget(caller.tenant, row.id, [*older, found.id], mode="suppress", reason="mem0 delete", actor=caller.actor)
    return replies.send(wire.Mem0Done(message="Memory deleted successfully!"))


@get(
    [f"{AT}/memories/{{memory_id:str}}/history", f"{AT}/v1/memories/{{memory_id:str}}/history"],
    operation_id=_named("mem0_history"),
    summary="mem0: what a memory was before, and is now",
    tags=TAGS,
    opt=needs("memory:inspect"),
)
async def get_history(caller: NamedDependency[Caller], memory_id: FromPath[str]) -> Response[list[wire.Mem0Past]]:
    """All corrections of its situation that were not forgotten, in the order they came."""
    row, found = await _memory(caller, memory_id)
    async with caller.deps.database.read(caller.tenant) as conn:
        events = await history.with_its_input(conn, caller.tenant, row.id, found.seq)
        kept = [each for each in await corrections.shown(conn, caller.tenant, row, events) if each.status != "forgotten"]
    past = []
    for before, each in zip([None, *kept], kept, strict=False):
        past.append(
            wire.Mem0Past(
                id=each.id,
                memory_id=found.id,
                old_memory=before.right if before else None,
                new_memory=each.right,
                event="UPDATE" if before else "ADD",
                created_at=each.created_at,
                updated_at=each.created_at,
            )
        )
    return replies.send(past)


@post(
    f"{AT}/v1/feedback",
    operation_id="mem0_feedback",
    summary="mem0: what somebody thinks of a memory",
    tags=TAGS,
    opt=needs("forget"),
    dto=Strict[wire.Mem0Feedback],
    status_code=200,
)
async def feedback(caller: NamedDependency[Caller], data: JSONBody[wire.Mem0Feedback]) -> Response[wire.Mem0Done]:
    """NEGATIVE and VERY_NEGATIVE put it into quarantine: it is answered with again when that is lifted. POSITIVE changes nothing."""
    check_note("feedback_reason", data.feedback_reason)

    async def work(_: str | None) -> wire.Mem0Done:
        row, found = await _memory(caller, data.memory_id)
        if data.feedback not in ("NEGATIVE", "VERY_NEGATIVE"):
            return wire.Mem0Done(message="nothing was changed")
        held = await caller.deps.engine.quarantine(
            caller.tenant, row.id, [found.id], session=None, key=None, reason=data.feedback_reason, actor=caller.actor
        )
        return wire.Mem0Done(message="the memory is in quarantine", id=held.id)

    return await once(caller, work, status=200)


async def _memory(caller: Caller, memory_id: str, *, forgotten: bool = False) -> tuple[BankRow, EventRow]:
    """A memory, and its bank; one that was forgotten only if that is asked for.

    Raises:
        NotFound: this key has no such memory.
    """
    async with caller.deps.database.read(caller.tenant) as conn:
        event = await history.by_id(conn, caller.tenant, known_form(memory_id))
        if event is not None and caller.sees(event.bank):
            row = await banks.find_bank(conn, caller.tenant, event.bank)
            (seen,) = await corrections.shown(conn, caller.tenant, row, [event])
            if forgotten or seen.status != "forgotten":
                return row, event
    raise NotFound(f"no memory {memory_id}")


async def _bank_if_any(caller: Caller, name: str | None) -> BankRow | None:
    """The bank of the key or of a user or agent; None of one that this key does not know."""
    try:
        return await caller.bank_row(name)
    except NotFound:
        if name is None:
            raise
        return None


async def _bank_or_new(caller: Caller, name: str | None) -> str:
    row = await _bank_if_any(caller, name)
    if row is not None or name is None:
        return (row or await caller.bank_row(name)).id
    if caller.principal.banks is not None or not caller.principal.allows("admin"):
        raise NotFound(f"this key has no bank {name!r} and may not create it; an admin can, by POST /v1/banks")
    check_bank_name(name, next(field for field, prefix in BANKS.items() if name.startswith(prefix)))
    try:
        return (await caller.deps.engine.create_bank(caller.tenant, name, actor=caller.actor)).id
    except Conflict:  # another request was quicker
        return (await caller.bank_row(name)).id


async def _listed(caller: Caller, name: str | None, page: int, size: int) -> wire.Mem0Listed:
    row = await _bank_if_any(caller, name)
    if row is None:
        return listed([], page, size)
    async with caller.deps.database.read(caller.tenant) as conn:
        newest = await history.page(conn, caller.tenant, row.id, None, LISTED, True)
        known = await corrections.shown(conn, caller.tenant, row, newest)
    return listed([shown(row, each) for each in known if each.status == "active"], page, size)


async def _recalled(caller: Caller, row: BankRow, data: wire.Mem0Search) -> list[wire.Mem0Memory]:
    options: dict[str, Any] = {"top_k": data.top_k, "min_confidence": data.threshold, "at": None, "explain": False, "min_seq": None}
    ((item,), _, _) = await caller.deps.engine.recall(caller.tenant, row.id, [data.query], **options)
    async with caller.deps.database.read(caller.tenant) as conn:
        events = await history.by_ids(conn, caller.tenant, row.id, [name for each in item.answers for name in each.support])
        known = {each.id: each for each in await corrections.shown(conn, caller.tenant, row, events)}
    found = []
    for each in item.answers:
        held = [known[name] for name in each.support if name in known]
        live = next((correction for correction in held if correction.status == "active"), None)
        if live is not None and caller.principal.allows("memory:inspect"):
            found.append(shown(row, live, each.confidence))
        elif live is not None or not held:  # with mem0 what was updated is there no more
            found.append(wire.Mem0Memory(id=None if live is None else live.id, memory=each.value, score=each.confidence))
    return found
