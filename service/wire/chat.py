"""Conversations in the way of OpenAI's API: what of a request the service reads itself, what it adds to a reply; and proposals.

A request may hold whatever else that API knows: it goes on to the upstream as it came. The replies here have the form of that API, not the
one of all others; `memory` is what they have besides.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field

from service.wire.language import TurnTaken
from service.wire.parts import Id, Name, Reply, Request, StateRef, Text

MESSAGES_MAX = 10_000


class ChatMessage(Struct, frozen=True, kw_only=True):
    """One message; its other fields go on as they came."""

    role: Annotated[str, Meta(min_length=1, max_length=32)]
    content: str | list[dict[str, Any]] | None = None


class ChatMemory(Request, frozen=True, kw_only=True):
    """Which memory the conversation has.

    `learn`: whether a message that plainly corrects the last answer is proposed as a correction; and whether a bank's own language model
    learns what the user says.
    """

    bank: Name | None = None
    at: Id | None = None
    session_id: Id | None = None
    learn: bool = True


class ChatRequest(Struct, frozen=True, kw_only=True):
    """Complete a conversation, as OpenAI's API has it; `memory` is this service's own. All other fields go on as they came."""

    model: Annotated[str, Meta(min_length=1, max_length=300)]
    messages: Annotated[list[ChatMessage], Meta(min_length=1, max_length=MESSAGES_MAX)]
    stream: bool | None = None
    memory: ChatMemory = field(default_factory=ChatMemory)


class Proposal(Reply, frozen=True, kw_only=True):
    """What a user seems to have corrected: nothing is learned before it is confirmed."""

    id: str
    bank: str
    input: str
    wrong: str
    right: str
    session_id: str | None
    created_by: str
    created_at: datetime


class ConfirmProposal(Request, frozen=True, kw_only=True):
    """Teach what was proposed, or in its place what is said here."""

    input: Text | None = None
    right: Text | None = None
    wrong: Text | None = None


class ChatRemembered(Struct, frozen=True, kw_only=True):
    """What the memory did for a completion: `used` are the corrections whose answers stood in the system message.

    `turn` is what a bank's own language model has learned of it: null for an upstream, and where it learned nothing.
    """

    recall_id: str | None
    used: list[str]
    abstained: bool
    state: StateRef | None
    proposal: Proposal | None
    turn: TurnTaken | None = None


class ChatCompletion(Struct, frozen=True, kw_only=True):
    """A completion as it was made, and `memory`. In a stream `memory` is in the first chunk."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    memory: ChatRemembered
    usage: dict[str, Any] | None = None


class ChatModel(Struct, frozen=True, kw_only=True):
    """A model that conversations can be completed with."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "palimpsest"


class ChatModels(Struct, frozen=True, kw_only=True):
    """All of them."""

    object: Literal["list"] = "list"
    data: list[ChatModel]


class ChatFault(Struct, frozen=True, kw_only=True):
    """What went wrong: `code` is stable, `param` names the field."""

    message: str
    type: str
    param: str | None
    code: str


class ChatProblem(Struct, frozen=True, kw_only=True):
    """An error as OpenAI's API has it."""

    error: ChatFault
