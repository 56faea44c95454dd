"""The public data of the boards: intents with all their splits, edits of facts, the history of a cheat-sheet, sentences of novels.

They lie where `bench.data` looks for its files, `DataAbsent` tells what is missing. Texts and answers are those of the files.
"""

import csv
import gzip
import hashlib
import io
import json
import lzma
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np

from bench.data import DataAbsent, Row

T = TypeVar("T")
NQ = "nq question: "  # a mark of the file before each of zsRE's unrelated questions
PUBLIC = {
    "intents": "github.com: PolyAI-LDN/task-specific-datasets, clinc/oos-eval, jianguoz/Few-Shot-Intent-Detection (HWU64)",
    "edits": "github.com: Jometeorie/KnowledgeSpread, data/counterfact and data/zsre; a JSON line for each case, gzipped",
    "corrections": "the history of github.com/tldr-pages/tldr; a JSON line for each entry with its dated versions, gzipped",
}
ASIDE = 1_000  # rows of BANKING77's training file that hyperparameters are chosen on; it has no validation file


@dataclass(frozen=True, slots=True)
class Loaded(Generic[T]):
    """What a file, or several, hold; the digest is that of their uncompressed bytes."""

    name: str
    holds: T
    rows: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Intents:
    """A set of utterances: `valid` is what may be chosen on, and is part of `train` where `valid_is_train`."""

    train: tuple[Row, ...]
    valid: tuple[Row, ...]
    test: tuple[Row, ...]
    tasks: tuple[tuple[str, ...], ...]  # the classes of each task in the published order
    outside: tuple[str, ...] = ()  # utterances of no class, for a test
    valid_is_train: bool = False

    @property
    def classes(self) -> tuple[str, ...]:
        """All of them, in the order of the tasks."""
        return tuple(intent for task in self.tasks for intent in task)


@dataclass(frozen=True, slots=True)
class Fact:
    """An edit: asked with `prompt` or `rephrase` the answer is `target`; `near` must stay as it was. zsRE has no `near`: it is empty."""

    prompt: str
    rephrase: str
    target: str
    near: str
    near_answer: str  # what is true of `near`


@dataclass(frozen=True, slots=True)
class Version:
    """An entry of the cheat-sheet from a time on; `corrected`: it is the first, or its command was really corrected."""

    time: int
    wording: str
    command: str
    corrected: bool


Item = tuple[Version, ...]  # the versions of an entry, oldest first


def intents(name: str, below: Path) -> Loaded[Intents]:
    """BANKING77, CLINC150 or HWU64 with its splits.

    Raises:
        DataAbsent: a file is not there, or is not what it should be.
    """
    return _INTENTS[name](below)


def facts(name: str, below: Path) -> Loaded[tuple[Fact, ...]]:
    """The edits of a file of `FACTS` that have an answer (two of zsRE's have none). Raises DataAbsent."""
    file, read = FACTS[name]
    return _read(name, below, (file,), lambda raw: tuple(edit for edit in map(read, _lines(raw)) if edit.prompt and edit.target))


def far_questions(below: Path) -> Loaded[tuple[Row, ...]]:
    """Questions that have to do with no edit, and their answers: the Natural Questions that come with zsRE. Raises DataAbsent."""
    file = FACTS["zsre"][0]
    return _read("nq", below, (file,), lambda raw: tuple({row["loc"].removeprefix(NQ): row["loc_ans"] for row in _lines(raw)}.items()))


def cheat_sheet(below: Path) -> Loaded[tuple[Item, ...]]:
    """Every entry of the cheat-sheet with its versions. A wording is asked with the name of its tool. Raises DataAbsent."""
    return _read("tldr_history", below, (TLDR,), lambda raw: tuple(_item(row) for row in _lines(raw)))


def sentences(below: Path) -> Loaded[tuple[Row, ...]]:
    """Sentences of novels, each with the name of its book. Raises DataAbsent."""
    try:
        raw = {name: lzma.decompress((below / BOOKS / f"{name}.txt.xz").read_bytes()) for name in NOVELS}
    except (OSError, EOFError, lzma.LZMAError):
        raise DataAbsent(f"The board needs {', '.join(f'{name}.txt.xz' for name in NOVELS)} in {below / BOOKS}.") from None
    found = {sentence: name for name, text in raw.items() for sentence in _sentences(text.decode())}
    return Loaded("novels", tuple(found.items()), len(found), hashlib.sha256(b"".join(raw.values())).hexdigest())


def _sentences(text: str) -> Iterator[str]:
    for found in re.split(r"(?<=[.!?])\s+", text):
        sentence = " ".join(found.split())
        if SHORT <= len(sentence) <= LONG:
            yield sentence


