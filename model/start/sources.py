"""What a start is learned from: five public domains, each a list of groups of texts that mean the same.

D1  Only training rows are learned from. A row that a test or validation file holds too, in whatever order of its words, is left out.
D2  What the boards of facts and of supersession ask is not learned from: no fact about a subject that an evaluation file edits, no zsRE
    (all its rows are asked), no cheat-sheet entry whose command was ever corrected (those make the board).
D3  A domain that is left out leaves its equals out, too: no text of another domain that it holds, in whatever order of its words. What is
    only alike stays: two sets may know the same kind of intent under other names.

General text (`passages`) is no domain: nothing in it has a label, and it is learned from whatever is left out.
"""

import csv
import gzip
import hashlib
import io
import json
import lzma
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.start.passages import Family, passages

Group = tuple[str, ...]  # texts that mean the same: the utterances of an intent, or the wordings of one fact
DOMAINS = ("hwu64", "banking77", "clinc150", "facts", "rewordings")
INTENTS = DOMAINS[:3]  # their groups are classes of many texts, those of the others two to four wordings

_CLINC150 = "intents/clinc150_full.json.gz"
_BANKING77 = ("intents/banking77_train.csv.gz", "intents/banking77_test.csv.gz")
_HWU64 = ("intents/hwu64_train.jsonl.gz", "intents/hwu64_valid.jsonl.gz", "intents/hwu64_test.jsonl.gz")
_EDITS = ("edits/counterfact_train.jsonl.gz", "edits/counterfact_val.jsonl.gz", "edits/counterfact_edit.jsonl.gz")
_HOPS = "edits/mquake_cf_hard.jsonl.gz"
_SHEET = "corrections/tldr_history.jsonl.gz"
TEXTS = (  # general text: novels, proposals, a manual, an encyclopedia
    "lm/books/charles-dickens_great-expectations.txt.xz",
    "lm/books/charlotte-bronte_jane-eyre.txt.xz",
    "lm/books/george-eliot_middlemarch.txt.xz",
    "lm/books/herman-melville_moby-dick.txt.xz",
    "lm/books/jane-austen_pride-and-prejudice.txt.xz",
    "lm/books/leo-tolstoy_war-and-peace_louise-maude_aylmer-maude.txt.xz",
    "lm/python_peps.txt.xz",
    "lm/rust_book.md.xz",
    "lm/wikitext2_valid.txt.xz",
)
FILES = (_CLINC150, *_BANKING77, *_HWU64, *_EDITS, _HOPS, _SHEET, *TEXTS)


class SourceAbsent(Exception):
    """A file of the shared sets is missing or unreadable. The message names it, and the directory that was looked at."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A domain's groups in file order; `intents`: its groups are classes."""

    name: str
    groups: tuple[Group, ...]

    @property
    def intents(self) -> bool:
        """Whether its groups are classes of many texts."""
        return self.name in INTENTS

    @property
    def texts(self) -> int:
        """How many texts there are in all."""
        return sum(map(len, self.groups))


@dataclass(frozen=True, slots=True)
class Asked:
    """What a domain is judged by: classes taught and asked for an intent domain, pairs of wordings and what is near them for the others."""

    learned: tuple[tuple[str, str], ...] = ()  # text, class
    asked: tuple[tuple[str, str], ...] = ()
    pairs: tuple[tuple[str, str], ...] = ()  # as taught, as asked
    near: tuple[str, ...] = ()  # one for each pair: alike in words, another fact; empty where the source has none


