"""From mem0's words to ours and back: whose bank is meant, what a conversation teaches, and how a correction looks as a memory."""

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from service import wire
from service.errors import Invalid
from service.store.rows import BankRow, EventRow

BANKS = {"user_id": "user:", "agent_id": "agent:"}  # the bank of a user is named so


def bank_of(data: wire.Mem0Scope) -> str | None:
    """The name of the bank that is meant; None: the key's own.

    Raises:
        Invalid: it is said by anything but one user or one agent.
    """
    named = list(_filtered(data.filters or {}, "filters"))
    named += [(name, value) for name, value in (("user_id", data.user_id), ("agent_id", data.agent_id)) if value is not None]
    if len(set(named)) > 1:
        raise _invalid("filters", "name one user_id or one agent_id: each is a memory of its own")
    return next((BANKS[name] + value for name, value in named), None)


def lessons(data: wire.Mem0Add) -> list[wire.NewCorrection]:
    """What messages teach: an assistant's is the answer to the user's before it; any other stands for itself; the system's are left out.

    Raises:
        Invalid: something is to be inferred, or there is nothing to remember.
    """
    if data.infer:
        raise _invalid("infer", "nothing is inferred here; leave it out, or send false")
    said = [("user", data.messages)] if isinstance(data.messages, str) else [(each.role, each.content) for each in data.messages]
    pairs: list[tuple[str, str]] = []
    asked: str | None = None
    for role, content in said:
        if role == "system":
            continue
        if role == "assistant" and asked is not None:
            pairs[-1] = (asked, content)
        else:
            pairs.append((content, content))
        asked = content if role == "user" else None
    if not pairs:
        raise _invalid("messages", "holds nothing to remember: messages of the system are left out")
    metadata = data.metadata or {}
    return [wire.NewCorrection(input=asked, right=right, session_id=data.run_id, metadata=metadata) for asked, right in pairs]


def added(items: Sequence[wire.NewCorrection], taught: Sequence[wire.Taught]) -> wire.Mem0Added:
    """What came of them."""
    return wire.Mem0Added(results=[wire.Mem0Event(id=each.id, memory=item.right) for item, each in zip(items, taught, strict=True)])


def shown(bank: BankRow, correction: EventRow | wire.Correction, score: float | None = None) -> wire.Mem0Memory:
    """A correction as a memory."""
    whose = {name: bank.name.removeprefix(prefix) for name, prefix in BANKS.items() if bank.name.startswith(prefix)}
    return wire.Mem0Memory(
        id=correction.id,
        memory=correction.right or "",
        input=correction.input,
        metadata=correction.metadata or {},
        run_id=correction.session_id,
        score=score,
        created_at=correction.created_at,
        updated_at=correction.created_at,
        **whose,
    )


def listed(memories: Sequence[wire.Mem0Memory], page: int, size: int) -> wire.Mem0Listed:
    """A page of them, from 1."""
    beside = {number: f"?page={number}&page_size={size}" for number in (page - 1, page + 1)}
    return wire.Mem0Listed(
        count=len(memories),
        next=beside[page + 1] if page * size < len(memories) else None,
        previous=beside[page - 1] if page > 1 else None,
        results=list(memories[(page - 1) * size : page * size]),
    )


def _filtered(filters: dict[str, Any], place: str) -> Iterator[tuple[str, str]]:
    for name, value in filters.items():
        if name == "AND" and isinstance(value, list) and all(isinstance(part, dict) for part in value):
            for number, part in enumerate(value):
                yield from _filtered(part, f"{place}.AND[{number}]")
        elif name in BANKS and value != "*":
            try:
                yield name, msgspec.convert(value, wire.Mem0Entity)
            except msgspec.ValidationError as error:
                raise _invalid(f"{place}.{name}", str(error)) from None
        else:
            raise _invalid(f"{place}.{name}", "memories are not filtered by this here; name a user_id or an agent_id")


def _invalid(field: str, message: str) -> Invalid:
    return Invalid(f"{field}: {message}", errors=[{"field": field, "message": message}])
