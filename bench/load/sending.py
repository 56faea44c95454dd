"""One sender: an open loop. A request is sent when it is due, however many replies are still to come.

Latency counts from the time at which a request was due, not from when it was sent, so that a service that stops for a second is charged
for everybody who would have come in that second. A sender that is late itself says so: `begun` is when it got round to the request.
"""

import asyncio
import gc
import json
import time
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from bench.data import Row
from bench.line import request_bytes
from bench.load.arrivals import Zipf, due_times
from bench.load.connections import Broken, Connections, Reply
from bench.load.texts import Texts, Work, is_foreign

RECALL, TEACH = "recall", "teach"
DEADLINE_S = 30.0
UNDER_WAY = 900  # requests of one sender at once: below the usual limit of 1,024 open files
REFUSALS = (429, 503)  # with Retry-After: the service says that it is full, and when to come again
RIGHT, SILENT, OTHER, FOREIGN = "right", "silent", "other", "foreign"


@dataclass(frozen=True, slots=True)
class Order:
    """What one sender has to do. `begin` is a time of the monotonic clock, which all processes of a machine share."""

    urls: tuple[str, ...]
    key: str
    work: Work
    rate: float
    seconds: float
    seed: tuple[int, ...]
    begin: float


class Sent(NamedTuple):
    """One request; times in seconds since the begin."""

    kind: str
    bank: int
    due: float
    begun: float
    ended: float
    failure: str  # empty for a success, else the status and the code of the problem, or what became of the connection
    refused: bool
    verdict: str  # of the answer: for a lesson that of the receipt


class Ack(NamedTuple):
    """A correction that the service says it has."""

    bank: int
    id: str
    seq: int
    input: str
    right: str


@dataclass(slots=True)
class Sendings:
    """All that was sent, and what was acknowledged."""

    sent: list[Sent] = field(default_factory=list)
    acks: list[Ack] = field(default_factory=list)

    def add(self, other: "Sendings") -> None:
        """Take in what another sender did."""
        self.sent += other.sent
        self.acks += other.acks


async def send(order: Order, texts: Texts) -> Sendings:
    """Send everything that comes due, and wait for the replies."""
    random = np.random.default_rng(order.seed)
    due = due_times(random, order.rate, order.seconds)
    banks = Zipf(order.work.banks, order.work.zipf).draw(random, len(due))
    teaches = random.random(len(due)) < order.work.teach_share
    which = random.integers(0, 2**31, len(due))
    sender = Sender(order, texts)
    gc.disable()  # a collection would hold up what is due; nothing here makes cycles by the request
    try:
        async with asyncio.TaskGroup() as group:
            for place, at in enumerate(due.tolist()):
                await asyncio.sleep(max(0.0, order.begin + at - time.monotonic()))
                kind = TEACH if teaches[place] else RECALL
                group.create_task(sender.one(kind, int(banks[place]), int(which[place]), at))
    finally:
        gc.enable()
        sender.close()
    return sender.done


class Sender:
    """Sends single requests and keeps what became of them."""

    def __init__(self, order: Order, texts: Texts) -> None:
        self.done = Sendings()
        self._order, self._texts = order, texts
        self._to = [(url, Connections(url)) for url in order.urls]
        self._turn = 0
        self._slots = asyncio.Semaphore(UNDER_WAY)

    async def one(self, kind: str, bank: int, which: int, due: float) -> None:
        """One request that is due."""
        texts = self._texts.of(self._order.work, bank)
        rows = texts.further if kind == TEACH else texts.questions
        row = rows[which % len(rows)]
        self._turn += 1
        url, connections = self._to[self._turn % len(self._to)]
        request = _request(url, self._order.key, kind, self._order.work.name(bank), row)
        reply, failure = None, ""
        async with self._slots:
            begun = self._now()
            try:
                async with asyncio.timeout(DEADLINE_S):
                    reply = await connections.ask(request)
            except TimeoutError:
                failure = f"no reply in {DEADLINE_S:.0f} s"
            except Broken as broken:
                failure = f"broken: {broken}"
            ended = self._now()
        refused, verdict = False, ""
        if reply is not None:
            failure = _failure(reply)
            refused = bool(failure) and reply.again and reply.status in REFUSALS
            verdict = "" if failure else self._judged(kind, bank, row, json.loads(reply.body))
        self.done.sent.append(Sent(kind, bank, due, begun, ended, failure, refused, verdict))

    def close(self) -> None:
        """Close the connections."""
        for _, connections in self._to:
            connections.close()

    def _now(self) -> float:
        return time.monotonic() - self._order.begin

    def _judged(self, kind: str, bank: int, row: Row, said: dict[str, Any]) -> str:
        if kind == TEACH:
            self.done.acks.append(Ack(bank, said["id"], said["seq"], *row))
            value = said["receipt"]["item"]["after"]["value"]
        else:
            value = said["answers"][0]["value"] if said["answers"] else None
        return judge(value, row[1], bank)


def judge(said: str | None, right: str, bank: int) -> str:
    """What an answer of the bank is worth."""
    if said is None:
        return SILENT
    if said == right:
        return RIGHT
    return FOREIGN if is_foreign(said, bank) else OTHER


def _request(url: str, key: str, kind: str, bank: str, row: Row) -> bytes:
    text, right = row
    if kind == TEACH:
        return request_bytes(url, key, "/v1/corrections", {"bank": bank, "input": text, "right": right})
    return request_bytes(url, key, "/v1/recall", {"bank": bank, "input": text})


def _failure(reply: Reply) -> str:
    if 200 <= reply.status < 300:
        return ""
    try:
        code = json.loads(reply.body)["code"]
    except (ValueError, KeyError, TypeError):
        code = "without a problem document"
    return f"{reply.status} {code}"