class Sources:
    """The shared sets below a directory."""

    def __init__(self, below: Path) -> None:
        self._below = below

    def domains(self, left_out: Iterable[str] = ()) -> list[Domain]:
        """What is learned from where some domains are left out, in the order of `DOMAINS`.

        Raises:
            SourceAbsent: a file is missing or unreadable.
            ValueError: a name is no domain.
        """
        left = set(left_out)
        if unknown := sorted(left - set(DOMAINS)):
            raise ValueError(f"no domain is called {', '.join(unknown)}; there are {', '.join(DOMAINS)}")
        closed = self._asked_anywhere()
        for name in sorted(left):
            closed |= {bag(text) for group in self._groups(name) for text in group}
        found = []
        for name in DOMAINS:
            if name in left:
                continue
            groups = (tuple(dict.fromkeys(text for text in group if bag(text) not in closed)) for group in self._groups(name))
            found.append(Domain(name, tuple(group for group in groups if len(group) > 1)))
        return [domain for domain in found if domain.groups]

    def asked(self, name: str, *, validation: bool = False) -> Asked:
        """What a domain is judged by: its test rows, or its validation rows for choosing between recipes.

        Raises:
            SourceAbsent: a file is missing or unreadable.
        """
        if name == "clinc150":
            splits = self._clinc150()
            return Asked(_rows(splits["train"]), _rows(splits["val" if validation else "test"]))
        if name == "banking77":
            train, test = (self._csv(file) for file in _BANKING77)
            return Asked(train[::2], train[1::2]) if validation else Asked(train, test)
        if name == "hwu64":
            train, valid, test = (self._utterances(file) for file in _HWU64)
            return Asked(train, valid if validation else test)
        if name == "facts":
            rows = self._lines(_EDITS[1 if validation else 2])
            return Asked(
                pairs=tuple((row["prompt"], row["rephrase_prompt"]) for row in rows), near=tuple(row["locality_prompt"] for row in rows)
            )
        items = [wordings for wordings, corrected in self._sheet() if corrected is not validation and len(wordings) > 1]
        return Asked(pairs=tuple((wordings[0], wordings[-1]) for wordings in items))

    def passages(self) -> list[Family]:
        """Sentences of general text that differ in a word: no domain, learned from whatever is left out. Raises SourceAbsent."""
        return passages({file: self._read(file).decode() for file in TEXTS})

    def digests(self) -> dict[str, str]:
        """SHA-256 of the uncompressed content of each file. Raises SourceAbsent."""
        return {file: hashlib.sha256(self._read(file)).hexdigest() for file in FILES}

    def _groups(self, name: str) -> Iterator[Group]:
        match name:
            case "clinc150":
                yield from _by_class(_rows(self._clinc150()["train"]))
            case "banking77":
                yield from _by_class(self._csv(_BANKING77[0]))
            case "hwu64":
                yield from _by_class(self._utterances(_HWU64[0]))
            case "facts":
                yield from self._facts()
            case _:
                yield from (wordings for wordings, corrected in self._sheet() if not corrected)

    def _facts(self) -> Iterator[Group]:
        closed = {row["subject"].casefold() for file in _EDITS[1:] for row in self._lines(file)}
        for row in self._lines(_EDITS[0]):
            if row["subject"].casefold() not in closed:
                yield row["prompt"], row["rephrase_prompt"]
        wordings: dict[str, Group] = {}
        for row in self._lines(_HOPS):
            wordings[row["questions"][0]] = tuple(row["questions"])
            for hop in (*row["single_hops"], *row["new_single_hops"]):
                wordings[hop["question"]] = (hop["question"], hop["cloze"])
        for question, group in wordings.items():  # these name no subject by itself
            words = question.casefold()
            if not any(subject in words for subject in closed):
                yield group

    def _sheet(self) -> list[tuple[Group, bool]]:
        """Each entry's distinct wordings, and whether its command was ever corrected."""
        found = []
        for row in self._lines(_SHEET):
            tool = row["tool"] or row["family"]
            wordings = tuple(dict.fromkeys(f"{tool}: {version['description']}" for version in row["versions"]))
            found.append((wordings, any("command" in version["change"] for version in row["versions"][1:])))
        return found

    def _asked_anywhere(self) -> set[str]:
        splits = self._clinc150()
        texts = [text for name in ("val", "test", "oos_val", "oos_test") for text, _ in splits[name]]
        texts += [text for text, _ in self._csv(_BANKING77[1])]
        texts += [text for file in _HWU64[1:] for text, _ in self._utterances(file)]
        texts += [
            row[part] for file in _EDITS[1:] for row in self._lines(file) for part in ("prompt", "rephrase_prompt", "locality_prompt")
        ]
        texts += [text for wordings, corrected in self._sheet() if corrected for text in wordings]
        return {bag(text) for text in texts}

    def _clinc150(self) -> Mapping[str, Sequence[Sequence[str]]]:
        splits: Mapping[str, Sequence[Sequence[str]]] = json.loads(self._read(_CLINC150))
        return splits

    def _csv(self, file: str) -> tuple[tuple[str, str], ...]:
        return tuple((row["text"], row["category"]) for row in csv.DictReader(io.StringIO(self._read(file).decode(), newline="")))

    def _utterances(self, file: str) -> tuple[tuple[str, str], ...]:
        return tuple((row["text"], row["label"]) for row in self._lines(file))

    def _lines(self, file: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._read(file).split(b"\n") if line.strip()]

    def _read(self, file: str) -> bytes:
        try:
            unpack = lzma.decompress if file.endswith(".xz") else gzip.decompress
            return unpack((self._below / file).read_bytes())
        except (OSError, EOFError, lzma.LZMAError) as error:
            raise SourceAbsent(
                f"a start is learned from the shared sets, and {self._below / file} cannot be read ({error}); PALIMPSEST_DATA names the "
                "directory, docs/design.md where each file comes from"
            ) from error


def bag(text: str) -> str:
    """The words of a text in the order of the alphabet: equal for texts that differ in order, case and punctuation."""
    return " ".join(sorted(re.findall(r"\w+", text.casefold())))


def _rows(rows: Iterable[Sequence[str]]) -> tuple[tuple[str, str], ...]:
    return tuple((text, label) for text, label in rows)


def _by_class(rows: Iterable[tuple[str, str]]) -> Iterator[Group]:
    classes: dict[str, list[str]] = {}
    for text, label in rows:
        classes.setdefault(label, []).append(text)
    yield from (tuple(texts) for texts in classes.values())
