"""Parts of a board that were measured before: a board of hours can be cut off at any point, and goes on where it stood when called again.

A part is what one memory does on one order. Its lines are kept with all that they depend on, and found again only where that is the same:
the board's options, the digests of data and encoders, and the code: the board's own module and those that it plays by (`MODULES`), and for
the product all that decides an answer (`PRODUCT`). They lie beside the vectors (`bench.vectors`), a JSON line for each part; the files may
be deleted at any time, `--fresh` measures everything again. Times are those of the run that measured the part.
"""

import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from bench.asking import Progress
from bench.language.ledger import Ledger
from bench.scoreboard.report import Line

ROOT = Path(__file__).resolve().parent.parent.parent
DECIDING = ("consolidate", "encoding", "gate", "judging", "learning", "reading", "rebuilding", "replay", "teaching")
PRODUCT = ("model/*.py", "service/store/debt.py", *(f"workers/{name}.py" for name in DECIDING))
MODULES = {  # beside a board's own, those that say what is played and what rivals do
    "corrections": ("bench/corrections.py", "bench/streams.py", "bench/rivals.py"),
    "incremental": ("bench/scoreboard/heads.py", "bench/scoreboard/gradient_heads.py"),
    "ablation": ("bench/scoreboard/incremental.py", "bench/streams.py"),
}

Work = Callable[[Progress], Awaitable[list[Line]]]


@cache
def code_of(*patterns: str) -> str:
    """A digest of the sources that the patterns name, below the repository."""
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    return sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]


@dataclass(slots=True)
class Parts:
    """The parts of one board. `given`: options that are the same for all of them; anything that JSON has.

    `digests`: of data sets and of the encoders of each, by the names of the sets. A part whose `data` names one or several depends on these
    alone.
    """

    board: str
    given: Mapping[str, Any]
    digests: Mapping[str, Any]
    ledger: Ledger | None = None  # none: nothing is kept
    fresh: bool = False
    seconds: float = 0.0  # that all parts took which were asked for, in whichever run
    found: int = 0  # of them, how many were measured before
    asked: int = 0

    @classmethod
    def of(
        cls, board: str, given: Mapping[str, Any], digests: Mapping[str, Any], *, fresh: bool, environ: Mapping[str, str] = os.environ
    ) -> "Parts":
        """Those of this machine."""
        home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        return cls(board, given, digests, Ledger(home / "palimpsest" / "boards" / f"{board}.jsonl"), fresh)

    @property
    def earlier(self) -> str:
        """How many of the parts were measured before, in words for a line below a table."""
        return f" ({self.found} of {self.asked} parts in earlier runs)" if self.found else ""

    async def part(self, named: Mapping[str, Any], work: Work, progress: Progress, *, product: bool) -> list[Line]:
        """The lines of a part, from before or by `work`. `named` tells it from others; `product`: whether Palimpsest answers in it."""
        if (lines := self.find(named, progress, product=product)) is not None:
            return lines
        begin, steps = time.perf_counter(), 0

        def counted(done: int) -> None:
            nonlocal steps
            steps += done
            progress(done)

        lines = await work(counted)
        self.keep(named, lines, steps, time.perf_counter() - begin, product=product)
        return lines

    def find(self, named: Mapping[str, Any], progress: Progress, *, product: bool) -> list[Line] | None:
        """The lines of a part that was measured before; `progress` is told of its steps."""
        self.asked += 1
        if self.ledger is None or self.fresh:
            return None
        key = self._key(named, product=product)
        kept = next((line for line in reversed(self.ledger.lines) if line["key"] == key), None)  # the newest, where it was measured again
        if kept is None:
            return None
        self.seconds += kept["seconds"]
        self.found += 1
        progress(kept["steps"])
        return list(kept["lines"])

    def keep(self, named: Mapping[str, Any], lines: list[Line], steps: int, seconds: float, *, product: bool) -> None:
        """Keep the lines of a part that was just measured."""
        self.seconds += seconds
        if self.ledger is not None:
            told = {"named": dict(named), "steps": steps, "seconds": round(seconds, 1), "lines": lines}
            self.ledger.add({"key": self._key(named, product=product), **told})

    def _key(self, named: Mapping[str, Any], *, product: bool) -> str:
        board = (f"bench/scoreboard/{self.board}.py", *MODULES.get(self.board, ()))
        code = code_of(*board, *(PRODUCT if product else ()))
        of = named.get("data", list(self.digests))
        digests = [self.digests[name] for name in ([of] if isinstance(of, str) else of)]
        told = repr((self.board, sorted(self.given.items()), sorted(named.items()), digests, code, sys.version_info[:2]))
        return sha256(told.encode()).hexdigest()[:24]
