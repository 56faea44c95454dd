"""When two inputs are the same words: then the newer correction of either is the answer to both.

What nobody means by it is left out: capitals that a sentence or a title has anyway, punctuation at the end of words, quotation marks and
round brackets around them, articles before a word, spaces, hyphens within a word. What may mean something is kept: the order of the words,
every other word however small (`from` is not `to`), signs that stand alone, and what is no plain word as it is written, with the signs
around it (`-V` is not `-v`, `C++` is not `C`, `:q!` is not `:q`, `mW` is not `MW`). Whoever changes this owes a migration of the hashes
that are kept of it (`event.words_hash`).

So much and no more, because it is believed without asking anybody. Two inputs that are merely alike, even the nearest of all, are as a rule
two situations: of 3,856 wordings in a cheat-sheet that were followed by a near one (cosine .8) with another command, 3,465 were about
something else (docs/journal.md).
"""

import re
import unicodedata

MOST = 2_048  # characters; a longer text is the same as another only letter by letter
OPENING, CLOSING = "\"'`‘“„«‹¿¡「『（(", "\"'`’”“»›」』）)"
ENDING = CLOSING + ",;:.!?…、。，．；：！？؟،।"
NOTHING = "!?…！？؟。।"  # what says nothing at the end of a text, also behind a space
ARTICLES = frozenset({"a", "an", "the"})  # a sentence is reworded by these more often than by any other word
AFTER = frozenset({"a", "an", "the", "and", "or"})  # words before which an article is none: it is spoken of

_HYPHEN = re.compile(r"(?<=[^\W\d_]{2})[-‐‑](?=[^\W\d_]{2})")  # between two words
_PLAIN = re.compile(r"[\w'.‐‑-]+")  # nothing but letters, digits and what joins them
_INDENTED = re.compile(r"\n[ \t]")  # a piece of a program, in which spaces mean something
_SAME = str.maketrans({"‘": "'", "’": "'", "\u200b": None, "\ufeff": None})


def same_words(text: str) -> str:
    """What is left of a text: equal for two that are the same words, and never empty unless the text is."""
    if len(text) > MOST or _INDENTED.search(text):
        return text
    parts = unicodedata.normalize("NFC", text.translate(_SAME)).split()
    while len(parts) > 1 and not parts[-1].strip(NOTHING):
        parts.pop()
    last = len(parts) - 1
    bare = [(word, part[0] in OPENING) for at, part in enumerate(parts) for word in _HYPHEN.sub(" ", _bare(part, last=at == last)).split()]
    words = [_small(word, first=place == 0) for place, (word, _) in enumerate(bare)]
    kept = [word for place, word in enumerate(words) if bare[place][1] or not _is_article(words, place)]
    return " ".join(kept) or text


def _bare(part: str, *, last: bool) -> str:
    """A part of a text without what is around the word."""
    word = part.lstrip(OPENING)
    while word and word[-1] in ENDING:
        if (word[-1] in ")）" and ("(" in word or "（" in word)) or (word[-1] in "'\"!" and word[-2:-1].isdigit()):
            break  # `f()`; feet, inches and factorials
        word = word[:-1]
    if _PLAIN.fullmatch(word):
        return word
    ended = last and part[-1] in "?.？。" and any(sign.isalnum() for sign in part)
    return part[:-1] if ended else part


def _small(word: str, *, first: bool) -> str:
    """A word in small letters, if its capitals say nothing."""
    letters = word.replace("'", "")
    if not letters.isalnum():
        return word
    capital = letters[:1].isupper() and letters[1:].islower() and (first or len(letters) > 2)
    return word.lower() if capital or word == "I" or (first and word == "A") or (letters.isupper() and len(letters) > 2) else word


def _is_article(words: list[str], place: int) -> bool:
    if words[place] not in ARTICLES or place + 1 == len(words):
        return False
    after = words[place + 1]
    return after.replace("'", "").isalnum() and len(after) > 1 and after not in AFTER
