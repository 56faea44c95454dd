"""What a start was made of, as JSON beside its file: enough to make the same file again, and to see that it is that file."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from model.start.sources import Domain
from model.start.training import Recipe, Step
from model.start.weights import Start

LIBRARIES = ("numpy", "safetensors", "tokenizers", "torch", "transformers")
LAST = 50  # steps whose mean is told


@dataclass(frozen=True, slots=True)
class Record:
    """How a start came about."""

    recipe: Recipe
    left_out: Sequence[str]
    domains: Sequence[Domain]
    files: Mapping[str, str]  # name to SHA-256 of the content
    steps: Sequence[Step]

    def as_json(self, start: Start) -> str:
        """The text of the file beside the start. What it says of the `end` is of the whole change, whatever the recipe's strength."""
        last = self.steps[-LAST:]
        content: dict[str, Any] = {
            "start_sha256": start.sha256,
            "base_sha256": start.base,
            "recipe": asdict(self.recipe),
            "left_out": list(self.left_out),
            "learned_from": {domain.name: {"groups": len(domain.groups), "texts": domain.texts} for domain in self.domains},
            "files": dict(self.files),
            "end": {name: round(sum(getattr(step, name) for step in last) / len(last), 4) for name in ("loss", "drift")},
            "versions": {"python": platform.python_version(), **{name: version(name) for name in LIBRARIES}},
            "machine": platform.machine(),
        }
        return json.dumps(content, indent=2) + "\n"


def record_of(path: Path, start: Start) -> dict[str, Any]:
    """What was written beside the start that `path` holds, once it is of this very file.

    Raises:
        ValueError: it is not there or is no record, or one of another start.
    """
    beside = path.with_suffix(".json")
    try:
        record = json.loads(beside.read_text(encoding="utf-8"))
        of, base, rank, _ = record["start_sha256"], record["base_sha256"], record["recipe"]["rank"], record["left_out"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{beside} cannot be read as a record ({error!r}); keep the one that `train` writes beside {path}") from error
    if (of, base, rank) != (start.sha256, start.base, start.rank):
        raise ValueError(
            f"{beside} is the record of another start: of {of} with rank {rank} for the encoder {base}, and {path} is {start.sha256} "
            f"with rank {start.rank} for {start.base}; keep the one that `train` wrote beside it"
        )
    return dict(record)


def write_beside(path: Path, record: Record, start: Start) -> Path:
    """Write the record of the start in `path` beside it; where it is."""
    beside = path.with_suffix(".json")
    beside.write_text(record.as_json(start), encoding="utf-8")
    return beside


def told_beside(path: Path, record: Mapping[str, Any], start: Start, strength: float) -> Path:
    """Write, beside the start in `path`, the record of the one that it is another share of; where it is."""
    beside = path.with_suffix(".json")
    content = {**record, "start_sha256": start.sha256, "recipe": {**record["recipe"], "strength": strength}}
    beside.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return beside
