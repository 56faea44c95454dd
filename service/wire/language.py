"""What api and engine say to each other about a bank's language model: what it is told, how it goes on, what it is.

Only `TurnTaken` and `Language` are part of replies.
"""

from typing import Annotated

from msgspec import Meta, Struct

from service.wire.parts import TEXT_MAX, Id, Reply, Request, StateRef, Text

STOP_MAX = 256  # characters of a text that ends an answer


class NewTurn(Request, frozen=True, kw_only=True):
    """What a user said, and what was right to answer where the client tells that."""

    input: Text
    right: Text | None = None
    session_id: Id | None = None


class TurnTaken(Struct, frozen=True, kw_only=True):
    """A turn that the bank's language model has learned. `surprise`: nats a token before that; null where that is not known."""

    id: str
    seq: int
    tokens: int
    surprise: float | None
    state: StateRef


class ChatLine(Request, frozen=True, kw_only=True):
    """What somebody says in a conversation."""

    role: Annotated[str, Meta(min_length=1, max_length=32)]
    text: Annotated[str, Meta(max_length=TEXT_MAX)]


class Speaking(Request, frozen=True, kw_only=True):
    """How an answer is made; `temperature` 0 takes the likeliest token each time."""

    temperature: Annotated[float, Meta(ge=0.0, le=2.0)] = 0.0
    top_p: Annotated[float, Meta(gt=0.0, le=1.0)] = 1.0
    seed: Annotated[int, Meta(ge=0, lt=2**62)] = 0
    stop: Annotated[tuple[Annotated[str, Meta(max_length=STOP_MAX)], ...], Meta(max_length=16)] = ()


class Spoken(Struct, frozen=True, kw_only=True):
    """An answer as far as it goes: all its tokens, its text so far, and whether it has ended."""

    tokens: list[int]
    text: str
    ended: bool
    read: int  # tokens of the conversation
    state: StateRef


class Language(Reply, frozen=True, kw_only=True):
    """A bank's language model: the digest of what it has learned, the turns in it, where it slept, its size, and the model's own digest.

    `unavailable` says why what is null cannot be told now.
    """

    digest: str | None
    turns: int
    sleeps: list[int]
    bytes: int | None
    model: str | None
    unavailable: str | None = None
