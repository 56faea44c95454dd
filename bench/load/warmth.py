"""Many more banks than a service keeps in memory: how often a request found its bank warm, and what it costs where it did not."""

import re
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import httpx

from bench.load.figures import percentile
from bench.load.sending import Sent
from bench.load.target import Target
from bench.load.texts import Texts, Work
from bench.running import client_of

ASKED = 50  # cold banks that are asked afterwards
HITS = re.compile(r'^palimpsest_warm_hits_total\{result="(\w+)"\} (\S+)$', re.MULTILINE)
LOADS = re.compile(r'^palimpsest_stage_seconds_count\{stage="load"\} (\S+)$', re.MULTILINE)
COLD = "cold"


@dataclass(frozen=True, slots=True)
class Warmth:
    """What was found; milliseconds of recalls by one client, first of a bank that was cold and then of the same."""

    results: dict[str, int]  # requests by where their bank was, as the service counts them
    loads: int
    hit_rate: float | None
    cold_ms: list[float]
    warm_ms: list[float]
    failed: list[str]

    def at(self, share: float) -> tuple[float, float]:
        """A percentile of the cold and of the warm ones."""
        return percentile(sorted(self.cold_ms), share), percentile(sorted(self.warm_ms), share)


async def counts(target: Target) -> Counter[str]:
    """What the service's processes have counted so far: requests by result, and loads."""
    found: Counter[str] = Counter()
    async with httpx.AsyncClient(timeout=60) as client:
        for url in target.metrics:
            text = (await client.get(f"{url}/metrics")).text
            for result, number in HITS.findall(text):
                found[result] += int(float(number))
            for number in LOADS.findall(text):
                found["loads"] += int(float(number))
    return found


def coldest(sent: Sequence[Sent], banks: int, warm: int) -> list[int]:
    """The banks that cannot be warm, the one unused for longest first: those behind the `warm` that were used last.

    Banks that no request was for were last used when they were taught, in the order of their numbers.
    """
    used = {bank: (0.0, bank) for bank in range(banks)}
    for one in sent:
        used[one.bank] = max(used[one.bank], (one.ended, one.bank))
    order = sorted(range(banks), key=lambda bank: used[bank])
    return order[: max(0, banks - warm)]


async def ask_cold(target: Target, work: Work, texts: Texts, banks: Sequence[int]) -> tuple[list[float], list[float], list[str]]:
    """Ask each of some cold banks twice, one after the other: the first times, the second times, and what failed."""
    times: tuple[list[float], list[float]] = ([], [])
    failed = []
    async with client_of(target.urls[0], target.key) as client:
        await client.get("/health/live")  # opens the connection, which is not to be measured
        for bank in banks[:ASKED]:
            for place, (text, _) in enumerate(texts.of(work, bank).questions[:2]):
                begin = time.perf_counter()
                reply = await client.post("/v1/recall", json={"bank": work.name(bank), "input": text})
                times[place].append(1e3 * (time.perf_counter() - begin))
                if reply.is_error:
                    failed.append(f"{work.name(bank)}: {reply.status_code} {reply.text}")
    return *times, failed


def warmth(before: Mapping[str, int], after: Mapping[str, int], answered: int, asked: tuple[list[float], list[float], list[str]]) -> Warmth:
    """What a run was like, from the counts around it; a service that does not count hits counts loads."""
    grown = {name: after[name] - before.get(name, 0) for name in after}
    loads = grown.pop("loads", 0)
    requests = sum(grown.values())
    if requests:
        rate: float | None = 1 - grown.get(COLD, 0) / requests
    else:
        rate = 1 - loads / answered if answered else None
    return Warmth(grown, loads, rate, *asked)
