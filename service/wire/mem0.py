"""The shapes of mem0, for `/compat/mem0`: what its clients send and read. Fields that ask for what is not done here are refused.

`async_mode`, `rerank`, `version` and `output_format` change nothing: everything is done when it is answered, in one form.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta

from service.wire.parts import Id, Name, Note, Reply, Request, Share, Text, TopK

Mem0Entity = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]+$(?!\n)")]


class Mem0Scope(Request, frozen=True, kw_only=True):
    """Whose memory: one of `user_id` and `agent_id`, here or in `filters`; of neither it is the key's own bank."""

    user_id: Mem0Entity | None = None
    agent_id: Mem0Entity | None = None
    filters: dict[str, Any] | None = None
    rerank: bool | None = None
    version: Name | None = None
    output_format: Name | None = None
    async_mode: bool | None = None


class Mem0Message(Request, frozen=True, kw_only=True):
    """A message of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Text


class Mem0Add(Mem0Scope, frozen=True, kw_only=True):
    """Remember messages as they are: an assistant's is the answer to the user's before it, any other stands for itself."""

    messages: Annotated[list[Mem0Message], Meta(min_length=1, max_length=1_000)] | Text
    run_id: Id | None = None
    metadata: dict[str, Any] | None = None
    infer: bool = False


class Mem0Search(Mem0Scope, frozen=True, kw_only=True):
    """Ask the memory; without `threshold` it abstains where it does not know."""

    query: Text
    top_k: TopK = 10
    threshold: Share | None = None


class Mem0Update(Request, frozen=True, kw_only=True):
    """What is right instead."""

    text: Text
    metadata: dict[str, Any] | None = None


class Mem0Feedback(Request, frozen=True, kw_only=True):
    """What somebody thinks of a memory; a negative one holds it out, in quarantine, until that is lifted."""

    memory_id: Id
    feedback: Literal["POSITIVE", "NEGATIVE", "VERY_NEGATIVE"] | None = None
    feedback_reason: Note | None = None


class Mem0Memory(Reply, frozen=True, kw_only=True):
    """A memory: the answer of a correction, `input` its situation. What the ledger knows of it is told to keys with `memory:inspect`."""

    id: str | None
    memory: str
    input: str | None = None
    metadata: dict[str, Any] | None = None
    user_id: str | None = None
    agent_id: str | None = None
    run_id: str | None = None
    score: float | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None


class Mem0Found(Reply, frozen=True, kw_only=True):
    """What a search found, best first."""

    results: list[Mem0Memory]


class Mem0Listed(Reply, frozen=True, kw_only=True):
    """A page of the memories that hold, newest first; `next` and `previous` are the queries of the pages beside it."""

    count: int
    next: str | None
    previous: str | None
    results: list[Mem0Memory]


class Mem0Event(Reply, frozen=True, kw_only=True):
    """A memory that was added."""

    id: str
    memory: str
    event: Literal["ADD"] = "ADD"


class Mem0Added(Reply, frozen=True, kw_only=True):
    """What was added: durable and answered with."""

    results: list[Mem0Event]


class Mem0Past(Reply, frozen=True, kw_only=True):
    """One of the memories of a situation, in the order they came."""

    id: str
    memory_id: str
    old_memory: str | None
    new_memory: str | None
    event: Literal["ADD", "UPDATE"]
    created_at: datetime
    updated_at: datetime


class Mem0Done(Reply, frozen=True, kw_only=True):
    """It was done."""

    message: str
    id: str | None = None


class Mem0Ping(Reply, frozen=True, kw_only=True):
    """The key is good: `org_id` is its tenant; clients need a `project_id` as well, and send neither back."""

    org_id: str
    project_id: str = "palimpsest"
    status: str = "ok"
    user_email: str | None = None
