"""Palimpsest as a memory of the benchmark: through its engine in this process, and through the API of a running service.

Both are the product as it is: each correction is appended durably to a ledger on disk before it is acknowledged, automatic snapshots
included. Through the engine the texts come encoded (`bench.vectors` says why that changes no answer); the running service encodes
them itself, so equal mistakes in both rows also say that the two paths and the two encodings agree.
"""

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from uuid import uuid4

import httpx
from msgspec import structs

from bench.asking import ConsolidationCost, Progress, Said
from bench.consolidating import apart, measured
from bench.data import Row
from bench.running import client_of, running_service
from bench.vectors import RememberedEncoder, Vectors
from model import RecallConfig
from service import tracing, wire
from service.cluster.engine import Actor
from service.embedded import DEFAULT, open_engine, utc_now
from service.errors import GateFailed
from service.processes.parts import encoder_digest
from service.settings import Settings
from service.store import debt
from workers.maintenance import Maintenance

if TYPE_CHECKING:
    from workers.engine import LocalEngine

T = TypeVar("T")

ACTOR = Actor(key_id="bench", request_id="bench")
NEVER = timedelta(days=3_650)
SOME = 200  # texts or corrections in one call, so that a progress bar moves
JOB_S = 3_600.0  # a consolidation of 100,000 corrections on a busy machine


class Refused(Exception):
    """The service answered with an error; the message has it."""


class Stood(NamedTuple):
    """How the first answer to a question stands: its score, by how much that is above the next one's, and the confidence in it."""

    value: str
    score: float
    margin: float
    confidence: float


@dataclass(frozen=True, slots=True)
class EngineMemory:
    """A bank, asked and taught at the engine port; its jobs are done here, by what the jobs process does them with."""

    engine: "LocalEngine"
    tenant: str
    var_dir: Path
    bank: str = DEFAULT
    by_itself: Settings | None = None  # it is consolidated when these call for it; None: only when told
    apart: int = 0  # threads of a process like `palimpsest jobs` in which it is consolidated (`bench.consolidating`); 0: here
    done: list[ConsolidationCost] = field(default_factory=list)  # the consolidations that came by themselves

    async def ask(self, text: str) -> str | None:
        """The first answer of a recall."""
        (item,) = await self._recall([text], None)
        return item.answers[0].value if item.answers else None

    async def ask_many(self, texts: Sequence[str], progress: Progress) -> list[Said]:
        """See `bench.asking`."""
        found: list[Said] = []
        for some in _some(texts):
            items = await self._recall(some, 0.0)
            found += [_said([(answer.value, answer.confidence) for answer in item.answers], item.abstained) for item in items]
            progress(len(some))
        return found

    async def stand(self, texts: Sequence[str], progress: Progress) -> list[Stood | None]:
        """How the first answer to each text stands; None where there is none, or the second explains the words better than the first."""
        found: list[Stood | None] = []
        for some in _some(texts):
            items, _, _ = await self.engine.recall(
                self.tenant, self.bank, some, top_k=2, min_confidence=0.0, at=None, explain=True, min_seq=None
            )
            found += [_stood(item.answers) for item in items]
            progress(len(some))
        return found

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """A correction, acknowledged."""
        correction = wire.NewCorrection(input=text, right=right, wrong=said)
        await self.engine.teach(self.tenant, self.bank, [correction], actor=ACTOR, idempotency_key=None)

    async def tell_many(self, rows: Sequence[Row], progress: Progress) -> list[str]:
        """See `bench.asking`; each batch is one transaction."""
        names: list[str] = []
        for some in _some(rows):
            items = [wire.NewCorrection(input=text, right=right) for text, right in some]
            taught = await self.engine.teach(self.tenant, self.bank, items, actor=ACTOR, idempotency_key=None)
            names += [one.id for one in taught]
            await self.settle()
            progress(len(some))
        return names

    async def size_bytes(self) -> int:
        """The weights, all levels."""
        return (await self.engine.memory(self.tenant, self.bank)).bytes

    async def disk_bytes(self) -> int | None:
        """Database, blobs and all."""
        return bytes_below(self.var_dir)

    async def forget(self, names: Sequence[str]) -> None:
        """See `bench.asking`."""
        await self.engine.forget(self.tenant, self.bank, names, mode="rebuild", reason=None, actor=ACTOR)

    async def rebuild(self) -> None:
        """See `bench.asking`."""
        await self._maintenance().rebuild(self.tenant, await self._bank_id(), moved_by="bench", progress=_ignored)

    async def consolidate(self) -> ConsolidationCost:
        """See `bench.asking`."""
        bank_id = await self._bank_id()
        if not self.apart:
            return await measured(self._maintenance().consolidate(self.tenant, bank_id, moved_by="bench", progress=_ignored))
        done = await apart(self.var_dir, self.apart, self.engine.recall_model.config, self.tenant, bank_id)
        await self.engine.changed(self.tenant, bank_id)
        return done

    async def _recall(self, texts: Sequence[str], min_confidence: float | None) -> list[wire.RecalledItem]:
        items, _, _ = await self.engine.recall(
            self.tenant, self.bank, texts, top_k=1, min_confidence=min_confidence, at=None, explain=False, min_seq=None
        )
        return items

    async def settle(self) -> None:
        """See `bench.asking`; as the sweeper of a running service looks, but for a debt's age: no clock may decide what is measured."""
        if (settings := self.by_itself) is None:
            return
        tokens, events = settings.consolidate_tokens, settings.consolidate_events
        async with self.engine.replay.database.sweep() as conn:
            owing = await debt.due(conn, utc_now(), tokens=tokens, events=events, early=settings.consolidate_early, age=NEVER, limit=1)
        if owing:
            self.done.append(await self.consolidate())

    async def _bank_id(self) -> str:
        return await self.engine.banks.id_of(self.tenant, self.bank)

    def _maintenance(self) -> Maintenance:
        engine, replay = self.engine, self.engine.replay
        return Maintenance(
            replay.database,
            replay.blobs,
            engine.recall_model,
            engine.words,
            engine.language,
            thread=engine.heavy,
            stage=tracing.span,
            changed=engine.changed,
            refused=lambda: None,
            now=utc_now,
        )


