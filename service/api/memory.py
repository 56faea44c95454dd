"""Asking the memory, and looking at it as a whole."""

import re
from typing import Annotated, Any, NamedTuple

from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import HeaderParameter, JSONBody

from service import wire
from service.api import replies
from service.api.auth import needs
from service.api.bodies import Strict
from service.api.caller import Caller
from service.api.idempotency import once
from service.api.limits import BY_ITEMS
from service.api.pages import BankParam
from service.api.texts import check_inputs
from service.errors import Invalid, NotFound, StateUnavailable, StateUnknown
from service.ids import new_id
from service.store import banks, snapshots

TAGS = ["memory"]
MIN_STATE = re.compile(r"([A-Za-z0-9_]{1,64}):([0-9]{1,15})")

MinState = Annotated[
    str | None, HeaderParameter(name="Memory-Min-State", max_length=128, description="`Memory-State` of a write that this read must see.")
]


class Seen(NamedTuple):
    """A state that a reply told of: its head, and the last ledger position folded into it."""

    snapshot: str
    seq: int


@post(
    "/v1/recall",
    operation_id="recall",
    summary="Ask: what is right in this situation",
    tags=TAGS,
    opt=needs("recall:read"),
    dto=Strict[wire.RecallRequest],
    status_code=200,
)
async def recall(
    caller: NamedDependency[Caller], data: JSONBody[wire.RecallRequest], min_state: MinState = None
) -> Response[wire.Recalled]:
    """Answers, best first; none when the memory abstains."""
    check_inputs("input", [data.input])
    seen = seen_in(min_state)

    async def work(_: str | None) -> wire.Recalled:
        items, state, usage = await _ask(caller, data, [data.input], seen)
        return wire.Recalled(id=new_id("rec"), answers=items[0].answers, abstained=items[0].abstained, state=state, usage=usage)

    return await once(caller, work, status=200, quotes=True, reads=True)


@post(
    "/v1/recall/batch",
    operation_id="recall_batch",
    summary="Ask about up to 1,000 situations at one state",
    tags=TAGS,
    opt=needs("recall:read") | BY_ITEMS,
    dto=Strict[wire.RecallBatchRequest],
    status_code=200,
)
async def recall_batch(
    caller: NamedDependency[Caller], data: JSONBody[wire.RecallBatchRequest], min_state: MinState = None
) -> Response[wire.RecalledBatch]:
    """Results in the order of the inputs."""
    await caller.charge(len(data.inputs))
    check_inputs("inputs", data.inputs)
    seen = seen_in(min_state)

    async def work(_: str | None) -> wire.RecalledBatch:
        items, state, usage = await _ask(caller, data, data.inputs, seen)
        return wire.RecalledBatch(id=new_id("rec"), results=items, state=state, usage=usage)

    return await once(caller, work, status=200, quotes=True, reads=True)


@get("/v1/memory", operation_id="get_memory", summary="The learned state: levels, counts, digest", tags=TAGS, opt=needs("memory:inspect"))
async def get_memory(caller: NamedDependency[Caller], bank: BankParam = None, min_state: MinState = None) -> Response[wire.Memory]:
    """`digest` is the SHA-256 of everything the bank has learned."""
    seen = seen_in(min_state)
    memory = await caller.deps.engine.memory(caller.tenant, await caller.bank(bank))
    if seen is not None and seen.seq > memory.state.seq:
        await refuse_unknown(caller, memory.bank, seen)
        raise StateUnavailable(f"the bank is at {memory.state.seq}, you have seen {seen.seq}", retry_after_s=1)
    return replies.send(memory)


async def _ask(
    caller: Caller, data: wire.RecallOptions, inputs: list[str], seen: Seen | None
) -> tuple[list[wire.RecalledItem], wire.StateRef, wire.Usage]:
    bank = await caller.bank(data.bank)
    how: dict[str, Any] = {"top_k": data.top_k, "min_confidence": data.min_confidence, "explain": data.explain}
    return await recall_since(caller, bank, inputs, seen, at=None if data.at == wire.HEAD else data.at, **how)


async def recall_since(
    caller: Caller,
    bank: str,
    inputs: list[str],
    seen: Seen | None,
    *,
    top_k: int,
    min_confidence: float | None,
    at: str | None,
    explain: bool,
) -> tuple[list[wire.RecalledItem], wire.StateRef, wire.Usage]:
    """`Engine.recall` of a state that is not before the one that was seen.

    Raises:
        StateUnknown: that is none of this bank.
    """
    how: dict[str, Any] = {"top_k": top_k, "min_confidence": min_confidence, "at": at, "explain": explain}
    try:
        return await caller.deps.engine.recall(caller.tenant, bank, inputs, **how, min_seq=None if seen is None else seen.seq)
    except StateUnavailable:
        if seen is not None:
            await refuse_unknown(caller, bank, seen)
        raise


async def refuse_unknown(caller: Caller, bank: str, seen: Seen) -> None:
    """Raise where the bank, which is behind what was seen, will never come there.

    Raises:
        StateUnknown: the state is none of this bank.
    """
    async with caller.deps.database.read(caller.tenant) as conn:
        row = await banks.find_bank(conn, caller.tenant, bank)
        try:
            await snapshots.get_snapshot(conn, caller.tenant, seen.snapshot, row.id)
        except NotFound:
            raise StateUnknown() from None


def seen_in(min_state: str | None) -> Seen | None:
    """The state in a `Memory-Min-State`.

    Raises:
        Invalid: it has not the form of one.
    """
    if min_state is None:
        return None
    match = MIN_STATE.fullmatch(min_state)
    if match is None:
        message = "not of the form <snapshot_id>:<seq>"
        raise Invalid(f"Memory-Min-State: {message}", errors=[{"field": "Memory-Min-State", "message": message}])
    return Seen(match[1], int(match[2]))
