"""What clients do to a cluster while parts of it fail: teach under Idempotency-Keys, ask, and remember what they were told.

A client sends again, to another api, what was not answered or was refused for the moment. A reader holds the service to its word: once
a write was acknowledged, no answer of the bank may come from a state before it.
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import httpx

from bench.cluster.taught import TaughtBank
from bench.promises import Broken

AGAIN_S = 0.1
PAUSE_S = 0.03  # of a writer and of a reader between two requests: a round is about faults, not about load
PATIENCE_S = 180.0  # a request that is sent again for so long will never be answered
FOR_THE_MOMENT = {409, 429, 503, 507}  # statuses that a client meets by sending again, under the same key
LOST = "no answer"  # beside the statuses


class Post(Protocol):
    """A request to one of the apis."""

    def __call__(self, client: httpx.AsyncClient) -> Awaitable[httpx.Response]:
        """Send it."""
        ...


@dataclass(slots=True)
class Traffic:
    """Writers and readers of some banks, over several apis, for one round; `mark` tells its texts and keys from those of others."""

    clients: Sequence[httpx.AsyncClient]
    banks: Sequence[TaughtBank]
    mark: str
    dice: random.Random
    answers: Sequence[str]
    broken: list[Broken] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)  # statuses that made a client send again
    longest_wait_s: float = 0.0  # of a write, from the first try to the answer
    acknowledged: int = 0
    sent_again: int = 0
    replayed: int = 0
    asked: int = 0
    sent: int = 0

    async def write(self, stop: asyncio.Event) -> None:
        """Teach one correction after the other until told to stop; the last is taught to its end."""
        while not stop.is_set():
            await self._teach(self.dice.choice(self.banks))
            await asyncio.sleep(PAUSE_S)

    async def ask(self, stop: asyncio.Event) -> None:
        """Ask until told to stop."""
        while not stop.is_set():
            bank = self.dice.choice(self.banks)
            seen, body = bank.newest, {"bank": bank.name, "input": f"somebody asks about {self.dice.choice(self.answers)}"}
            try:
                response = await self.dice.choice(self.clients).post("/v1/recall", json=body, timeout=20)
            except httpx.TransportError:
                self.refused[LOST] += 1
            else:
                self.asked += 1
                self._judge(bank, response, seen)
            await asyncio.sleep(PAUSE_S)

    def _judge(self, bank: TaughtBank, response: httpx.Response, seen: int) -> None:
        if response.status_code == 200:
            seq = response.json()["state"]["seq"]
            if seq < seen:
                self.broken.append(Broken("other", f"{bank.name}: an answer came from seq {seq} after {seen} had been acknowledged"))
        elif response.status_code in FOR_THE_MOMENT:
            self.refused[str(response.status_code)] += 1
        else:
            self.broken.append(Broken("other", f"recall: {response.status_code} {response.text}"))

    async def _teach(self, bank: TaughtBank) -> None:
        self.sent += 1
        key, right = f"{self.mark}.{self.sent}", self.dice.choice(self.answers)
        item = {"bank": bank.name, "input": f"customer {key} asks about {self.dice.choice(self.answers)}", "right": right}

        def post(client: httpx.AsyncClient) -> Awaitable[httpx.Response]:
            return client.post("/v1/corrections", json=item, headers={"Idempotency-Key": key}, timeout=20)

        begin = time.perf_counter()
        response, tries = await until_answered(self.clients, post, self.dice, self.refused)
        self.longest_wait_s = max(self.longest_wait_s, time.perf_counter() - begin)
        if response.status_code != 201:
            self.broken.append(Broken("other", f"{key}: {response.status_code} {response.text}"))
            return
        self.acknowledged += 1
        self.sent_again += tries > 1
        self.replayed += "idempotent-replayed" in response.headers
        bank.acknowledged(item["input"], response.json()["seq"], right)


async def until_answered(
    clients: Sequence[httpx.AsyncClient], post: Post, dice: random.Random, refused: Counter[str]
) -> tuple[httpx.Response, int]:
    """The answer, after as many tries as it takes, at one api after the other, and how many it took; why others failed goes to `refused`.

    Raises:
        TimeoutError: nobody has answered for very long.
    """
    place, tries = dice.randrange(len(clients)), 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            tries += 1
            try:
                response = await post(clients[place % len(clients)])
                if response.status_code not in FOR_THE_MOMENT:
                    return response, tries
                refused[str(response.status_code)] += 1
            except httpx.TransportError:
                refused[LOST] += 1
            place += 1
            await asyncio.sleep(AGAIN_S)
