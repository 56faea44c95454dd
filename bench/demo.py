"""`python -m bench demo`: the story of a memory on real utterances, in less than a minute, over the API of a service of its own.

It learns some wordings of each intent of BANKING77 and is asked others; one policy changes; the change is rolled back and made again; an
intent is forgotten. What is promised exactly is checked, and a promise that does not hold ends the story with an error.
"""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import click
import httpx
from tqdm import tqdm

from bench.data import DataAbsent, Row, directory, load
from bench.starts import settings_of, unseen
from bench.subjects import Refused, RestMemory, reply_of
from service.settings import SettingsRefused

TAUGHT, ASKED = 5, 3  # wordings of an intent that are taught, and others that are asked
CHANGED, GONE = "card_arrival", "exchange_rate"  # the intents whose policy changes, and which is forgotten
NEW = "card_arrival: from now on by courier, ask for the tracking number"
JOB_S = 60.0


class Broken(Exception):
    """A promise does not hold; the message says which."""


@click.command()
def demo() -> None:
    """Learn real utterances, ask others, change a policy, roll back, forget: in less than a minute."""
    from bench.corrections import quiet
    from model.encoder import EncoderRefused

    try:
        rows = load("banking77", directory(os.environ)).rows
        settings = unseen(quiet(settings_of(os.environ)), "banking77")
    except (DataAbsent, EncoderRefused, SettingsRefused) as refused:
        raise click.ClickException(str(refused)) from None

    async def tell() -> None:
        from service.serving import scratch_client

        async with scratch_client(settings) as client:
            await Story(client, *chosen(rows)).tell()

    try:
        asyncio.run(tell())
    except (Broken, EncoderRefused, Refused) as error:
        raise click.ClickException(str(error)) from None


def chosen(rows: Sequence[Row]) -> tuple[list[Row], list[Row]]:
    """The rows that are taught, intents taking turns, and the rows that are asked; no wording is in both."""
    by_intent: dict[str, list[Row]] = {}
    for row in rows:
        by_intent.setdefault(row[1], []).append(row)
    taught = [wordings[turn] for turn in range(TAUGHT) for wordings in by_intent.values() if turn < len(wordings)]
    return taught, [row for wordings in by_intent.values() for row in wordings[TAUGHT : TAUGHT + ASKED]]


@dataclass(slots=True)
class Story:
    """The story on the default bank of an empty service."""

    client: httpx.AsyncClient
    taught: list[Row]
    unseen: list[Row]
    ids: dict[str, list[str]] = field(default_factory=dict)  # corrections by intent

    async def tell(self) -> None:
        """All chapters."""
        before = await self._known(self.unseen)
        await self._learn()
        after = await self._known(self.unseen)
        click.echo(f"Taught {len(self.taught)} real utterances of {len(self.ids)} intents.")
        click.echo(f"Asked {len(self.unseen)} other wordings: {before:.0%} right before, {after:.0%} after.")
        _hold(after > before, "it learned nothing")
        snapshot = await self._change()
        await self._return_to(snapshot)
        await self._forget()

    async def _learn(self) -> None:
        for text, intent in tqdm(self.taught, desc="teach", unit=" corrections"):
            reply = await self._post("/v1/corrections", {"input": text, "right": intent})
            self.ids.setdefault(intent, []).append(reply["id"])

    async def _change(self) -> str:
        """A new policy is taught wherever the old one is still told; gives the snapshot before it."""
        snapshot = await self._post("/v1/snapshots", {"label": "before the new policy"})
        others = [row for row in self.unseen if row[1] != CHANGED]
        before = await self._known(others)
        memory, told = RestMemory(self.client, "default"), 0
        for text in _texts(self.taught, CHANGED):
            said = await memory.ask(text)
            if said != NEW:
                await memory.tell(text, NEW, said)
                told += 1
        about = _texts(self.unseen, CHANGED)
        new = sum(said == NEW for said in await self._said(about))
        click.echo(f"\nA policy changes: {CHANGED!r} is answered anew. {told} corrections were needed for {TAUGHT} wordings;")
        click.echo(f"of {len(about)} wordings never seen, {new} get the new answer.")
        click.echo(f"Other wordings of all other intents: {before:.0%} right before, {await self._known(others):.0%} after.")
        return str(snapshot["id"])

    async def _return_to(self, snapshot: str) -> None:
        learned = await self._digest()
        preview = await self._post("/v1/rollback", {"to": snapshot, "dry_run": True})
        moved = await self._post("/v1/rollback", {"to": snapshot})
        said = await self._said(_texts(self.taught, CHANGED))
        click.echo(f"\nRolled back: a preview named {len(preview['flips'])} answers that flip; the old policy is told again, for example")
        click.echo(f"  {_texts(self.taught, CHANGED)[0]!r} → {said[0]}")
        _hold(NEW not in said, "the new policy is still told after the rollback")
        await self._post("/v1/rollback", {"to": moved["pre_rollback"]})
        _hold(await self._digest() == learned, "undoing the rollback gave other weights")
        click.echo("The rollback is undone: the weights are those of before, bit for bit.")
        await self._post("/v1/rollback", {"to": snapshot})

    async def _forget(self) -> None:
        about = _texts(self.taught, GONE)
        knew = sum(said == GONE for said in await self._said(about))
        reply = await self._post("/v1/forget", {"corrections": self.ids[GONE], "mode": "rebuild"})
        await self._finished(reply["job_id"])
        still = sum(said == GONE for said in await self._said(about))
        click.echo(
            f"\nForgotten: all {len(self.ids[GONE])} corrections about {GONE!r}. Answered so: {knew} of {len(about)} before, {still} now."
        )
        _hold(still == 0, "what was forgotten is still told")
        never = await self._post("/v1/banks", {"name": "never"})
        items = [{"input": text, "right": intent} for text, intent in self.taught if intent != GONE]
        await self._post("/v1/corrections/batch", {"bank": never["id"], "items": items})
        _hold(await self._digest() == await self._digest("never"), "the weights are not those of a memory that never saw it")
        click.echo("The weights are those of a memory that never saw them, bit for bit.")

    async def _known(self, rows: Sequence[Row]) -> float:
        """The share of rows that are answered with their intent."""
        said = await self._said([text for text, _ in rows])
        return sum(answer == intent for answer, (_, intent) in zip(said, rows, strict=True)) / len(rows)

    async def _said(self, texts: Sequence[str]) -> list[str | None]:
        results = (await self._post("/v1/recall/batch", {"inputs": list(texts)}))["results"]
        return [result["answers"][0]["value"] if result["answers"] else None for result in results]

    async def _digest(self, bank: str = "default") -> str:
        return str(reply_of(await self.client.get("/v1/memory", params={"bank": bank}))["digest"])

    async def _finished(self, job_id: str) -> None:
        async with asyncio.timeout(JOB_S):
            while True:
                job = reply_of(await self.client.get(f"/v1/jobs/{job_id}"))
                if job["status"] not in ("queued", "running"):
                    break
                await asyncio.sleep(0.05)
        _hold(job["status"] == "succeeded", f"the rebuild {job['status']}: {job['error']}")

    async def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return reply_of(await self.client.post(path, json=body))


def _texts(rows: Sequence[Row], wanted: str) -> list[str]:
    return [text for text, intent in rows if intent == wanted]


def _hold(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Broken(otherwise)
