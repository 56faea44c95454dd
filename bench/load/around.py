"""What comes before a load and after it: banks are made and taught, and what was acknowledged under load is looked for in the ledger."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
from tqdm import tqdm

from bench.load.sending import REFUSALS, Ack
from bench.load.target import Target
from bench.load.texts import Texts, Work
from bench.running import client_of

AT_ONCE = 4
BATCH = 500
SAMPLE = 200  # acknowledged corrections that are looked for
REFUSED_MOST = 120  # times that the service may say that it is full before a bank is made


class NotPrepared(Exception):
    """The service refused to make or to teach a bank; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Verified:
    """Acknowledged corrections that were looked for afterwards."""

    acknowledged: int
    looked_for: int
    lost: list[str]  # not in the ledger as it was acknowledged
    recalled: int  # answered right when asked for their own text


async def prepare(target: Target, work: Work, texts: Texts) -> None:
    """Make the banks of a load and teach them, in the order of their numbers.

    Raises:
        NotPrepared: the service did not want to.
    """

    async def one(client: httpx.AsyncClient, number: int) -> None:
        await _post(client, "/v1/banks", {"name": work.name(number)})
        items = [{"input": text, "right": right} for text, right in texts.of(work, number).lessons]
        for begin in range(0, len(items), BATCH):
            await _post(client, "/v1/corrections/batch", {"bank": work.name(number), "items": items[begin : begin + BATCH]})

    await _for_each(target, range(work.banks), one, "teach banks")


async def verify(target: Target, work: Work, acks: Sequence[Ack]) -> Verified:
    """Look for some of the acknowledged corrections: in the ledger by their id, and in the memory by their text."""
    sample = random.Random(work.seed).sample(acks, min(SAMPLE, len(acks)))
    lost, recalled = [], 0

    async def one(client: httpx.AsyncClient, ack: Ack) -> None:
        nonlocal recalled
        bank = work.name(ack.bank)
        row = await client.get(f"/v1/corrections/{ack.id}", params={"bank": bank})
        if row.is_error or (row.json()["seq"], row.json()["input"], row.json()["right"]) != (ack.seq, ack.input, ack.right):
            lost.append(f"{bank}, seq {ack.seq}: {row.status_code} {row.text}")
        said = await client.post("/v1/recall", json={"bank": bank, "input": ack.input})
        recalled += said.is_success and any(answer["value"] == ack.right for answer in said.json()["answers"])

    await _for_each(target, sample, one, "look for lessons")
    return Verified(len(acks), len(sample), lost, recalled)


async def clear(target: Target, work: Work) -> None:
    """Delete the banks of a load from a service that goes on."""

    async def one(client: httpx.AsyncClient, number: int) -> None:
        await client.delete(f"/v1/banks/{work.name(number)}")

    await _for_each(target, range(work.banks), one, "delete banks")


async def _for_each(target: Target, items: Sequence[Any], work: Callable[[httpx.AsyncClient, Any], Awaitable[None]], said: str) -> None:
    """Each item in turn, some at a time, over all addresses of the service."""
    waiting = iter(items)
    with tqdm(total=len(items), desc=said, leave=False) as bar:

        async def some(url: str, waiting: Iterator[Any]) -> None:
            async with client_of(url, target.key) as client:
                for item in waiting:
                    await work(client, item)
                    bar.update(1)

        try:
            async with asyncio.TaskGroup() as group:
                for place in range(AT_ONCE):
                    group.create_task(some(target.urls[place % len(target.urls)], waiting))
        except* (NotPrepared, httpx.TransportError) as errors:
            first = errors.exceptions[0]
            raise NotPrepared(f"{said}: {first if isinstance(first, NotPrepared) else repr(first)}") from None


async def _post(client: httpx.AsyncClient, path: str, body: dict[str, Any]) -> None:
    for _ in range(REFUSED_MOST):
        reply = await client.post(path, json=body)
        if reply.status_code not in REFUSALS:
            break
        await asyncio.sleep(float(reply.headers.get("Retry-After", 1)))
    if reply.is_error:
        raise NotPrepared(f"{path}: {reply.status_code} {reply.text}")
