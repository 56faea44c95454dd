"""Palimpsest as a memory of the benchmark: through its engine in this process, and through the API of a running service.

Both are the product as it is: each correction is appended durably to a ledger on disk before it is acknowledged, automatic snapshots
included. Through the engine the texts come encoded (`bench.vectors` says why that changes no answer); the running service encodes
them itself, so equal mistakes in both rows also say that the two paths and the two encodings agree.
"""

import contextlib
import os
import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from msgspec import structs

from bench.running import client_of, running_service
from bench.vectors import RememberedEncoder, Vectors
from service import wire
from service.cluster.engine import Actor, Engine
from service.embedded import DEFAULT, open_engine
from service.settings import Settings

ACTOR = Actor(key_id="bench", request_id="bench")


class Refused(Exception):
    """The service answered with an error; the message has it."""


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """A bank, asked and taught at the engine port."""

    engine: Engine
    tenant: str
    bank: str = DEFAULT

    async def ask(self, text: str) -> str | None:
        """The first answer of a recall."""
        items, _, _ = await self.engine.recall(
            self.tenant, self.bank, [text], top_k=1, min_confidence=None, at=None, explain=False, min_seq=None
        )
        return items[0].answers[0].value if items[0].answers else None

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """A correction, acknowledged."""
        correction = wire.NewCorrection(input=text, right=right, wrong=said)
        await self.engine.teach(self.tenant, self.bank, [correction], actor=ACTOR, idempotency_key=None)

    async def size_bytes(self) -> int:
        """The weights, all levels."""
        return (await self.engine.memory(self.tenant, self.bank)).bytes


@dataclass(frozen=True, slots=True)
class RestMemory:
    """A bank, asked and taught over HTTP."""

    client: httpx.AsyncClient
    bank: str

    async def ask(self, text: str) -> str | None:
        """The first answer of `POST /v1/recall`."""
        answers = (await self._post("/v1/recall", {"bank": self.bank, "input": text}))["answers"]
        return str(answers[0]["value"]) if answers else None

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """`POST /v1/corrections`."""
        body = {"bank": self.bank, "input": text, "right": right}
        await self._post("/v1/corrections", body if said is None else {**body, "wrong": said})

    async def size_bytes(self) -> int:
        """The weights, all levels."""
        reply = reply_of(await self.client.get("/v1/memory", params={"bank": self.bank}))
        return int(reply["bytes"])

    async def _post(self, path: str, body: dict[str, str]) -> dict[str, Any]:
        return reply_of(await self.client.post(path, json=body))


@contextlib.asynccontextmanager
async def engine_memory(settings: Settings, vectors: Vectors) -> AsyncIterator[EngineMemory]:
    """A new bank in an engine of its own on a scratch directory."""
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        own = structs.replace(settings, var_dir=Path(scratch) / "var", database="", blobs="", bootstrap_key="", key_pepper="")
        async with open_engine(own, encoder=RememberedEncoder(vectors)) as (engine, tenant):
            yield EngineMemory(engine, tenant)


@contextlib.asynccontextmanager
async def rest_memory(url: str | None, key: str | None) -> AsyncIterator[RestMemory]:
    """A new bank in the service at `url`, deleted afterwards; without an address in a service started for it."""
    async with contextlib.AsyncExitStack() as stack:
        if url is None or key is None:
            running = await stack.enter_async_context(running_service(os.environ))
            url, key = running.url, running.key
        client = await stack.enter_async_context(client_of(url, key))
        bank = str(reply_of(await client.post("/v1/banks", json={"name": f"bench-{uuid4().hex[:12]}"}))["id"])
        try:
            yield RestMemory(client, bank)
        finally:
            reply_of(await client.delete(f"/v1/banks/{bank}"))


def reply_of(response: httpx.Response) -> dict[str, Any]:
    """What the service replied.

    Raises:
        Refused: an error.
    """
    if response.is_error:
        request = response.request
        raise Refused(f"{request.method} {request.url.path} gave {response.status_code}: {response.text[:300]}")
    return dict(response.json()) if response.content else {}
