"""Learning: the lessons of several banks in one operation, each between two questions for its receipt.

What a bank learns and answers does not depend on who else is in the operation (the model promises it bitwise), so neither does replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from model import Candidate, Lesson, Recall
from workers.reading import HEARD, Keys, asked
from workers.view import View


@dataclass(frozen=True, slots=True)
class Taking:
    """A lesson for one view, and the keys (n, 384) of paraphrases that are asked afterwards. `response` may be new to its book."""

    view: View
    lesson: Lesson
    response: int
    paraphrases: Keys


@dataclass(frozen=True, slots=True)
class Taken:
    """The best candidates before and after, and after it for each paraphrase."""

    before: list[Candidate]
    after: list[Candidate]
    paraphrases: list[list[Candidate]]


def learn_together(recall: Recall, takings: Sequence[Taking]) -> list[Taken | Exception]:
    """Teach every view its lesson; no view may be there twice. Runs on the model thread.

    A lesson that cannot be learned is an exception in its place, and the others are learned.
    """
    try:
        return list(_learned(recall, takings))
    except ValueError as error:  # the model checks all lessons before it changes anything
        if len(takings) == 1:
            return [error]
        return [one for taking in takings for one in learn_together(recall, [taking])]


def _learned(recall: Recall, takings: Sequence[Taking]) -> list[Taken]:
    before = recall.answer_many([asked(taking.view, taking.lesson.key[None], HEARD) for taking in takings])
    recall.apply_many_([taking.view.state for taking in takings], [taking.lesson for taking in takings])
    for taking in takings:
        if taking.response == len(taking.view.book):
            taking.view.book.add(taking.lesson.right)
        taking.view.learned(taking.lesson, taking.response)
    after = recall.answer_many([asked(taking.view, taking.lesson.key[None], HEARD) for taking in takings])
    others = recall.answer_many([asked(taking.view, taking.paraphrases, HEARD) for taking in takings])
    return [Taken(*said) for said in zip((one[0] for one in before), (one[0] for one in after), others, strict=True)]
