"""Operations that a kill interrupts: each on a bank of its own, begun before the kill and looked at after the restart.

An operation is sent under an Idempotency-Key. After the restart it is sent again under the same key when its reply never came; then it
must be whole: its job succeeded, the digest is that of the expected events, and nothing forgotten is answered.
"""

import asyncio
import contextlib
import time
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.killing import Fold

KINDS = ("consolidation", "rebuild", "erase", "rollback")
STORY = [(f"what about matter {number}?", f"ruling {number}") for number in range(6)]
FORGOTTEN = (1, 4)  # places in the story
SAVED = 3  # events that the snapshot holds
JOB_S = 30.0


@dataclass(slots=True)
class Operation:
    """One operation of a kind; `number` tells it from others."""

    kind: str
    number: int
    bank: str = ""
    path: str = ""
    body: dict[str, Any] = field(default_factory=dict)
    answered: bool = False

    async def prepare(self, client: httpx.AsyncClient) -> None:
        """A bank with six corrections and a snapshot after three."""
        self.bank = (await _post(client, "/v1/banks", {"name": f"{self.kind} {self.number}"}))["id"]
        items = [{"input": text, "right": right} for text, right in STORY]
        taught = await _post(client, "/v1/corrections/batch", {"bank": self.bank, "items": items[:SAVED]})
        saved = await _post(client, "/v1/snapshots", {"bank": self.bank})
        more = await _post(client, "/v1/corrections/batch", {"bank": self.bank, "items": items[SAVED:]})
        ids = [row["id"] for row in taught["items"] + more["items"]]
        forget = {"corrections": [ids[place] for place in FORGOTTEN], "mode": self.kind}
        self.path, body = {
            "consolidation": ("/v1/consolidations", {}),
            "rebuild": ("/v1/forget", forget),
            "erase": ("/v1/forget", forget),
            "rollback": ("/v1/rollback", {"to": saved["id"]}),
        }[self.kind]
        self.body = {"bank": self.bank, **body}

    async def begin(self, client: httpx.AsyncClient) -> None:
        """Send it; the kill may come before the reply."""
        with contextlib.suppress(httpx.TransportError):
            await self._send(client)

    async def settle(self, client: httpx.AsyncClient, fold: Fold) -> list[str]:
        """After the restart: what of it does not hold."""
        if not self.answered:
            await self._send(client)
        broken = await self._unfinished(client)
        expected = [event for place, event in enumerate(STORY) if self._stays(place)]
        told = (await client.get("/v1/memory", params={"bank": self.bank})).json()["digest"]
        if told != fold.learn(expected):
            broken.append(f"{self.kind}: the digest is not that of the events that should be in the weights")
        if self.kind in ("rebuild", "erase"):
            for place in FORGOTTEN:
                asked = {"bank": self.bank, "input": STORY[place][0], "top_k": 20, "min_confidence": 0.0}
                answers = (await _post(client, "/v1/recall", asked))["answers"]
                if any(answer["value"] == STORY[place][1] for answer in answers):
                    broken.append(f"{self.kind}: {STORY[place][1]!r} is answered although it was forgotten")
        if self.kind == "erase":
            rows = (await client.get("/v1/events", params={"bank": self.bank})).json()["items"]
            broken += [f"erase: event {row['seq']} still has its text" for row in rows if row["seq"] - 1 in FORGOTTEN and row["input"]]
        await client.delete(f"/v1/banks/{self.bank}")
        return broken

    def _stays(self, place: int) -> bool:
        match self.kind:
            case "rollback":
                return place < SAVED
            case "consolidation":
                return True
            case _:
                return place not in FORGOTTEN

    async def _send(self, client: httpx.AsyncClient) -> None:
        await _post(client, self.path, self.body, {"Idempotency-Key": f"{self.kind} {self.number}"})
        self.answered = True

    async def _unfinished(self, client: httpx.AsyncClient) -> list[str]:
        until = time.monotonic() + JOB_S
        while True:
            jobs = (await client.get("/v1/jobs", params={"bank": self.bank})).json()["items"]
            if all(job["status"] not in ("queued", "running") for job in jobs) or time.monotonic() > until:
                return [f"{self.kind}: job {job['id']} {job['status']}: {job['error']}" for job in jobs if job["status"] != "succeeded"]
            await asyncio.sleep(0.05)


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str] | None = None) -> dict[str, Any]:
    response = await client.post(path, json=body, headers=headers)
    if response.is_error:
        raise AssertionError(f"{path}: {response.status_code} {response.text}")
    return dict(response.json())