TLDR = "corrections/tldr_history.jsonl.gz"
BOOKS = Path("lm", "books")
NOVELS = (
    "jane-austen_pride-and-prejudice",
    "charlotte-bronte_jane-eyre",
    "charles-dickens_great-expectations",
    "herman-melville_moby-dick",
    "george-eliot_middlemarch",
)
SHORT, LONG = 40, 160  # characters of a sentence that is taken: about as long as a question


def _counterfact(row: dict[str, Any]) -> Fact:
    return Fact(row["prompt"], row["rephrase_prompt"], row["target_new"], row["locality_prompt"], row["locality_ground_truth"])


def _zsre(row: dict[str, Any]) -> Fact:
    return Fact(row["src"], row["rephrase"], row["alt"], "", "")


FACTS: dict[str, tuple[str, Callable[[dict[str, Any]], Fact]]] = {
    "counterfact": ("edits/counterfact_edit.jsonl.gz", _counterfact),
    "counterfact_val": ("edits/counterfact_val.jsonl.gz", _counterfact),
    "counterfact_train": ("edits/counterfact_train.jsonl.gz", _counterfact),
    "zsre": ("edits/zsre_mend_train_1k.jsonl.gz", _zsre),
}


def _item(row: dict[str, Any]) -> Item:
    return tuple(
        Version(
            version["time"],
            f"{row['tool'] or row['family']}: {version['description']}",
            version["command"],
            not at or "command" in version["change"],
        )
        for at, version in enumerate(row["versions"])
    )


def _banking77(below: Path) -> Loaded[Intents]:
    def read(train: bytes, test: bytes) -> Intents:
        learned, asked = _csv(train), _csv(test)
        aside = np.random.default_rng(0).permutation(len(learned))[: min(ASIDE, len(learned) // 10)]
        classes = sorted({intent for _, intent in learned})
        return Intents(learned, tuple(learned[at] for at in aside), asked, _in_tasks(classes, 7), valid_is_train=True)

    return _read("banking77", below, ("intents/banking77_train.csv.gz", "intents/banking77_test.csv.gz"), read)


def _clinc150(below: Path) -> Loaded[Intents]:
    def read(raw: bytes, domains: bytes) -> Intents:
        splits = {name: tuple((text, intent) for text, intent in rows) for name, rows in json.loads(raw).items()}
        tasks = tuple(tuple(task) for task in json.loads(domains).values())
        outside = tuple(text for text, _ in splits["oos_test"])
        return Intents(splits["train"], splits["val"], splits["test"], tasks, outside)

    return _read("clinc150", below, ("intents/clinc150_full.json.gz", "intents/clinc150_domains.json.gz"), read)


def _hwu64(below: Path) -> Loaded[Intents]:
    def read(*raw: bytes) -> Intents:
        train, valid, test = (tuple((row["text"], row["label"]) for row in _lines(one)) for one in raw)
        return Intents(train, valid, test, _in_tasks(sorted({intent for _, intent in train}), 8))

    return _read("hwu64", below, tuple(f"intents/hwu64_{split}.jsonl.gz" for split in ("train", "valid", "test")), read)


_INTENTS = {"banking77": _banking77, "clinc150": _clinc150, "hwu64": _hwu64}
INTENTS = tuple(_INTENTS)


def _in_tasks(classes: list[str], tasks: int) -> tuple[tuple[str, ...], ...]:
    """Cut a list of classes into tasks of one size, the last ones smaller by one where it does not divide."""
    return tuple(tuple(part.tolist()) for part in np.array_split(np.array(classes, dtype=object), tasks) if len(part))


def _csv(raw: bytes) -> tuple[Row, ...]:
    return tuple((row["text"], row["category"]) for row in csv.DictReader(io.StringIO(raw.decode(), newline="")))


def _lines(raw: bytes) -> list[dict[str, Any]]:
    return [json.loads(line) for line in raw.split(b"\n") if line.strip()]


def _read(name: str, below: Path, files: tuple[str, ...], read: Callable[..., T]) -> Loaded[T]:
    try:
        raw = [gzip.decompress((below / file).read_bytes()) for file in files]
        holds = read(*raw)
    except FileNotFoundError:
        raise DataAbsent(f"The board needs {' and '.join(files)} below {below}.\nPublic: {PUBLIC[Path(files[0]).parts[0]]}") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        raise DataAbsent(f"{' or '.join(files)} below {below} cannot be read ({type(error).__name__}: {error}).") from None
    rows = len(holds.train) if isinstance(holds, Intents) else len(holds)  # type: ignore[arg-type]  # the others are tuples
    return Loaded(name, holds, rows, hashlib.sha256(b"".join(raw)).hexdigest())
