"""What the banks of a load are taught and asked: real utterances where the data sets are, written ones otherwise.

A bank knows some intents by a few wordings of each and is asked other wordings; what it is taught under load are wordings that are neither.
Every right answer ends with the number of its bank, so that an answer from another bank's memory shows.
"""

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from bench.data import SOURCES, DataAbsent, Row, directory, load

WORDINGS = 4  # of an intent that are taught before; at least as many are left for questions and for lessons under load
THINGS = (
    "card",
    "refund",
    "invoice",
    "parcel",
    "contract",
    "password",
    "appointment",
    "ticket",
    "receipt",
    "deposit",
    "passport",
    "licence",
)
PHRASES = (
    "Where is my {}?",
    "My {} has not come yet.",
    "When will I get my {}?",
    "I am still waiting for the {}.",
    "Could you look for my {}, please?",
    "It has been two weeks and there is no {}.",
    "How long does a {} take?",
    "Has the {} been sent to me?",
    "Nobody tells me where the {} is.",
    "I think that my {} is lost.",
    "Is there any news of the {} that I asked for?",
    "What has become of my {}?",
)


@dataclass(frozen=True, slots=True)
class Work:
    """What is asked of a service, whatever the rate; `prefix` begins the names of its banks."""

    prefix: str
    banks: int
    lessons: int  # of each bank, taught before
    zipf: float
    teach_share: float  # of the requests under load; the others are recalls
    seed: int

    def name(self, number: int) -> str:
        """The name of a bank."""
        return f"{self.prefix}-{number}"


@dataclass(frozen=True, slots=True)
class BankTexts:
    """Texts and right answers of one bank; no text is in two of the lists."""

    lessons: Sequence[Row]  # taught before
    questions: Sequence[Row]  # asked under load
    further: Sequence[Row]  # taught under load


class Texts:
    """The texts of every bank, the same in every process."""

    def __init__(self, rows: Sequence[Row]) -> None:
        wordings: dict[str, dict[str, None]] = {}
        for text, intent in rows:
            wordings.setdefault(intent, {})[text] = None
        self._wordings = {intent: list(texts) for intent, texts in wordings.items() if len(texts) >= 2 * WORDINGS}
        self._intents = sorted(self._wordings)
        self.of = lru_cache(maxsize=20_000)(self._of)

    def _of(self, work: Work, number: int) -> BankTexts:
        """The texts of a bank."""
        dice = random.Random(f"{work.seed} {number}")
        lessons, questions, further = [], [], []
        for intent in dice.sample(self._intents, min(len(self._intents), -(-work.lessons // WORDINGS))):
            wordings = dice.sample(self._wordings[intent], len(self._wordings[intent]))
            right, middle = answer(intent, number), (WORDINGS + len(wordings)) // 2
            lessons += [(text, right) for text in wordings[:WORDINGS]]
            questions += [(text, right) for text in wordings[WORDINGS:middle]]
            further += [(text, right) for text in wordings[middle:]]
        return BankTexts(lessons[: work.lessons], questions, further)


def answer(intent: str, number: int) -> str:
    """The right answer of an intent in the bank of that number."""
    return f"{intent.replace('_', ' ')}{_end(number)}"


def is_foreign(said: str, number: int) -> bool:
    """Whether an answer that the bank of that number gave is another's."""
    return not said.endswith(_end(number))


def _end(number: int) -> str:
    return f", desk {number}"


def available_texts(environ: Mapping[str, str] = os.environ) -> Texts:
    """Of all data sets that are there, else of the sentences written here."""
    rows: list[Row] = []
    for name in SOURCES:
        try:
            rows += load(name, directory(environ)).rows
        except DataAbsent:
            continue
    return Texts(rows or written_rows())


def written_rows() -> list[Row]:
    """Sentences for where there are no data sets."""
    return [(phrase.format(thing), f"where_is_{thing}") for thing in THINGS for phrase in PHRASES]
