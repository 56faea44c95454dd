"""Who completes conversations, found by the name of a model.

A backend has models under names of its own form: `NAME+palimpsest` is an upstream's model with what is remembered in its system message
(`upstream.py`), `hope:BANK` a bank's own language model (`hope.py`). Another kind of backend is one more entry in the list that `Backends`
is made from; the route asks whichever was found.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from service import wire
from service.errors import NotFound


@dataclass(frozen=True, slots=True)
class Asked:
    """A conversation to be completed for a tenant in a bank: the body is as in OpenAI's API, its model named as the client did."""

    tenant: str
    bank: str  # name or id
    body: dict[str, Any]
    messages: Sequence[wire.ChatMessage] = ()  # as the service reads them
    at: str | None = None  # a snapshot of the bank


class Place(NamedTuple):
    """What the name of a model says of where it is asked: a bank, by name or id, and a snapshot of it."""

    bank: str | None = None
    at: str | None = None


@dataclass(frozen=True, slots=True)
class Streaming:
    """A completion as it is made: server-sent events, each whole, the last one `[DONE]`. To be closed, whether it was read or not."""

    events: AsyncIterator[bytes]
    close: Callable[[], Awaitable[None]]


class Backend(Protocol):
    """Completes conversations. Raises `ChatError` besides the errors of `service.errors`."""

    noted: bool
    """Whether it knows what is remembered only by a note in the system message."""

    learns: bool
    """Whether a bank learns from what is said in its conversations."""

    def names(self) -> list[str]:
        """How its models are called, for who asks for one that there is not."""

    async def models(self, tenant: str, banks: Collection[str] | None) -> list[str]:
        """The names of its models that a key of the tenant may use, pinned to banks or not, as clients say them."""

    def takes(self, model: str) -> bool:
        """Whether the model is its own."""

    def place(self, model: str) -> Place:
        """Where one of its models is asked, as far as its name says."""

    def check(self, asked: Asked) -> None:
        """Refuse what it cannot complete as far as that shows, before a bank learns from it."""

    async def complete(self, asked: Asked) -> dict[str, Any]:
        """The completion as OpenAI's API has it. Cancelled, it is not made."""

    async def stream(self, asked: Asked) -> Streaming:
        """The completion as it is made. What is refused is refused here, before the first event."""

    async def close(self) -> None:
        """Let go of connections."""


class Backends:
    """All of them."""

    def __init__(self, backends: Sequence[Backend]) -> None:
        self._backends = backends

    async def models(self, tenant: str, banks: Collection[str] | None) -> list[str]:
        """The names of all models that a key of the tenant may use, pinned to banks or not."""
        return [model for backend in self._backends for model in await backend.models(tenant, banks)]

    def of(self, model: str) -> Backend:
        """The one that has the model.

        Raises:
            NotFound: none has.
        """
        for backend in self._backends:
            if backend.takes(model):
                return backend
        known = ", ".join(name for backend in self._backends for name in backend.names())
        message = f"this service has no model {model[:200]!r}; it has {known}"
        raise NotFound(message, errors=[{"field": "model", "message": message}])

    async def close(self) -> None:
        """Let go of all connections."""
        for backend in self._backends:
            await backend.close()
