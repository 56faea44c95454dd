"""Every distinct text of the benchmark as a vector, computed once and shared by all that are compared.

The vector of a text is a function of the text alone, bit for bit (`model.encoder`, E1), so a memory that is given it from here learns
and answers exactly as if it had encoded the text itself. Only the time of the encoder is left out; `python -m bench latency` has it.

For the same reason a vector is worth keeping: `VectorFile` holds those of earlier runs on this machine, below `$XDG_CACHE_HOME/palimpsest`
(`~/.cache/palimpsest` where that is not set), one file for each encoder and runtime. It may be deleted at any time.
"""

import os
import platform
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoder import Encoded, Encoder, find_weights, tokenizer_in
from model.wording import Words

BATCH = 32
ASKED = 500  # texts in one question to the file: SQLite takes some thousands
BUSY_S = 60.0  # several processes add to one file

Keys = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Vectors:
    """Unit vectors and token counts of texts, under the encoder with this digest. `plain`: those of the same texts without a start."""

    places: dict[str, int]
    keys: Keys  # (texts, width)
    tokens: list[int]
    digest: str
    plain: "Vectors | None" = None

    def __getitem__(self, text: str) -> Keys:
        """(width,) the vector of a text."""
        return np.asarray(self.keys[self.places[text]])

    @property
    def rivals(self) -> "Vectors":
        """What rivals are given: vectors of the plain encoder, which people have today; these themselves if there are no others."""
        return self.plain or self

    def only(self, texts: Sequence[str]) -> "Vectors":
        """Those of `texts`, which are distinct."""
        at = [self.places[text] for text in texts]
        places, tokens = {text: place for place, text in enumerate(texts)}, [self.tokens[place] for place in at]
        return Vectors(places, self.keys[at], tokens, self.digest, self.plain and self.plain.only(texts))


def encoders_of(vectors: Mapping[str, Vectors]) -> str:
    """Which encoders the vectors of data sets are of, for a line below a table."""
    said = [f"encoder {next(iter(vectors.values())).rivals.digest[:12]}"]
    for name, some in vectors.items():
        if some.digest != some.rivals.digest:
            said.append(f"with a start {some.digest[:12]}{name and f' ({name})'}")
    return ", ".join(said)


class RememberedEncoder(Encoder):
    """An encoder that knows the texts it was made for, and no others."""

    def __init__(self, vectors: Vectors) -> None:
        self._vectors = vectors
        self.digest, self.width = vectors.digest, vectors.keys.shape[1]
        self.words = Words(tokenizer_in(find_weights(os.environ.get("PALIMPSEST_ENCODER") or None)))

    def encode(self, texts: Sequence[str]) -> Encoded:
        """The vectors and token counts of `texts`.

        Raises:
            KeyError: a text that was not encoded before.
        """
        at = [self._vectors.places[text] for text in texts]
        return Encoded(np.ascontiguousarray(self._vectors.keys[at]), [self._vectors.tokens[place] for place in at])


class VectorFile:
    """Vectors of earlier runs in a SQLite file. Several processes may read and add at once."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        with closing(self._open()) as file, file:
            file.execute("create table if not exists vectors (text text primary key, key blob not null, tokens integer not null)")

    @classmethod
    def of(cls, digest: str, environ: Mapping[str, str] = os.environ) -> "VectorFile":
        """The file for the encoder with this digest, under the runtime that is installed."""
        home = Path(environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        name = f"{digest[:16]}-onnxruntime-{version('onnxruntime')}-{platform.machine()}.sqlite"
        return cls(home / "palimpsest" / name)

    def find(self, texts: Sequence[str]) -> dict[str, tuple[Keys, int]]:
        """Vectors and token counts of those texts that are in the file."""
        found: dict[str, tuple[Keys, int]] = {}
        with closing(self._open()) as file:
            for some in _batches(texts, ASKED):
                asked = f"select text, key, tokens from vectors where text in ({','.join('?' * len(some))})"  # noqa: S608  # marks only
                found |= {text: (np.frombuffer(key, np.float32), tokens) for text, key, tokens in file.execute(asked, some)}
        return found

    def add(self, texts: Sequence[str], encoded: Encoded) -> None:
        """Keep what was just encoded."""
        rows = [(text, key.tobytes(), tokens) for text, key, tokens in zip(texts, encoded.vectors, encoded.tokens, strict=True)]
        with closing(self._open()) as file, file:
            file.executemany("insert or ignore into vectors values (?, ?, ?)", rows)

    def _open(self) -> sqlite3.Connection:
        file = sqlite3.connect(self._path, timeout=BUSY_S)
        file.execute("pragma journal_mode = wal")
        file.execute("pragma synchronous = off")  # a vector lost with the machine is encoded again
        return file


def encode_all(encoder: Encoder, texts: Sequence[str], progress: Callable[[int], object], kept: VectorFile | None = None) -> Vectors:
    """The vectors of all distinct `texts`, those that are `kept` from there. `progress` is told how many more are done."""
    distinct = list(dict.fromkeys(texts))
    places = {text: place for place, text in enumerate(distinct)}
    keys = np.empty((len(distinct), encoder.width), np.float32)
    tokens = [0] * len(distinct)
    known = {} if kept is None else kept.find(distinct)
    for text, (key, count) in known.items():
        keys[places[text]], tokens[places[text]] = key, count
    progress(len(known))
    for some in _batches([text for text in distinct if text not in known], BATCH):
        encoded = encoder.encode(some)
        keys[[places[text] for text in some]] = encoded.vectors
        for text, count in zip(some, encoded.tokens, strict=True):
            tokens[places[text]] = count
        if kept is not None:
            kept.add(some, encoded)
        progress(len(some))
    return Vectors(places, keys, tokens, encoder.digest)


def _batches(texts: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    return (texts[begin : begin + size] for begin in range(0, len(texts), size))
