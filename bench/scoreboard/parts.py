"""Parts of a board that were measured before: a board of hours can be cut off at any point, and goes on where it stood when called again.

A part is what one memory does on one order. Its lines are kept with all that they depend on, and found again only where that is the same:
the board's options, settings, the digests of data and encoders, the versions of the libraries, and the code as it was when the board
began, of the benches, and for Palimpsest of all that it is made of. To measure too often costs hours, a stale figure costs the page: so
a part that ended after a file of the code was changed is told, but not kept.

Parts lie beside the vectors (`bench.vectors`), a JSON line for each; the files may be deleted at any time, `--fresh` measures everything
again. Times are those of the run that measured the part.
"""

import json
import os
import platform
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

from msgspec import structs

from bench.asking import Progress
from bench.ledger import Ledger
from bench.scoreboard.report import Line
from service.settings import Settings

ROOT = Path(__file__).resolve().parent.parent.parent
BENCHES = ("bench/*.py", "bench/scoreboard/*.py")
PRODUCT = ("model/*.py", "workers/*.py", "service/*.py", "service/store/*.py")
LIBRARIES = ("numpy", "torch", "onnxruntime")

Work = Callable[[Progress], Awaitable[list[Line]]]


def code_of(*patterns: str) -> str:
    """A digest of the sources that the patterns name, below the repository."""
    files = sorted(path for pattern in patterns for path in ROOT.glob(pattern))
    found = sha256()
    for path in files:
        found.update(f"{path.relative_to(ROOT).as_posix()}:{path.stat().st_size}:".encode() + path.read_bytes())
    return found.hexdigest()[:16]


RIVALS_CODE, CODE = code_of(*BENCHES), code_of(*BENCHES, *PRODUCT)  # when the board is imported, which is before anything is measured


def deciding(settings: Settings) -> dict[str, float]:
    """The settings on which a figure may depend: all that are numbers. Paths, addresses and secrets are none, encoders have digests."""
    return {name: value for name, value in structs.asdict(settings).items() if isinstance(value, int | float)}


@dataclass(slots=True)
class Parts:
    """The parts of one board. `given`: options and settings that are the same for all of them; anything that JSON has.

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

    def told(self) -> Line:
        """What a report says of its parts: the code that was measured, and how many parts there are and are of earlier runs."""
        return {"code": CODE, "parts": {"all": self.asked, "earlier": self.found}}

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
        """Keep the lines of a part that was just measured, unless the code is another by now."""
        self.seconds += seconds
        if self.ledger is not None and code_of(*BENCHES, *PRODUCT) == CODE:
            told = {"named": dict(named), "steps": steps, "seconds": round(seconds, 1), "lines": lines}
            self.ledger.add({"key": self._key(named, product=product), **told})

    def _key(self, named: Mapping[str, Any], *, product: bool) -> str:
        of = named.get("data", list(self.digests))
        depends = {
            "board": self.board,
            "given": self.given,
            "named": named,
            "digests": [self.digests[name] for name in ([of] if isinstance(of, str) else of)],
            "code": CODE if product else RIVALS_CODE,
            "versions": [platform.python_version(), platform.machine(), *(version(name) for name in LIBRARIES)],
        }
        return sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:24]