@dataclass(frozen=True, slots=True)
class RestMemory:
    """A bank, asked and taught over HTTP."""

    client: httpx.AsyncClient
    bank: str
    jobs: list[str] = field(default_factory=list)  # rebuilds that were not waited for

    async def ask(self, text: str) -> str | None:
        """The first answer of `POST /v1/recall`."""
        answers = (await self._post("/v1/recall", {"input": text}))["answers"]
        return str(answers[0]["value"]) if answers else None

    async def ask_many(self, texts: Sequence[str], progress: Progress) -> list[Said]:
        """See `bench.asking`; `POST /v1/recall/batch`."""
        found: list[Said] = []
        for some in _some(texts):
            reply = await self._post("/v1/recall/batch", {"inputs": list(some), "min_confidence": 0.0})
            for item in reply["results"]:
                found.append(_said([(answer["value"], answer["confidence"]) for answer in item["answers"]], item["abstained"]))
            progress(len(some))
        return found

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """`POST /v1/corrections`."""
        body = {"input": text, "right": right}
        await self._post("/v1/corrections", body if said is None else {**body, "wrong": said})

    async def tell_many(self, rows: Sequence[Row], progress: Progress) -> list[str]:
        """See `bench.asking`; `POST /v1/corrections/batch`."""
        names: list[str] = []
        for some in _some(rows):
            reply = await self._post("/v1/corrections/batch", {"items": [{"input": text, "right": right} for text, right in some]})
            names += [str(one["id"]) for one in reply["items"]]
            progress(len(some))
        return names

    async def size_bytes(self) -> int:
        """The weights, all levels."""
        reply = reply_of(await self.client.get("/v1/memory", params={"bank": self.bank}))
        return int(reply["bytes"])

    async def disk_bytes(self) -> int | None:
        """They are the service's."""
        return None

    async def forget(self, names: Sequence[str]) -> None:
        """See `bench.asking`; `POST /v1/forget`."""
        reply = await self._post("/v1/forget", {"corrections": list(names), "mode": "rebuild"})
        self.jobs.append(str(reply["job_id"]))

    async def rebuild(self) -> None:
        """See `bench.asking`."""
        while self.jobs:
            if (job := await self._ended(self.jobs.pop()))["status"] != "succeeded":
                raise Refused(f"the rebuild {job['status']}: {job['error']}")

    async def consolidate(self) -> ConsolidationCost:
        """See `bench.asking`; `POST /v1/consolidations`."""
        begin = time.perf_counter()
        job = await self._ended((await self._post("/v1/consolidations", {}))["job_id"])
        passed = job["status"] == "succeeded"
        if not passed and (job["error"] or {}).get("code") != GateFailed.code:
            raise Refused(f"the consolidation {job['status']}: {job['error']}")
        return ConsolidationCost(time.perf_counter() - begin, passed)

    async def _ended(self, job_id: str) -> dict[str, Any]:
        async with asyncio.timeout(JOB_S):
            while True:
                job = reply_of(await self.client.get(f"/v1/jobs/{job_id}"))
                if job["status"] not in ("queued", "running"):
                    return job
                await asyncio.sleep(0.05)

    async def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        return reply_of(await self.client.post(path, json={"bank": self.bank, **body}))


