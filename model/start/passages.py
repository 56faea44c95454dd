"""Sentences of general text in which one word was put in another's place: what an encoder must not learn to overlook.

Who learns from intents alone learns that names do not matter: "wake me at six" and "wake me at nine" are one intent. In facts the name is
all that matters, and nobody tells a bank beforehand which of both it will hear. So some batches are made of novels, an encyclopedia,
proposals and a manual, without any label: a sentence and three others that differ from it in one name or one rare word must stay apart,
while a sentence, its half, and the same behind a sentence that has nothing to do with it belong together.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

READ = 1_000_000  # characters of a text: the rest of a long one says little more
OF_EACH_TEXT = 300  # sentences of it that are taken
OTHERS = 3  # words that take the place of a sentence's own, one after another
FEWEST, MOST = 6, 16  # words in a sentence
COMMON = 500  # the most frequent words, which are not exchanged
SHORT = 3  # letters of a word that is not exchanged either
NAMES = 0.6  # chance that a sentence is taken for a name; else it is for a rare word
SEED = 0

_PARAGRAPHS = re.compile(r"\n\s*\n|\n (?=[A-Z=])")
_ENDS = re.compile(r"(?<=[.!?]) +(?=[A-Z])")
_PLAIN = re.compile(r"[A-Z][A-Za-z,;'’ -]+[.!?]")
_WORDS = re.compile(r"[A-Za-z'’-]+")
_NAMES = re.compile(r"\b[A-Z][a-z]{2,}(?: [A-Z][a-z]{2,})*")
_TITLE = re.compile(r".*\b(?:Mr|Mrs|Ms|Dr|St|Sir|Prof)\.")  # no end of a sentence

Wordings = tuple[str, str, str]  # as it is, behind another sentence, a half with the word
Family = tuple[Wordings, ...]  # of `OTHERS` + 1 sentences that differ in one word


@dataclass(frozen=True, slots=True)
class Slot:
    """A sentence and where its word stands that is exchanged; `name`: it is a name."""

    sentence: str
    begin: int
    end: int
    name: bool

    @property
    def word(self) -> str:
        """What stands there."""
        return self.sentence[self.begin : self.end]

    def holding(self, word: str) -> tuple[str, int]:
        """The sentence with another word there, and in which of its words that begins."""
        return self.sentence[: self.begin] + word + self.sentence[self.end :], len(f"{self.sentence[: self.begin]}|".split()) - 1


def passages(texts: Mapping[str, str]) -> list[Family]:
    """Families of sentences that differ in one word; the same texts give the same families."""
    sentences = {name: list(sentences_of(text[:READ])) for name, text in texts.items()}
    seen = Counter(word for some in sentences.values() for sentence in some for word in _WORDS.findall(sentence) if word.islower())
    common = {word for word, _ in seen.most_common(COMMON)}
    draw = np.random.default_rng(SEED)
    slots: list[Slot] = []
    for name in sorted(sentences):
        order = draw.permutation(len(sentences[name]))
        found = (slot for at in order if (slot := _slot(sentences[name][at], seen, common, draw)) is not None)
        slots += [slot for slot, _ in zip(found, range(OF_EACH_TEXT), strict=False)]
    words = {kind: sorted({slot.word for slot in slots if slot.name is kind}) for kind in (False, True)}
    return [_family(slot, words[slot.name], slots, draw) for slot in slots if len(words[slot.name]) > OTHERS]


def sentences_of(text: str) -> Iterator[str]:
    """The distinct sentences of a text that are of letters alone, neither short nor long."""
    found: dict[str, None] = {}
    for paragraph in _PARAGRAPHS.split(text):
        for sentence in _ENDS.split(" ".join(paragraph.split())):
            clean = re.sub(r" (?=[,;.!?])", "", sentence)
            if FEWEST <= len(clean.split()) <= MOST and _PLAIN.fullmatch(clean) and not _TITLE.fullmatch(clean):
                found[clean] = None
    yield from found


def _slot(sentence: str, lower: Mapping[str, int], common: set[str], draw: np.random.Generator) -> Slot | None:
    """Where to exchange: a name mostly, a rare word otherwise; None where there is none. Nobody writes a name with a small letter."""
    names = [match.span() for match in _NAMES.finditer(sentence) if match[0].casefold() not in lower]
    rare = [match.span() for match in _WORDS.finditer(sentence) if match[0].islower() and len(match[0]) > SHORT and match[0] not in common]
    chosen = names if draw.random() < NAMES else rare
    if not chosen:
        return None
    begin, end = chosen[draw.integers(len(chosen))]
    return Slot(sentence, begin, end, chosen is names)


def _family(slot: Slot, words: Sequence[str], slots: Sequence[Slot], draw: np.random.Generator) -> Family:
    others = [words[at] for at in draw.permutation(len(words))[: OTHERS + 1]]
    family = []
    for word in [slot.word, *(other for other in others if other != slot.word)][: OTHERS + 1]:
        sentence, place = slot.holding(word)
        before = slots[int(draw.integers(len(slots)))].sentence
        family.append((sentence, f"{before} {sentence}", _half(sentence.split(), place, draw)))
    return tuple(family)


def _half(words: Sequence[str], place: int, draw: np.random.Generator) -> str:
    """Half of the words in a row, that at `place` among them."""
    size = -(-len(words) // 2)
    begin = int(draw.integers(max(0, place - size + 1), min(place, len(words) - size) + 1))
    return " ".join(words[begin : begin + size])
