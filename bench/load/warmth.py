"""Many more banks than a service keeps in memory: where requests found their banks, and what it costs where that was."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx

from bench.load.figures import percentile
from bench.load.sending import Sent
from bench.load.target import Target
from bench.load.texts import Texts, Work
from bench.running import client_of

ASKED = 50  # banks that are asked afterwards, of those used last; and thrice as many of all others
HITS = re.compile(r'^palimpsest_warm_hits_total\{result="(\w+)"\} (\S+)$', re.MULTILINE)
COLD = "cold"


@dataclass(frozen=True, slots=True)
class Asked:
    """What one client found that asked banks one after the other: milliseconds of a recall, by where the service says the bank was."""

    ms: dict[str, list[float]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def at(self, where: str, share: float) -> float:
        """A percentile of those at one place."""
        return percentile(sorted(self.ms[where]), share)


@dataclass(frozen=True, slots=True)
class Warmth:
    """What was found under load and afterwards."""

    results: dict[str, int]  # requests under load by where their bank was, as the service counts them
    hit_rate: float | None  # part of them that did not find it cold
    asked: Asked


async def counts(target: Target) -> Counter[str]:
    """What the service's processes have counted so far: requests by where their bank was."""
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=60) as client:
        for url in target.metrics:
            for result, number in HITS.findall((await client.get(f"{url}/metrics")).text):
                found[result] += int(float(number))
    return found


def to_ask(sent: Sequence[Sent], banks: int, warm: int) -> list[int]:
    """Banks to ask, the one used last first: some of the `warm` used last, some of all others.

    In that order asking one does not push out another that is still to be asked before its turn. Banks that no request was for were last
    used when they were taught, in the order of their numbers.
    """
    used = {bank: (0.0, bank) for bank in range(banks)}
    for one in sent:
        used[one.bank] = max(used[one.bank], (one.ended, one.bank))
    order = sorted(range(banks), key=lambda bank: used[bank], reverse=True)
    return [*_some(order[:warm], ASKED), *_some(order[warm:], 3 * ASKED)]


async def ask(target: Target, work: Work, texts: Texts, banks: Sequence[int]) -> Asked:
    """Ask each of some banks, one after the other, while nobody else asks."""
    asked = Asked()
    async with client_of(target.urls[0], target.key) as client:
        await client.get("/health/live")  # opens the connection, which is not to be measured
        before = await counts(target)
        for bank in banks:
            text, _ = texts.of(work, bank).questions[0]
            begin = time.perf_counter()
            reply = await client.post("/v1/recall", json={"bank": work.name(bank), "input": text})
            took = 1e3 * (time.perf_counter() - begin)
            after = await counts(target)
            for where in after - before:
                asked.ms.setdefault(where, []).append(took)
            before = after
            if reply.is_error:
                asked.failed.append(f"{work.name(bank)}: {reply.status_code} {reply.text}")
    return asked


def warmth(before: Mapping[str, int], after: Mapping[str, int], asked: Asked) -> Warmth:
    """What a run was like, from the counts around it."""
    grown = {name: after[name] - before.get(name, 0) for name in after}
    requests = sum(grown.values())
    return Warmth(grown, 1 - grown.get(COLD, 0) / requests if requests else None, asked)


def _some(banks: Sequence[int], most: int) -> list[int]:
    return [banks[place * len(banks) // most] for place in range(most)] if len(banks) > most else list(banks)
