"""What a text says in so many words: its word pieces, how rare each is, and which of them name something.

A sentence vector knows what a text is about and hardly whom: "The mother tongue of X is" and "The mother tongue of Y is" lie close
together. Its word pieces tell them apart. Nothing here is learned: the vocabulary of the encoder is in the order of how frequent its pieces
are, so a piece's row says how rare it is; and what names something is written in a way that words are not, with a capital inside a
sentence, a digit, or a sign between letters.
"""

import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

VOCABULARY = 30_522
FIRST_WORD = 1_996  # row of the most frequent word; before it are marks, unused rows and single characters
COMMON = 30  # so many of the most frequent words say nothing
CHARACTERS = 1.5  # what a digit or a letter that stands alone says
_ALONE = (*range(1_014, 1_024), *range(1_038, 1_045), *range(1_046, 1_063))  # 0 to 9, a to z without the words a and i

_WORD = re.compile(r"[^\s\"'“”‘’()\[\]{},;:!?]+")
_JOINED = re.compile(r"\w[_/\\.@=-]\w*|^-{1,2}\w|`")
_BEFORE = '.!?:"“'  # signs that a sentence may begin after: its first word has a capital anyway
_NEVER = frozenset({"I", "A"})


def _rarities() -> tuple[float, ...]:
    rows = [max(0.0, log((row - FIRST_WORD + 1) / COMMON)) if row >= FIRST_WORD else 0.0 for row in range(VOCABULARY)]
    for row in _ALONE:
        rows[row] = CHARACTERS
    return tuple(rows)


NOWHERE = (sys.maxsize, sys.maxsize)  # in a text
RARITY = _rarities()  # of each piece: 0 for the commonest and for punctuation, 6.9 for the rarest


@dataclass(frozen=True, slots=True)
class Wording:
    """The word pieces of a text without its two marks, and those of them that belong to a name."""

    pieces: frozenset[int]
    names: frozenset[int]


class Words:
    """Reads texts as the encoder's tokenizer does. Safe to use from any thread."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer

    def of(self, text: str) -> Wording:
        """The wording of a text, as far as the encoder reads it."""
        encoded = self._tokenizer.encode(text)
        ids, names, named = encoded.ids[1:-1], set(), named_spans(text)
        start, stop = next(named, NOWHERE)
        for piece, (begin, end) in zip(ids, encoded.offsets[1:-1], strict=True):
            while stop <= begin:
                start, stop = next(named, NOWHERE)
            if start < end:
                names.add(piece)
        return Wording(frozenset(ids), frozenset(names))


def named_spans(text: str) -> Iterator[tuple[int, int]]:
    """Where in a text something is named, as (start, stop) in characters."""
    found = [(match.start(), match.end(), match.group().rstrip(".")) for match in _WORD.finditer(text)]
    for place, (start, stop, word) in enumerate(found):
        if not word or word in _NEVER:
            continue
        capital = word[0].isupper()
        if capital and (place == 0 or text[:start].rstrip()[-1:] in _BEFORE):
            capital = place + 1 < len(found) and found[place + 1][2][:1].isupper()  # two capitals in a row begin with a name
        odd = any(sign.isdigit() for sign in word) or any(sign.isupper() for sign in word[1:])
        joined = not word.isalpha() and _JOINED.search(word) is not None and "-" not in word.strip("-")
        if capital or odd or joined:
            yield start, stop
