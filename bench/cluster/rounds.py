"""What came of each round of faults: a line of JSON in a file that many runs add to, and the table over all of them."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

HEAD = ("fault", "rounds", "acknowledged", "sent again", "lost", "doubled", "astray", "other", "longest wait", "a round")


class Round(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One fault under load and what was found after it. What has a default is in a line only where it is something else."""

    seed: int
    number: int  # in its run, from 1
    fault: str
    victim: str
    operation: str  # the kind that was under way
    at: str  # when the fault struck, to find it in the logs
    seconds: float
    acknowledged: int  # corrections
    asked: int
    sent_again: int
    replayed: int  # of these, answered from what had been committed
    refused: dict[str, int]  # statuses that a client met by sending again
    longest_wait_s: float  # of a correction, from the first try to its acknowledgement
    lost: int
    doubled: int
    astray: int  # digests that are not the fold of their ledger
    other: int
    broken: list[str]  # what was seen
    database_killed: int = 0  # how often PostgreSQL stayed down by itself until the bench killed it and started it again: no fault of ours


def read_rounds(path: Path) -> list[Round]:
    """The rounds of all runs so far; none if there is no such file."""
    if not path.exists():
        return []
    return [msgspec.json.decode(line, type=Round) for line in path.read_bytes().splitlines()]


def add_round(path: Path, told: Round) -> None:
    """Add a line; it is on the disk when this returns."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(msgspec.json.encode(told) + b"\n")
        file.flush()
        os.fsync(file.fileno())


def as_json(rounds: Sequence[Round]) -> dict[str, Any]:
    """The figures over all rounds, for other programs."""
    return {
        "benchmark": "cluster-crash",
        "rounds": len(rounds),
        "seeds": sorted({each.seed for each in rounds}),
        "faults": dict(Counter(each.fault for each in rounds)),
        "operations": dict(Counter(each.operation for each in rounds)),
        "refused": dict(sum((Counter(each.refused) for each in rounds), Counter[str]())),
        **{name: sum(getattr(each, name) for each in rounds) for name in ("acknowledged", "asked", "sent_again", "replayed")},
        **{name: sum(getattr(each, name) for each in rounds) for name in ("lost", "doubled", "astray", "other")},
        "longest_wait_s": max((each.longest_wait_s for each in rounds), default=0.0),
        "database_killed": sum(each.database_killed for each in rounds),
        "broken": broken(rounds),
    }


def broken(rounds: Sequence[Round]) -> list[str]:
    """Every promise that was seen to break, with its round."""
    return [f"seed {each.seed}, round {each.number} ({each.fault}, {each.victim}): {what}" for each in rounds for what in each.broken]


def hung(rounds: Sequence[Round]) -> list[str]:
    """The rounds whose waits are not the service's: PostgreSQL stayed down in them."""
    return [
        f"seed {each.seed}, round {each.number} ({each.fault}, {each.victim}): PostgreSQL stayed down and was killed and started again"
        for each in rounds
        if each.database_killed
    ]


def table(rounds: Sequence[Round]) -> str:
    """A line for each fault and one for all of them, for people; below it whatever broke, and where PostgreSQL hung."""
    faults = sorted({each.fault for each in rounds})
    lines = [HEAD, *(_row(name, [each for each in rounds if each.fault == name]) for name in faults), _row("all", rounds)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    told = [
        "  ".join(cell.rjust(width) if column else cell.ljust(width) for column, (cell, width) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    return "\n".join([*told, *(f"  {what}" for what in (*broken(rounds), *hung(rounds)))])


def _row(name: str, rounds: Sequence[Round]) -> tuple[str, ...]:
    sums = [sum(getattr(each, field) for each in rounds) for field in ("acknowledged", "sent_again", "lost", "doubled", "astray", "other")]
    longest = max((each.longest_wait_s for each in rounds), default=0.0)
    seconds = median([each.seconds for each in rounds] or [0.0])
    return (name, f"{len(rounds):,}", *(f"{number:,}" for number in sums), f"{longest:.1f} s", f"{seconds:.1f} s")