@contextlib.asynccontextmanager
async def engine_memory(
    settings: Settings,
    vectors: Vectors,
    *,
    by_itself: bool = False,
    apart: bool = False,
    **changes: Any,  # noqa: ANN401
) -> AsyncIterator[EngineMemory]:
    """A new bank in an engine of its own on a scratch directory. `changes` are of its memory (`model.config.RecallConfig`).

    `by_itself`: between two batches that are taught it is consolidated when the settings call for it. `apart`: see `EngineMemory`.
    """
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        own = structs.replace(settings, var_dir=Path(scratch) / "var", database="", blobs="", bootstrap_key="", key_pepper="")
        config = RecallConfig(vectors.digest, **changes)
        async with open_engine(own, encoder=RememberedEncoder(vectors), config=config) as (engine, tenant):
            yield EngineMemory(
                engine, tenant, own.var_dir, by_itself=settings if by_itself else None, apart=settings.model_threads if apart else 0
            )


@contextlib.asynccontextmanager
async def rest_memory(url: str | None, key: str | None, settings: Settings) -> AsyncIterator[RestMemory]:
    """A new bank in the service at `url`, deleted afterwards; without an address in one started for it, with the start of `settings`."""
    async with contextlib.AsyncExitStack() as stack:
        if url is None or key is None:
            start = {f"PALIMPSEST_{name.upper()}": getattr(settings, name) for name in ("encoder_start", "encoder_start_sha256")}
            running = await stack.enter_async_context(running_service(os.environ | start))
            url, key = running.url, running.key
        client = await stack.enter_async_context(client_of(url, key))
        made = reply_of(await client.post("/v1/banks", json={"name": f"bench-{uuid4().hex[:12]}"}))
        bank, theirs = str(made["id"]), made["encoder_digest"]
        try:
            if theirs != encoder_digest(settings):
                own = f"PALIMPSEST_ENCODER_START={settings.encoder_start} PALIMPSEST_ENCODER_START_SHA256={settings.encoder_start_sha256}"
                ours = encoder_digest(settings)[:12]
                raise Refused(f"the service at {url} has the encoder {theirs[:12]}, this board is played with {ours}: start it with {own}")
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


def bytes_below(directory: Path) -> int:
    """The files of a directory and of those in it."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def _said(answers: Sequence[tuple[str, float]], abstained: bool) -> Said:
    return Said(*answers[0], silent=abstained) if answers else Said(None, 0.0, silent=True)


def _stood(answers: Sequence[wire.Answer]) -> Stood | None:
    scores = [float(answer.why["score"]) for answer in answers if answer.why is not None]
    if not scores or max(scores) > scores[0]:
        return None
    return Stood(answers[0].value, scores[0], scores[0] - (scores[1] if len(scores) > 1 else 0.0), answers[0].confidence)


def _some(items: Sequence[T]) -> Iterator[Sequence[T]]:
    return (items[begin : begin + SOME] for begin in range(0, len(items), SOME))


async def _ignored(share: float) -> None:
    """Of a job's progress nobody is told here."""
