"""What was measured so far: one JSON line for each finished trial or part of a board, so that an interrupted bench goes on where it was.

A line that was torn off by a kill is dropped when the file is opened, and what it was of is measured again.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Line = dict[str, Any]


class Ledger:
    """The lines of a file, and a way to add one."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = path.read_text() if path.exists() else ""
        kept = whole[: whole.rfind("\n") + 1]
        if kept != whole:
            path.write_text(kept)
        self.lines: list[Line] = [json.loads(line) for line in kept.splitlines()]

    def find(self, wanted: Mapping[str, Any]) -> Line | None:
        """The line with these fields, or none."""
        return next((line for line in self.lines if all(line.get(name) == value for name, value in wanted.items())), None)

    def add(self, line: Line) -> None:
        """Write a line; it is on disk when this returns."""
        with self._path.open("a") as file:
            file.write(json.dumps(line) + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.lines.append(line)
