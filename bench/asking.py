"""How a memory is asked and taught: one request at a time by a stream, in batches by the boards of `bench.scoreboard`.

A board asks for the best answer whatever its confidence, and is told whether the memory would have kept silent: one reading serves any
threshold.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from bench.data import Row

Progress = Callable[[int], object]


@dataclass(frozen=True, slots=True)
class Said:
    """The best answer to a question, None if there is none at all; `silent`: the memory would not have given it."""

    value: str | None
    confidence: float
    silent: bool

    @property
    def answer(self) -> str | None:
        """What a caller is told who sets no threshold."""
        return None if self.silent else self.value


@dataclass(frozen=True, slots=True)
class ConsolidationCost:
    """What a consolidation took, and whether its gate let it pass."""

    seconds: float
    passed: bool  # the gate
    peak_bytes: int | None = None  # of the process that did it, with all else that it holds, where that is this one and is counted
    before_bytes: int | None = None  # what that process had when it began
    cpu_s: float | None = None  # of the processor in it, whatever else the machine did


class Asked(Protocol):
    """A memory as the boards use it."""

    async def ask_many(self, texts: Sequence[str], progress: Progress) -> list[Said]:
        """The best answer to each text; nothing is learned meanwhile. `progress` is told how many more are done."""

    async def tell_many(self, rows: Sequence[Row], progress: Progress) -> list[str]:
        """Corrections, (text, right answer) each, in order; the names under which they can be forgotten."""

    async def size_bytes(self) -> int:
        """What it holds by now, texts of answers not counted."""

    async def disk_bytes(self) -> int | None:
        """The files that it has written by now; None if it writes none, or elsewhere."""


@runtime_checkable
class Consolidating(Protocol):
    """A memory that can be told to consolidate."""

    async def consolidate(self) -> ConsolidationCost:
        """Consolidate, and wait for it."""


@runtime_checkable
class Settling(Protocol):
    """A memory that consolidates by itself when it was taught enough, between requests."""

    async def settle(self) -> None:
        """Consolidate, if it is due."""


class Palimpsest(Asked, Consolidating, Protocol):
    """The product as the boards use it."""

    async def ask(self, text: str) -> str | None:
        """The answer, None for silence."""

    async def tell(self, text: str, right: str, said: str | None) -> None:
        """One correction, acknowledged."""

    async def forget(self, names: Sequence[str]) -> None:
        """Forget corrections, by those names; in force when this returns."""

    async def rebuild(self) -> None:
        """Wait until they have left the weights as well."""
