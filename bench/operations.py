"""Operations that a kill interrupts: begun shortly before the kill and looked at after the restart.

Each has a bank of its own with six corrections, so that every digest it may have is known; only the growing consolidation works on the
bank that the writers teach. An operation is sent under an Idempotency-Key. After the restart it must be there whole or not at all; when its
reply never came it is sent again under the same key. Then its job must succeed, the digest be that of the expected events, nothing
forgotten be answered, neither at once nor after the job, neither at the head nor at an older snapshot, and no erased text be in a file.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from bench.killing import Fold
from bench.promises import Broken
from bench.remains import Remains

GROWING = "growing consolidation"
KINDS = ("consolidation", GROWING, "rebuild", "erase", "rollback")
LENGTH = 6  # corrections in a story
FORGOTTEN = (1, 4)  # places in the story
SAVED = 3  # events that the snapshot holds
JOB_S = 120.0


class Refused(Exception):
    """The service refused what it should do; `again`: only for the moment."""

    def __init__(self, path: str, response: httpx.Response) -> None:
        super().__init__(f"{path}: {response.status_code} {response.text}")
        self.again = response.status_code in (429, 503, 507) or response.json().get("code") in ("idempotency-in-flight", "writer-busy")


@dataclass(slots=True)
class Operation:
    """One operation of a kind; `number` tells it from others."""

    kind: str
    number: int
    taught: str | None = None  # the bank that the writers teach; None: the default bank
    bank: str | None = None
    saved: str = ""  # the snapshot after SAVED events
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    sent: bool = False
    reply: dict[str, Any] | None = None

    @property
    def story(self) -> list[tuple[str, str]]:
        """What the bank is taught; no other operation has the same texts."""
        return [(f"what about matter {place} of case {self.number}?", f"ruling {place} in case {self.number}") for place in range(LENGTH)]

    async def prepare(self, client: httpx.AsyncClient) -> None:
        """A bank with six corrections and a snapshot after three."""
        if self.kind == GROWING:
            self.path, self.body = "/v1/consolidations", {} if self.taught is None else {"bank": self.taught}
            return
        self.bank = (await _post(client, "/v1/banks", {"name": f"{self.kind} {self.number}"}))["id"]
        items = [{"input": text, "right": right} for text, right in self.story]
        taught = await _post(client, "/v1/corrections/batch", {"bank": self.bank, "items": items[:SAVED]})
        self.saved = (await _post(client, "/v1/snapshots", {"bank": self.bank}))["id"]
        more = await _post(client, "/v1/corrections/batch", {"bank": self.bank, "items": items[SAVED:]})
        ids = [row["id"] for row in taught["items"] + more["items"]]
        forget = {"corrections": [ids[place] for place in FORGOTTEN], "mode": self.kind}
        requests: dict[str, tuple[str, dict[str, Any]]] = {
            "consolidation": ("/v1/consolidations", {}),
            "rebuild": ("/v1/forget", forget),
            "erase": ("/v1/forget", forget),
            "rollback": ("/v1/rollback", {"to": self.saved}),
        }
        self.path, body = requests[self.kind]
        self.body = {"bank": self.bank, **body}

    async def begin(self, client: httpx.AsyncClient, wait_s: float) -> None:
        """Send it after so long; the kill may come before the reply."""
        await asyncio.sleep(wait_s)
        with contextlib.suppress(httpx.TransportError):
            await self._send(client)

    def was_interrupted(self, remains: Remains) -> bool:
        """Whether the kill came between its request and its end."""
        return self.sent and (self.reply is None or self.reply.get("job_id") in remains.open_jobs)

    async def settle(self, client: httpx.AsyncClient, fold: Fold, var_dir: Path) -> list[Broken]:
        """After the restart: what of it does not hold. `var_dir` is where the service keeps its files."""
        try:
            broken = [] if self.bank is None else await self._half_done(client, fold)
            if self.reply is None:
                await self._send_again(client)
            broken += await self._still_answered(client)
            broken += await self._unfinished(client)
            if self.bank is not None:
                broken += [*await self._wrong_digest(client, fold), *await self._still_answered(client)]
                broken += await self._still_there(client, var_dir)
                await client.delete(f"/v1/banks/{self.bank}")
        except Refused as refused:
            return [Broken("other", f"{self.kind}: {refused}")]
        return broken

    async def _half_done(self, client: httpx.AsyncClient, fold: Fold) -> list[Broken]:
        """Right after the restart: all of it or nothing. What was acknowledged of a rollback is all of it."""
        before, after = [await asyncio.to_thread(fold.of, events) for events in (self.story, self._expected())]
        told = await self._digest(client)
        if told not in ({after} if self.kind == "rollback" and self.reply is not None else {before, after}):
            return [Broken("digest", f"{self.kind} {self.number}: half done after the restart")]
        if self.kind == "rollback" and told == after:
            listed = (await client.get("/v1/snapshots", params={"bank": self.bank})).json()["items"]
            if not any(row["kind"] == "pre_rollback" and row["digest"] == before for row in listed):
                return [Broken("other", f"rollback {self.number}: done, and the state before it is not saved")]
        return []

    async def _wrong_digest(self, client: httpx.AsyncClient, fold: Fold) -> list[Broken]:
        if await self._digest(client) == await asyncio.to_thread(fold.of, self._expected()):
            return []
        return [Broken("digest", f"{self.kind} {self.number}: not that of the events that should be in the weights")]

    async def _still_answered(self, client: httpx.AsyncClient) -> list[Broken]:
        """What was forgotten and is answered, at the head or at the snapshot that held it."""
        if self.kind not in ("rebuild", "erase"):
            return []
        told = set()
        for place in FORGOTTEN:
            for at in ({}, {"at": self.saved}):
                asked = {"bank": self.bank, "input": self.story[place][0], "top_k": 20, "min_confidence": 0.0, **at}
                response = await client.post("/v1/recall", json=asked)
                if response.is_error and not at:  # a snapshot that was destroyed answers nothing
                    raise Refused("/v1/recall", response)
                told |= {answer["value"] for answer in response.json().get("answers", [])}
        return [
            Broken("other", f"{self.kind} {self.number}: {self.story[place][1]!r} is answered although it was forgotten")
            for place in FORGOTTEN
            if self.story[place][1] in told
        ]

    async def _still_there(self, client: httpx.AsyncClient, var_dir: Path) -> list[Broken]:
        """What should not be there any more: texts that were erased, and a way back to what was forgotten."""
        broken = []
        rows = (await client.get("/v1/events", params={"bank": self.bank})).json()["items"]
        if len(rows) != LENGTH:
            broken.append(Broken("lost", f"{self.kind} {self.number}: {len(rows)} of {LENGTH} events"))
        if self.kind == "erase":
            kept = [row["seq"] for row in rows if row["seq"] - 1 in FORGOTTEN and row["input"]]
            broken += [Broken("other", f"erase {self.number}: event {seq} still has its text") for seq in kept]
            files = await asyncio.to_thread(self._files_with_erased, var_dir)
            broken += [Broken("other", f"erase {self.number}: {name} still has an erased text") for name in files]
        if self.kind in ("rebuild", "erase"):
            back = await client.post("/v1/rollback", json={"bank": self.bank, "to": self.saved})
            if back.status_code != 409:
                broken.append(Broken("other", f"{self.kind} {self.number}: rolled back to a snapshot that holds what was forgotten"))
        return broken

    def _files_with_erased(self, var_dir: Path) -> list[str]:
        """The files of the database that hold an erased text."""
        erased = [part.encode() for place in FORGOTTEN for part in self.story[place]]
        contents = {path.name: path.read_bytes() for path in var_dir.glob("palimpsest.db*")}
        return [name for name, content in contents.items() if any(text in content for text in erased)]

    def _expected(self) -> list[tuple[str, str]]:
        """The events that should be in the weights at the end."""
        return [event for place, event in enumerate(self.story) if self._stays(place)]

    def _stays(self, place: int) -> bool:
        match self.kind:
            case "rollback":
                return place < SAVED
            case "consolidation":
                return True
            case _:
                return place not in FORGOTTEN

    async def _send(self, client: httpx.AsyncClient) -> None:
        self.sent = True
        self.reply = await _post(client, self.path, self.body, {"Idempotency-Key": f"{self.kind} {self.number}"})

    async def _send_again(self, client: httpx.AsyncClient) -> None:
        """Under its key; the first one may hold it until its lease ends."""
        until = time.monotonic() + JOB_S
        while self.reply is None:
            try:
                await self._send(client)
            except Refused as refused:
                if not refused.again or time.monotonic() > until:
                    raise
                await asyncio.sleep(0.2)

    async def _digest(self, client: httpx.AsyncClient) -> str:
        return str((await client.get("/v1/memory", params={"bank": self.bank})).json()["digest"])

    async def _unfinished(self, client: httpx.AsyncClient) -> list[Broken]:
        """The job, if it does not succeed."""
        job_id = (self.reply or {}).get("job_id")
        until = time.monotonic() + JOB_S
        while job_id is not None:
            response = await client.get(f"/v1/jobs/{job_id}")
            if response.is_error:
                raise Refused(f"job {job_id}", response)
            job = response.json()
            if job["status"] not in ("queued", "running") or time.monotonic() > until:
                what = f"{self.kind} {self.number}: job {job_id} {job['status']}: {job['error']}"
                return [Broken("other", what)] if job["status"] != "succeeded" else []
            await asyncio.sleep(0.05)
        return []


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    response = await client.post(path, json=body, headers=headers)
    if response.is_error:
        raise Refused(path, response)
    return dict(response.json())
