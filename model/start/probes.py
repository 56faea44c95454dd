"""Texts of kinds that no start learns from: whoever turns one on has data of a kind of their own, and may not find less there.

`questions` are those of zsRE, asked in other words, beside the same question about somebody else; `commands` are lines of a shell in an
older spelling and in the newest; `numbers` are tickets, ports, flights and versions, beside the same with one digit exchanged: whoever
learns from intents may learn to overlook all of those.
"""

import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from model.start.sources import Asked, SourceAbsent

QUESTIONS, SHEET = "edits/zsre_mend_train_1k.jsonl.gz", "corrections/tldr_history.jsonl.gz"
COMMANDS = 1_200  # pairs that are drawn
EXAMPLE = '{"taught": "where is my order", "asked": "has the parcel been sent?"}'
OF_EACH = 150  # numbers in one pair of wordings
SEED = 0
WORDINGS = (  # what is said of a number, and the same otherwise
    ("Order {} has not arrived yet.", "Where is order {}?"),
    ("The server on port {} does not answer.", "port {} is not reachable"),
    ("Ticket {} was closed by mistake.", "please reopen ticket {}"),
    ("Invoice {} has been paid twice.", "I paid invoice {} two times"),
    ("Flight {} leaves from another gate.", "which gate is flight {}?"),
    ("Set the timeout to {} milliseconds.", "timeout of {} ms, please"),
    ("Version {} breaks the import.", "import fails since version {}"),
    ("Customer {} wants the money back.", "refund for customer {}"),
)


def probe(name: str, below: Path) -> Asked:
    """The pairs of a probe, from the shared sets below a directory.

    Raises:
        SourceAbsent: a file is missing or unreadable.
    """
    return PROBES[name](below)


def own_pairs(path: Path) -> Asked:
    """Pairs of one's own: a JSON object a line, `taught` and `asked`, which mean the same.

    Raises:
        SourceAbsent: the file cannot be read, a line is no such object, or there is none.
    """
    try:
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        pairs = tuple((str(row["taught"]), str(row["asked"])) for row in rows)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SourceAbsent(f"{path} is not read: {error!r}; each line must be an object like {EXAMPLE}") from error
    if not pairs:
        raise SourceAbsent(f"{path} is empty; each line must be an object like {EXAMPLE}")
    return Asked(pairs=pairs)


def _questions(below: Path) -> Asked:
    rows = [row for row in _lines(below / QUESTIONS) if row["subject"] in row["rephrase"]]
    others = np.random.default_rng(SEED).permutation(len(rows))
    near = tuple(row["rephrase"].replace(row["subject"], rows[at]["subject"]) for row, at in zip(rows, others, strict=True))
    return Asked(pairs=tuple((row["src"], row["rephrase"]) for row in rows), near=near)


def _commands(below: Path) -> Asked:
    spelt: dict[tuple[str, str], None] = {}
    for row in _lines(below / SHEET):
        for before, after in zip(row["versions"], row["versions"][1:], strict=False):
            if "command-style" in after["change"] and before["command"] != after["command"]:
                spelt[before["command"], after["command"]] = None
    pairs = list(spelt)
    return Asked(pairs=tuple(pairs[at] for at in np.random.default_rng(SEED).permutation(len(pairs))[:COMMANDS]))


def _numbers(below: Path) -> Asked:  # nothing is read
    draw = np.random.default_rng(SEED)
    pairs: dict[tuple[str, str], None] = {}
    for said, otherwise in WORDINGS:
        for _ in range(OF_EACH):
            number = _number(said.split()[0], draw)
            pairs[said.format(number), otherwise.format(number)] = None
    return Asked(pairs=tuple(pairs), near=tuple(_one_digit_off(otherwise, draw) for _, otherwise in pairs))


def _number(kind: str, draw: np.random.Generator) -> str:
    match kind:
        case "Version":
            return ".".join(str(part) for part in draw.integers(0, 30, 3))
        case "Flight":
            return "".join(chr(ord("A") + letter) for letter in draw.integers(0, 26, 2)) + str(draw.integers(10, 10_000))
        case _:
            return str(draw.integers(10, 10 ** int(draw.integers(2, 7))))


def _one_digit_off(text: str, draw: np.random.Generator) -> str:
    digits = [place for place, letter in enumerate(text) if letter.isdigit()]
    place = digits[int(draw.integers(len(digits)))]
    return text[:place] + str((int(text[place]) + int(draw.integers(1, 10))) % 10) + text[place + 1 :]


def _lines(path: Path) -> list[dict[str, Any]]:
    try:
        return [json.loads(line) for line in gzip.decompress(path.read_bytes()).split(b"\n") if line.strip()]
    except (OSError, EOFError) as error:
        raise SourceAbsent(
            f"a probe is asked from the shared sets, and {path} cannot be read ({error}); PALIMPSEST_DATA names them"
        ) from error


PROBES: Mapping[str, Callable[[Path], Asked]] = {"questions": _questions, "commands": _commands, "numbers": _numbers}
