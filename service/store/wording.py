"""When two inputs are the same words: then the newer correction of either is the answer to both.

What nobody means by it is left out: capitals, punctuation, quotation marks and brackets around words, the articles, how words are spaced
and joined by hyphens. What may mean something is kept: the order of the words, every other word however small (`from` is not `to`), and
whatever is no plain word as it is written (`-V` is not `-v`, `C++` is not `C`, `/etc/Hosts` keeps its capital).

So much and no more, because it is believed without asking anybody. Two inputs that are merely alike, even the nearest of all, are as a rule
two situations: of 3,856 wordings in a cheat-sheet that were followed by a near one (cosine .8) with another command, 3,465 were about
something else (docs/journal.md).
"""

import re
import unicodedata

ALONE = "\"'`‚‛“”„‟«»‹›,;:!?¿¡…、。，．；：！？「」『』"  # signs that say nothing, also where no word is between them
AROUND = ALONE + "()[]{}<>（）"  # and those that say nothing where a word begins or ends
ARTICLES = frozenset({"a", "an", "the"})  # a sentence is reworded by these more often than by any other word

_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑](?=[^\W\d_])")  # between two letters
_APOSTROPHES = str.maketrans("‘’", "''")


def same_words(text: str) -> str:
    """What is left of a text: equal for two that are the same words, and never empty unless the text is."""
    said = unicodedata.normalize("NFC", text.translate(_APOSTROPHES))
    words = [word for part in said.split() if (word := _word(part))]
    kept = [word for word in words if word not in ARTICLES]
    return " ".join(kept or words) or said


def _word(part: str) -> str:
    word = part.lstrip(AROUND).rstrip(AROUND + ".") or part.strip(ALONE)
    apart = _HYPHEN.sub(" ", word)
    return apart.casefold() if apart.replace("'", "").replace(" ", "").isalnum() else word
