"""The data sets: real utterances with their intents, read from a directory that the user names.

`PALIMPSEST_DATA`, else `../shared/data` beside the repository. Only training rows are read; out-of-scope rows of CLINC150 are not. The
files are public; `how_to_get` says where they are and how they must lie.
"""

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

VARIABLE = "PALIMPSEST_DATA"
DEFAULT = Path(__file__).resolve().parent.parent.parent / "shared" / "data"
GITHUB = "https://raw.githubusercontent.com"

Row = tuple[str, str]  # text, intent


class DataAbsent(Exception):
    """A data set is not there or not readable; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a data set lies below the directory, where it comes from, how its bytes become rows."""

    file: str
    public: tuple[str, ...]  # addresses of the original files
    layout: str
    rows: Callable[[bytes], list[Row]]


@dataclass(frozen=True, slots=True)
class DataSet:
    """The rows of a data set in file order; `sha256` is that of the uncompressed file."""

    name: str
    rows: tuple[Row, ...]
    sha256: str


def _banking77(raw: bytes) -> list[Row]:
    return [(row["text"], row["category"]) for row in csv.DictReader(io.StringIO(raw.decode(), newline=""))]


def _clinc150(raw: bytes) -> list[Row]:
    return [(text, intent) for text, intent in json.loads(raw)["train"]]


def _hwu64(raw: bytes) -> list[Row]:
    rows = [json.loads(line) for line in raw.decode().splitlines() if line.strip()]
    return [(row["text"], row["label"]) for row in rows]


SOURCES: Mapping[str, Source] = {
    "banking77": Source(
        "intents/banking77_train.csv.gz",
        (f"{GITHUB}/PolyAI-LDN/task-specific-datasets/57ec275d8078af65b7731c2a98be812d844a6d6b/banking_data/train.csv",),
        "the file as it is, gzipped",
        _banking77,
    ),
    "clinc150": Source(
        "intents/clinc150_full.json.gz",
        (f"{GITHUB}/clinc/oos-eval/828f8093932c8fe6ca7936c3d2e52903b1c523de/data/data_full.json",),
        "the file as it is, gzipped",
        _clinc150,
    ),
    "hwu64": Source(
        "intents/hwu64_train.jsonl.gz",
        tuple(
            f"{GITHUB}/jianguoz/Few-Shot-Intent-Detection/fa9553312b1dba54b1be0aae2d30b13171f898e5/Datasets/HWU64/train/{part}"
            for part in ("seq.in", "label")
        ),
        'one line {"text": line n of seq.in, "label": line n of label} for each n, gzipped',
        _hwu64,
    ),
}


def directory(environ: Mapping[str, str]) -> Path:
    """Where the data sets are looked for; it need not exist."""
    return Path(environ.get(VARIABLE) or DEFAULT)


def load(name: str, below: Path) -> DataSet:
    """A data set.

    Raises:
        DataAbsent: its file is not there, or is not what it should be.
    """
    source = SOURCES[name]
    try:
        raw = gzip.decompress((below / source.file).read_bytes())
        rows = tuple(source.rows(raw))
    except FileNotFoundError:
        raise DataAbsent(how_to_get([name], below)) from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataAbsent(f"{below / source.file} cannot be read ({error}).\n{how_to_get([name], below)}") from None
    if not rows or any(not text.strip() or not intent for text, intent in rows):
        raise DataAbsent(f"{below / source.file} has no rows, or a row without text or intent.\n{how_to_get([name], below)}")
    return DataSet(name, rows, hashlib.sha256(raw).hexdigest())


def load_all(names: Sequence[str], below: Path) -> list[DataSet]:
    """Several data sets.

    Raises:
        DataAbsent: some are not there; the message tells of all of them.
    """
    missing = [name for name in names if not (below / SOURCES[name].file).is_file()]
    if missing:
        raise DataAbsent(how_to_get(missing, below))
    return [load(name, below) for name in names]


def how_to_get(names: Sequence[str], below: Path) -> str:
    """Which files are wanted, where the public originals are, and how to lay them out."""
    lines = [f"The benchmark needs public data sets below {below} ({VARIABLE} names another directory). Missing:"]
    for name in names:
        source = SOURCES[name]
        lines.append(f"  {source.file}: {source.layout}")
        lines += [f"      {address}" for address in source.public]
    lines.append("For example:")
    lines.append(f"  mkdir -p {below}/intents && curl -L ADDRESS | gzip > {below}/FILE")
    return "\n".join(lines)
