"""What a load found: tables for people, JSON for machines, and what is wrong with it."""

import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from typing import Any

from bench.load.around import Verified
from bench.load.figures import GROWTH_S, Latencies, Step
from bench.load.sending import Sent
from bench.load.soak import GROWTH_GOAL, TRANSACTION_GOAL_S, Watched
from bench.load.texts import Work
from bench.load.warmth import Warmth

HEAD = ("rate", "done", "kind", "sent", "p50 ms", "p95 ms", "p99 ms", "max ms", "right", "refused", "late", "failed")

WHERE = {"device": "on the device", "host": "on the host"}


@dataclass(slots=True)
class Found:
    """Everything that one command measured."""

    target: str
    work: Work
    bound_ms: float
    steps: list[Step] = field(default_factory=list)
    last: list[Sent] = field(default_factory=list)  # the requests of the last step
    knee: float | None = None
    sought: bool = False  # whether the knee was
    watched: Watched | None = None
    warmth: Warmth | None = None
    verified: Verified | None = None

    def wrongs(self) -> list[str]:
        """What must not happen at any rate."""
        said = [f"{number} × {failure}, at {step.rate:.1f}/s" for step in self.steps for failure, number in step.failures.items()]
        said += [f"{step.foreign} answers from another bank, at {step.rate:.1f}/s" for step in self.steps if step.foreign]
        said += [f"acknowledged and not there: {one}" for one in self.verified.lost] if self.verified else []
        said += [f"asked afterwards: {one}" for one in self.warmth.asked.failed] if self.warmth else []
        return said


def render(found: Found) -> str:
    """For people."""
    work = found.work
    lines = [
        f"{found.target}: {work.banks:,} banks of {work.lessons} lessons, Zipf {work.zipf:g}, {work.teach_share:.0%} lessons",
        "latency counts from when a request was due; successes only",
        "",
        *_aligned([HEAD, *(row for step in found.steps for row in _rows(step))]),
        "",
        *_knee(found),
        *_memory(found),
        *_warm(found.warmth),
        *_verified(found.verified),
    ]
    late = max(step.late_p99_ms for step in found.steps)
    lines.append(f"the senders were late by at most {late:.1f} ms (p99 of the worst step): no latency is known better than that")
    wrongs = found.wrongs()
    return "\n".join([*lines, *(f"WRONG: {one}" for one in wrongs), *(["nothing went wrong"] if not wrongs else [])])


def as_json(found: Found, seconds: float) -> dict[str, Any]:
    """For machines."""
    return {
        "benchmark": "load",
        "version": version("palimpsest"),
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "system": platform.system()},
        "seconds": round(seconds, 1),
        "target": found.target,
        "work": asdict(found.work),
        "bound_ms": found.bound_ms,
        "steps": [step.as_json() for step in found.steps],
        "knee": found.knee,
        "soak": found.watched.as_json(found.steps[-1].seconds) if found.watched else None,
        "warmth": asdict(found.warmth) if found.warmth else None,
        "verified": asdict(found.verified) if found.verified else None,
        "wrong": found.wrongs(),
    }


def _rows(step: Step) -> Iterator[tuple[str, ...]]:
    for place, (kind, seen) in enumerate({**step.kinds, "all": step.all}.items()):
        first = (f"{step.rate:.1f}", f"{step.done_rate:.1f}") if place == 0 else ("", "")
        counts = (str(step.refused), str(step.late), str(sum(step.failures.values()))) if kind == "all" else ("", "", "")
        yield (*first, kind, f"{seen.sent:,}", *_times(seen), f"{seen.right:.3f}", *counts)


def _times(seen: Latencies) -> tuple[str, ...]:
    return tuple(f"{value:.1f}" for value in (seen.p50, seen.p95, seen.p99, seen.max))


def _knee(found: Found) -> Iterator[str]:
    if found.sought and found.knee is None:
        yield f"no knee: the first rate is too high already (p99 above {found.bound_ms:.0f} ms, or more than 1 % refused, late or failed)"
    elif found.sought:
        yield f"knee {found.knee:.1f}/s: the last with p99 of all within {found.bound_ms:.0f} ms and at most 1 % refused, late or failed"


def _memory(found: Found) -> Iterator[str]:
    if found.watched is None:
        return
    said = found.watched.as_json(found.steps[-1].seconds)
    if not said["growth_by_process"]:
        yield "no process of the service is known on this machine: no memory was measured"
    for name, grown in said["growth_by_process"].items():
        held = [held[name] for _, held in found.watched.memory if name in held]
        yield f"{name}: {held[0] / 2**20:.0f} to {held[-1] / 2**20:.0f} MiB resident, growth {_percent(grown)}"
    if said["growth_by_process"]:
        thirds = " (thirds: a short run)" if found.steps[-1].seconds < 3 * GROWTH_S else ""
        yield f"together: growth {_percent(said['growth'])} from minutes 2 to 4 to the last 2{thirds}, goal {GROWTH_GOAL:.0%}"
    longest = said["longest_transaction_s"]
    yield "no PostgreSQL is known" if longest is None else f"longest open transaction {longest:.2f} s, goal {TRANSACTION_GOAL_S:.0f} s"


def _warm(seen: Warmth | None) -> Iterator[str]:
    if seen is None:
        return
    counted = ", ".join(f"{number:,} {result}" for result, number in seen.results.items()) or "hits are not counted by the service"
    rate = "unknown" if seen.hit_rate is None else f"{seen.hit_rate:.1%}"
    yield f"hit rate {rate} ({counted})"
    for where, times in sorted(seen.asked.ms.items()):
        p50, p95 = seen.asked.at(where, 0.5), seen.asked.at(where, 0.95)
        yield f"one client, {len(times)} banks that were {WHERE.get(where, where)}: p50 {p50:.1f} ms, p95 {p95:.1f} ms"


def _verified(seen: Verified | None) -> Iterator[str]:
    if seen is not None:
        there = seen.looked_for - len(seen.lost)
        yield (
            f"{seen.acknowledged:,} lessons acknowledged under load; of {seen.looked_for} looked for {there} are in the ledger, "
            f"{seen.recalled} are answered right"
        )


def _percent(value: float | None) -> str:
    return "unknown" if value is None else f"{value:+.1%}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
