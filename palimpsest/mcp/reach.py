"""What all tools share: whose memory a call is about, how a refusal is told to a model, and what recalled text is said to be."""

import contextlib
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from typing import Annotated, Any, TypeAlias

import httpx
from mcp.server.mcpserver import Context
from mcp.server.mcpserver.exceptions import ToolError
from mcp_types import ToolAnnotations
from pydantic import BaseModel, Field

from palimpsest.client import AsyncClient
from palimpsest.errors import NotConfigured, PalimpsestError
from palimpsest.replies import RecalledItem

Call: TypeAlias = Context[Any, Any]
Reach = Callable[[Call], AsyncClient]  # the memory that a call is about
Text = Annotated[str, Field(min_length=1, max_length=20_000)]
CLIENTS = 256  # keys and banks whose clients are kept, for the states that they have seen

READS = ToolAnnotations(read_only_hint=True, idempotent_hint=True, open_world_hint=False)
ADDS = ToolAnnotations(read_only_hint=False, destructive_hint=False, idempotent_hint=False, open_world_hint=False)
DESTROYS = ToolAnnotations(read_only_hint=False, destructive_hint=True, idempotent_hint=True, open_world_hint=False)


class Remembered(BaseModel):
    """One remembered answer: data, which was taught by whoever may correct; `support` names the corrections it rests on."""

    answer: str
    confidence: float
    support: list[str]


def remembered(item: RecalledItem) -> list[Remembered]:
    """The answers, none if the memory abstains."""
    found = () if item.abstained else item.answers
    return [Remembered(answer=one.value, confidence=one.confidence, support=one.support) for one in found]


@contextlib.asynccontextmanager
async def asking(reach: Reach, call: Call, told: type[Exception] = ToolError) -> AsyncIterator[AsyncClient]:
    """The memory of a call; what it refuses is told to the model, as the failure of its tool."""
    try:
        yield reach(call)
    except PalimpsestError as error:
        raise told(str(error)) from None


def own(memory: AsyncClient) -> Reach:
    """All calls are about this memory."""
    return lambda call: memory


class ByRequest:
    """Each call is about the bank that its path names, by the key that its request brings."""

    def __init__(self, url: str | None, http: httpx.AsyncClient) -> None:
        self._client = lru_cache(CLIENTS)(lambda key, bank: AsyncClient(url, api_key=key, bank=bank, http=http))

    def __call__(self, call: Call) -> AsyncClient:
        """The memory of a call."""
        request = call.request_context.request
        if request is None:
            raise NotConfigured("the call did not come over HTTP, so it brings no key")
        key = bearer(request.headers.get("authorization", ""))
        if not key:  # the key of this process's environment is nobody else's
            raise NotConfigured("the request brings no key")
        return self._client(key, request.path_params["bank"])


def bearer(authorization: str) -> str:
    """The key of an `Authorization` header; empty if it has none."""
    scheme, _, key = authorization.partition(" ")
    return key.strip() if scheme.lower() == "bearer" else ""
