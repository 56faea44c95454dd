"""Text to train on: plain files, .xz and .gz, alone or in folders of domains, split by position.

C1  Nothing is read before it is asked for, and text is exactly what the files hold (no newline is translated).
C2  The last share of every domain is validation text; no character of it is in the training text.

A domain is a kind of text that is scored on its own. A file is a domain by its name; of a folder, every sub-folder is a domain (all files
below it, in the order of their paths) and so is every file beside them. `NAME=PATH` puts files into a domain of that name.
"""

import gzip
import lzma
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEXT = {".txt", ".md", ".rst", ".text"}
PACKED = {".xz", ".gz"}


class CorpusError(ValueError):
    """Text that cannot be used; the message names the file and what is wrong."""


@dataclass(frozen=True, slots=True)
class Domain:
    """Files whose texts follow one another."""

    name: str
    files: tuple[Path, ...]

    def text(self) -> str:
        """All of it.

        Raises:
            CorpusError: a file is missing, damaged, not UTF-8, or the domain is empty.
        """
        text = "".join(read(file) for file in self.files)
        if not text:
            raise CorpusError(f"the domain {self.name} has no text ({', '.join(map(str, self.files))})")
        return text


def open_corpus(places: Sequence[str]) -> tuple[Domain, ...]:
    """The domains at `places` (files, folders, NAME=PATH), in the order of their names' first appearance.

    Raises:
        CorpusError: a place is missing or holds no text.
    """
    found: dict[str, list[Path]] = {}
    for place in places:
        for name, files in _at(place):
            found.setdefault(name, []).extend(files)
    return tuple(Domain(name, tuple(files)) for name, files in found.items())


def read(file: Path) -> str:
    """A file's text.

    Raises:
        CorpusError: missing, damaged, or not UTF-8.
    """
    try:
        data = file.read_bytes()
        if file.suffix in PACKED:
            data = lzma.decompress(data) if file.suffix == ".xz" else gzip.decompress(data)
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CorpusError(f"{file} is not UTF-8 text: byte {error.start} is {data[error.start]:#04x}") from None
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise CorpusError(f"{file} cannot be read: {error}") from None


def split(text: str, validation: float) -> tuple[str, str]:
    """Training text and validation text: the last `validation` share of the characters."""
    border = int(len(text) * (1.0 - validation))
    return text[:border], text[border:]


def _at(place: str) -> list[tuple[str, list[Path]]]:
    path = Path(place)
    if "=" in place and not path.exists():
        name, _, rest = place.partition("=")
        return [(name, [file for _, files in _at(rest) for file in files])]
    if path.is_file():
        return [(_name(path), [path])]
    if not path.is_dir():
        raise CorpusError(f"there is no file or folder {place}")
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    domains = [(_name(entry), _below(entry)) for entry in entries]
    domains = [(name, files) for name, files in domains if files]
    if not domains:
        raise CorpusError(f"the folder {place} holds no text ({', '.join(sorted(TEXT))}, also packed as .xz or .gz)")
    return domains


def _below(entry: Path) -> list[Path]:
    files = [entry] if entry.is_file() else sorted(file for file in entry.rglob("*") if file.is_file())
    return [file for file in files if _is_text(file)]


def _is_text(file: Path) -> bool:
    inner = Path(file.stem).suffix if file.suffix in PACKED else file.suffix
    return inner in TEXT and not file.name.startswith(".")


def _name(path: Path) -> str:
    name = path.name
    while Path(name).suffix in TEXT | PACKED:
        name = Path(name).stem
    return name
