"""The doctor: the whole story of a memory, told to a running service over its API, each step checked and timed.

It works on a bank of its own and deletes it. A step that does not hold is printed with what was found; the steps after it are tried all
the same where they can be, since the second fault often explains the first.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TextIO
from uuid import uuid4

import httpx

ASKED = "Where do I change my PIN?"
REWORDED = "How can I change the PIN of my card?"
FIRST, SECOND = "in the app under Cards", "at any cash machine"
OTHER, OTHER_RIGHT = "How long does a transfer to Spain take?", "one working day"
JOB_S = 60.0  # for a job on a bank of three corrections


class Wrong(Exception):
    """A step found something else than was promised."""


@dataclass(slots=True)
class Examination:
    """The story, step by step, on one bank."""

    client: httpx.AsyncClient
    bank: str
    taught: list[str] = field(default_factory=list)
    snapshot: str = ""

    async def learn(self) -> None:
        """A correction is taught, and its receipt says that the answer is right afterwards."""
        reply = await self._teach(ASKED, FIRST)
        said = reply["receipt"]["item"]["after"]["value"]
        _hold(said == FIRST, f"the receipt says {said!r} after teaching {FIRST!r}")

    async def recall(self) -> None:
        """The very question is answered."""
        await self._expect(ASKED, FIRST)

    async def reword(self) -> None:
        """The question in other words is answered."""
        await self._expect(REWORDED, FIRST)

    async def supersede(self) -> None:
        """A snapshot is taken; a newer correction of the same question wins."""
        await self._teach(OTHER, OTHER_RIGHT)
        self.snapshot = (await self._call("POST", "/v1/snapshots", {"bank": self.bank}))["id"]
        await self._teach(ASKED, SECOND)
        await self._expect(ASKED, SECOND)
        await self._expect(OTHER, OTHER_RIGHT)

    async def consolidate(self) -> None:
        """A consolidation ends and changes no answer."""
        job = await self._call("POST", "/v1/consolidations", {"bank": self.bank})
        await self._finished(job["job_id"])
        await self._expect(ASKED, SECOND)

    async def roll_back(self) -> None:
        """Rolled back to the snapshot, the bank answers as it did then, bit for bit; rolled forward again, as after it."""
        before = await self._digest()
        moved = await self._call("POST", "/v1/rollback", {"bank": self.bank, "to": self.snapshot})
        await self._expect(ASKED, FIRST)
        await self._call("POST", "/v1/rollback", {"bank": self.bank, "to": moved["pre_rollback"]})
        after = await self._digest()
        _hold(before == after, f"the digest is {after} and was {before}")

    async def forget(self) -> None:
        """A forgotten correction is gone at once; after the rebuild the digest is that of a bank which never saw it."""
        _hold(bool(self.taught), "nothing could be taught")
        body = {"bank": self.bank, "corrections": [self.taught[-1]], "mode": "rebuild"}
        reply = await self._call("POST", "/v1/forget", body)
        said = await self._ask(ASKED)
        _hold(said != SECOND, f"{SECOND!r} is still answered")
        await self._finished(reply["job_id"])
        await self._expect(ASKED, FIRST)
        forgotten = await self._digest()
        async with _bank(self.client) as other:
            never = Examination(self.client, other)
            await never._teach(ASKED, FIRST)
            await never._teach(OTHER, OTHER_RIGHT)
            expected = await never._digest()
        _hold(forgotten == expected, f"the digest is {forgotten}; a bank that never saw it has {expected}")

    async def _teach(self, asked: str, right: str) -> dict[str, Any]:
        reply = await self._call("POST", "/v1/corrections", {"bank": self.bank, "input": asked, "right": right})
        self.taught.append(reply["id"])
        return reply

    async def _ask(self, asked: str) -> str | None:
        answers = (await self._call("POST", "/v1/recall", {"bank": self.bank, "input": asked}))["answers"]
        return answers[0]["value"] if answers else None

    async def _expect(self, asked: str, right: str) -> None:
        said = await self._ask(asked)
        _hold(said == right, f"{asked!r} is answered with {said!r}, not {right!r}")

    async def _digest(self) -> str:
        return str((await self._call("GET", f"/v1/memory?bank={self.bank}"))["digest"])

    async def _finished(self, job_id: str) -> None:
        until = time.monotonic() + JOB_S
        while time.monotonic() < until:
            job = await self._call("GET", f"/v1/jobs/{job_id}")
            if job["status"] not in ("queued", "running"):
                _hold(job["status"] == "succeeded", f"the job {job_id} {job['status']}: {job['error']}")
                return
            await asyncio.sleep(0.05)
        raise Wrong(f"the job {job_id} did not end within {JOB_S:.0f} s")

    async def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        return await _call(self.client, method, path, body)


async def examine(client: httpx.AsyncClient, out: TextIO) -> bool:
    """Whether everything holds; one line for each step on `out`. The client carries the key of an admin."""
    begin = time.perf_counter()
    try:
        async with _bank(client) as bank:
            story = Examination(client, bank)
            steps = (story.learn, story.recall, story.reword, story.supersede, story.consolidate, story.roll_back, story.forget)
            held = [await _step(step, out) for step in steps]
    except (Wrong, httpx.HTTPError) as error:
        print(f"cannot examine the service: {_why(error)}", file=out, flush=True)
        return False
    word = "healthy" if all(held) else f"{held.count(False)} of {len(held)} steps failed"
    print(f"{word}, {time.perf_counter() - begin:.2f} s", file=out, flush=True)
    return all(held)


async def _step(step: Callable[[], Awaitable[None]], out: TextIO) -> bool:
    begin = time.perf_counter()
    try:
        await step()
        why = ""
    except (Wrong, httpx.HTTPError) as error:
        why = _why(error)
    name = getattr(step, "__name__", "step").replace("_", " ")
    print(f"{'FAILED' if why else 'ok':6}  {name:12} {1e3 * (time.perf_counter() - begin):8.1f} ms  {why}".rstrip(), file=out, flush=True)
    return not why


@asynccontextmanager
async def _bank(client: httpx.AsyncClient) -> AsyncIterator[str]:
    bank = str((await _call(client, "POST", "/v1/banks", {"name": f"doctor-{uuid4().hex[:12]}"}))["id"])
    try:
        yield bank
    finally:
        await _call(client, "DELETE", f"/v1/banks/{bank}")


async def _call(client: httpx.AsyncClient, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    response = await client.request(method, path, json=body)
    if response.is_error:
        raise Wrong(f"{method} {path} gave {response.status_code}: {response.text[:300]}")
    return dict(response.json()) if response.content else {}


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def _why(error: Exception) -> str:
    return str(error) or type(error).__name__
