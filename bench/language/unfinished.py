"""A trial that was interrupted goes on where it was: its checkpoints, and what its curve had so far, in a folder of its own.

The folder's name says which trial it is and of which source, so that no run is finished by another code than it was begun with. A trial
whose line is in the ledger has no folder any more.
"""

import json
import shutil
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

from model.train.checkpointing import Checkpoints

EVERY = 65_536  # tokens between two checkpoints
TOLD = "told.json"


class Unfinished:
    """The folder of one trial below `folder`; without one nothing is kept. `cpu_s` are seconds of CPU so far."""

    def __init__(self, folder: Path | None, named: Mapping[str, Any]) -> None:
        self._place = None if folder is None else folder / _title(named)
        told = self._told()
        self._curves: dict[str, list[list[float]]] = told.get("curves", {})
        self._before: float = told.get("cpu_s", 0.0)
        self._began = _cpu()

    @property
    def cpu_s(self) -> float:
        """Of all that led here, in this process and before it."""
        return self._before + _cpu() - self._began

    def checkpoints(self, phase: str) -> Checkpoints | None:
        """Where the checkpoints of a phase of the trial lie, the newest alone."""
        return None if self._place is None else Checkpoints(self._place / phase, keep=1)

    def curve(self, phase: str) -> list[list[float]]:
        """Points (tokens, bits) of a phase up to its newest checkpoint; add to it."""
        checkpoints = self.checkpoints(phase)
        reached = 0 if checkpoints is None else checkpoints.progress().tokens
        points = [point for point in self._curves.get(phase, []) if point[0] <= reached]
        self._curves[phase] = points
        return points

    def note(self) -> None:
        """Write down curves and seconds, after a checkpoint."""
        if self._place is not None:
            self._place.mkdir(parents=True, exist_ok=True)
            draft = self._place / f".{TOLD}"
            draft.write_text(json.dumps({"curves": self._curves, "cpu_s": self.cpu_s}))
            draft.replace(self._place / TOLD)

    def end(self) -> None:
        """Nothing is kept of it."""
        if self._place is not None:
            shutil.rmtree(self._place, ignore_errors=True)

    def _told(self) -> dict[str, Any]:
        if self._place is None or not (self._place / TOLD).exists():
            return {}
        told: dict[str, Any] = json.loads((self._place / TOLD).read_text())
        return told


def _title(named: Mapping[str, Any]) -> str:
    return sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def _cpu() -> float:
    used = getrusage(RUSAGE_SELF)
    return used.ru_utime + used.ru_stime
