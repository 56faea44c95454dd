"""Learning: the lessons of several banks in one operation, each between two questions for its receipt.

What a bank learns and answers does not depend on who else is in the operation (the model promises it bitwise), so neither does replay.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from model import Candidate, Lesson, Recall
from workers.reading import HEARD, Keys, asked
from workers.view import NO_KEYS, View

SEEN = 8  # answers before a lesson among which the right one is looked for


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a view says before a lesson: the best candidates at its key, and at the keys of other corrections."""

    own: list[Candidate]
    others: list[list[Candidate]]


@dataclass(frozen=True, slots=True)
class Taking:
    """A lesson for one view. `response` may be new to its book.

    Keys (n, 384) of paraphrases are asked after it, those of other corrections before and after it. `ahead`: what was asked before it
    already, of the same state.
    """

    view: View
    lesson: Lesson
    response: int
    paraphrases: Keys = field(default_factory=lambda: NO_KEYS)
    others: Keys = field(default_factory=lambda: NO_KEYS)
    ahead: Ahead | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """The best candidates before and after the lesson, for each paraphrase after it, and for each other correction before and after it."""

    before: list[Candidate]
    after: list[Candidate]
    paraphrases: list[list[Candidate]]
    others_before: list[list[Candidate]]
    others_after: list[list[Candidate]]


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
    before = _asked_before(recall, takings)
    recall.apply_many_([taking.view.state for taking in takings], [taking.lesson for taking in takings])
    for taking in takings:
        taking.view.know(taking.response, taking.lesson.right)
        taking.view.learned(taking.lesson, taking.response)
    after = recall.answer_many(
        [asked(taking.view, np.concatenate([taking.lesson.key[None], taking.paraphrases]), HEARD) for taking in takings]
    )
    others_after = [recall.survey(asked(taking.view, taking.others, HEARD)) for taking in takings]
    said = zip(before, after, others_after, strict=True)
    return [Taken(first.own, last, paraphrases, first.others, now) for first, (last, *paraphrases), now in said]


def _asked_before(recall: Recall, takings: Sequence[Taking]) -> list[Ahead]:
    asking = [asked(taking.view, taking.lesson.key[None], SEEN) for taking in takings if taking.ahead is None]
    said = iter(recall.answer_many(asking) if asking else ())
    return [taking.ahead or Ahead(next(said)[0], recall.survey(asked(taking.view, taking.others, HEARD))) for taking in takings]
