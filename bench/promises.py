"""The report of a crash run: what happened, and every promise that broke."""

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal

Kind = Literal["lost", "duplicated", "digest", "other"]
NAMES: dict[Kind, str] = {"lost": "lost", "duplicated": "duplicated", "digest": "digest mismatches", "other": "other promises broken"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A promise that did not hold: which one, and what was seen."""

    kind: Kind
    what: str


@dataclass(slots=True)
class Report:
    """The figures."""

    rounds: int = 0
    kills: int = 0
    kills_while_starting: int = 0
    kills_while_resending: int = 0
    acknowledged: int = 0
    events: int = 0
    resent: int = 0
    replayed: int = 0
    operations: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)  # before the kill; the job of one may still be open then
    interrupted: Counter[str] = field(default_factory=Counter)
    restart_s: list[float] = field(default_factory=list)
    settle_s: list[float] = field(default_factory=list)
    broken: list[Broken] = field(default_factory=list)

    def tell(self, *broken: Broken) -> None:
        """Add what broke; what is seen again in the next round counts once."""
        self.broken += [each for each in broken if each not in self.broken]

    def count(self, kind: Kind) -> int:
        """How many promises of a kind broke."""
        return sum(each.kind == kind for each in self.broken)

    def as_json(self) -> dict[str, Any]:
        """For other programs."""
        return {
            "benchmark": "crash",
            "rounds": self.rounds,
            "kills": self.kills,
            "kills_while_starting": self.kills_while_starting,
            "kills_while_resending": self.kills_while_resending,
            "acknowledged": self.acknowledged,
            "events": self.events,
            "lost": self.count("lost"),
            "duplicated": self.count("duplicated"),
            "digest_mismatches": self.count("digest"),
            "other_broken": self.count("other"),
            "broken": [f"{each.kind}: {each.what}" for each in self.broken],
            "resent": self.resent,
            "replayed": self.replayed,
            "longest_resend_s": round(max(self.settle_s, default=0.0), 3),
            "operations": dict(sorted(self.operations.items())),
            "answered": dict(sorted(self.answered.items())),
            "interrupted": dict(sorted(self.interrupted.items())),
            "restart_median_s": round(median(self.restart_s), 3),
            "restart_max_s": round(max(self.restart_s), 3),
            "restart_s": [round(seconds, 3) for seconds in self.restart_s],
        }

    def __str__(self) -> str:
        """For people."""
        did = ", ".join(f"{self.interrupted[name]} of {number} {name}" for name, number in sorted(self.operations.items()))
        lines = [
            f"{self.rounds} rounds, {self.kills} kills, of them {self.kills_while_starting} while starting and "
            f"{self.kills_while_resending} while clients sent again",
            f"{self.acknowledged:,} corrections acknowledged, {self.events:,} events in the ledger",
            f"{self.resent:,} requests sent again after a kill (longest {max(self.settle_s, default=0.0):.1f} s), "
            f"{self.replayed:,} of them answered from what was committed before it",
            f"interrupted by a kill: {did}; {self.answered.total()} of them all had been answered",
            f"restart {median(self.restart_s):.1f} s (longest {max(self.restart_s):.1f} s)",
            ", ".join(f"{self.count(kind)} {name}" for kind, name in NAMES.items()),
        ]
        return "\n".join(lines + [f"  {each.kind}: {each.what}" for each in self.broken])
