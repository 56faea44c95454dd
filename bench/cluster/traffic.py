"""What clients do to a cluster while parts of it fail: teach under Idempotency-Keys, ask, and remember what they were told.

A client sends again, to another api, what was not answered or was refused for the moment. A reader holds the service to its word: once
a write was acknowledged, no answer of the bank may come from a state before it.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx

from bench.promises import Broken
from bench.running import client_of

AGAIN_S = 0.1
PATIENCE_S = 60.0  # a request that is sent again for so long will never be answered
FOR_THE_MOMENT = {409, 429, 503}  # statuses that a client meets by sending again, under the same key


@dataclass(slots=True)
class Traffic:
    """Writers and readers of the default bank, over several apis."""

    urls: Sequence[str]
    key: str
    dice: random.Random
    answers: Sequence[str]
    acked: dict[str, tuple[int, str]] = field(default_factory=dict)  # input -> seq, right
    broken: list[Broken] = field(default_factory=list)
    waits_s: list[float] = field(default_factory=list)  # of writes that had to be sent again, from the first try to the answer
    replayed: int = 0
    asked: int = 0
    sent: int = 0
    _newest: int = 0  # the highest seq acknowledged so far

    async def write(self, stop: asyncio.Event) -> None:
        """Teach one correction after the other until told to stop; the last is taught to its end."""
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client_of(url, self.key)) for url in self.urls]
            while not stop.is_set():
                await self._teach(clients)

    async def ask(self, stop: asyncio.Event) -> None:
        """Ask until told to stop."""
        async with contextlib.AsyncExitStack() as stack:
            clients = [await stack.enter_async_context(client_of(url, self.key)) for url in self.urls]
            while not stop.is_set():
                seen = self._newest
                body = {"input": f"somebody asks about {self.dice.choice(self.answers)}"}
                with contextlib.suppress(httpx.TransportError):
                    response = await self.dice.choice(clients).post("/v1/recall", json=body, timeout=20)
                    self.asked += 1
                    self._judge(response, seen)
                await asyncio.sleep(0.02)

    def _judge(self, response: httpx.Response, seen: int) -> None:
        if response.status_code == 200:
            seq = response.json()["state"]["seq"]
            if seq < seen:
                self.broken.append(Broken("other", f"an answer came from seq {seq} after {seen} had been acknowledged"))
        elif response.status_code not in FOR_THE_MOMENT:
            self.broken.append(Broken("other", f"recall: {response.status_code} {response.text}"))

    async def _teach(self, clients: Sequence[httpx.AsyncClient]) -> None:
        self.sent += 1
        key, right = f"key-{self.sent}", self.dice.choice(self.answers)
        item = {"input": f"customer {self.sent} asks about {self.dice.choice(self.answers)}", "right": right}

        def post(client: httpx.AsyncClient) -> Any:  # noqa: ANN401
            return client.post("/v1/corrections", json=item, headers={"Idempotency-Key": key}, timeout=20)

        begin = time.perf_counter()
        response, tries = await until_answered(clients, post, self.dice)
        if response.status_code != 201:
            self.broken.append(Broken("other", f"{key}: {response.status_code} {response.text}"))
            return
        if tries > 1:
            self.waits_s.append(time.perf_counter() - begin)
        self.replayed += "idempotent-replayed" in response.headers
        seq = response.json()["seq"]
        self.acked[item["input"]] = (seq, right)
        self._newest = max(self._newest, seq)


async def until_answered(
    clients: Sequence[httpx.AsyncClient], post: Callable[[httpx.AsyncClient], Any], dice: random.Random
) -> tuple[httpx.Response, int]:
    """The answer, after as many tries as it takes, at one api after the other; and how many it took.

    Raises:
        TimeoutError: nobody has answered for very long.
    """
    place, tries = dice.randrange(len(clients)), 0
    async with asyncio.timeout(PATIENCE_S):
        while True:
            tries += 1
            with contextlib.suppress(httpx.TransportError):
                response: httpx.Response = await post(clients[place % len(clients)])
                if response.status_code not in FOR_THE_MOMENT:
                    return response, tries
            place += 1
            await asyncio.sleep(AGAIN_S)
