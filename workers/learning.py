"""Learning: the lessons of several banks in one operation, each between two questions for its receipt.

What a bank learns and answers does not depend on who else is in the operation (the model promises it bitwise), so neither does replay.

A lesson that is on its way to the ledger may be planned meanwhile (`model/planning.py`): a copy of the view learns it and is asked what it
says then. Once the ledger has the lesson, the view takes over what the copy has; a plan that is not of just this lesson and just this state
is of no use, and the lesson is learned then.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from model import Asked, Candidate, Lesson, Plan, Recall
from workers.reading import HEARD, Keys, asked
from workers.view import NO_KEYS, View

SEEN = 8  # answers before a lesson among which the right one is looked for


@dataclass(frozen=True, slots=True)
class Planned:
    """A lesson that a copy of a view has learned, and what the copy says at its key and its paraphrases."""

    plan: Plan
    lesson: Lesson
    response: int
    copy: View
    after: list[Candidate]
    paraphrases: list[list[Candidate]]

    def fits(self, taking: "Taking") -> bool:
        """Whether it is of just this lesson and this state."""
        lesson, mine = taking.lesson, self.lesson
        if self.plan.of is not taking.view.state or not self.plan.holds or self.response != taking.response:
            return False
        if not np.array_equal(lesson.key, mine.key):
            return False
        words = not self.plan.born or np.array_equal(_words(lesson), _words(mine))  # nobody looks at them again
        return words and (lesson.right, lesson.tokens, lesson.seq) == (mine.right, mine.tokens, mine.seq)


@dataclass(frozen=True, slots=True)
class Ahead:
    """What a view says before a lesson: the best candidates at its key, and at the keys of other corrections.

    With a lesson that is `planned`: what it will say there afterwards.
    """

    own: list[Candidate]
    others: list[list[Candidate]]
    planned: Planned | None = None
    others_after: list[list[Candidate]] = field(default_factory=list)


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


class Copies:
    """Room for the copies by which lessons are planned, `most` at a time: where more are taught at once, nobody is served sooner by it."""

    def __init__(self, most: int) -> None:
        self._free = most

    @contextlib.contextmanager
    def room(self) -> Iterator[bool]:
        """Whether there is room for one, kept until the block ends."""
        is_room = self._free > 0
        self._free -= is_room
        try:
            yield is_room
        finally:
            self._free += is_room


def plan_together(recall: Recall, takings: Sequence[Taking]) -> list[Planned | None]:
    """Plan every view's lesson; None for one that cannot be learned: whoever learns it hears why. Runs on the model thread."""
    return [_planned(recall, taking) for taking in takings]


def look_over(recall: Recall, view: View, planned: Planned | None, others: Keys) -> tuple[list[list[Candidate]], list[list[Candidate]]]:
    """What a view says at the keys of other corrections, and what it will say there after a planned lesson. Runs on the model thread."""
    before = recall.survey(asked(view, others, HEARD))
    return before, recall.survey(asked(planned.copy, others, HEARD)) if planned else []


def learn_together(recall: Recall, takings: Sequence[Taking]) -> list[Taken | Exception]:
    """Teach every view its lesson; no view may be there twice. Runs on the model thread.

    A lesson that cannot be learned is an exception in its place, and the others are learned.
    """
    carried_out = [_carried_out(taking) for taking in takings]
    left = [taking for taking, done in zip(takings, carried_out, strict=True) if done is None]
    learned = iter(_all_learned(recall, left))
    return [done or next(learned) for done in carried_out]


def _all_learned(recall: Recall, takings: Sequence[Taking]) -> list[Taken | Exception]:
    if not takings:
        return []
    try:
        return list(_learned(recall, takings))
    except ValueError as error:  # the model checks all lessons before it changes anything
        if len(takings) == 1:
            return [error]
        return [one for taking in takings for one in _all_learned(recall, [taking])]


def _learned(recall: Recall, takings: Sequence[Taking]) -> list[Taken]:
    before = _asked_before(recall, takings)
    recall.apply_many_([taking.view.state for taking in takings], [taking.lesson for taking in takings])
    for taking in takings:
        _note(taking.view, taking)
    after = recall.answer_many([_asked_after(taking.view, taking) for taking in takings])
    others_after = [recall.survey(asked(taking.view, taking.others, HEARD)) for taking in takings]
    said = zip(before, after, others_after, strict=True)
    return [Taken(first.own, last, paraphrases, first.others, now) for first, (last, *paraphrases), now in said]


def _asked_before(recall: Recall, takings: Sequence[Taking]) -> list[Ahead]:
    asking = [asked(taking.view, taking.lesson.key[None], SEEN) for taking in takings if taking.ahead is None]
    said = iter(recall.answer_many(asking) if asking else ())
    return [taking.ahead or Ahead(next(said)[0], recall.survey(asked(taking.view, taking.others, HEARD))) for taking in takings]


def _asked_after(view: View, taking: Taking) -> Asked:
    return asked(view, np.concatenate([taking.lesson.key[None], taking.paraphrases]), HEARD)


def _planned(recall: Recall, taking: Taking) -> Planned | None:
    try:
        plan = recall.plan(taking.view.state, taking.lesson)
    except ValueError:
        return None
    copy = taking.view.copied(plan.after)
    _note(copy, taking)
    after, *paraphrases = recall.answer_many([_asked_after(copy, taking)])[0]
    return Planned(plan, taking.lesson, taking.response, copy, after, paraphrases)


def _carried_out(taking: Taking) -> Taken | None:
    """None where there is no plan, or one that does not fit."""
    ahead = taking.ahead
    if ahead is None or ahead.planned is None or not ahead.planned.fits(taking):
        return None
    ahead.planned.plan.carry_out()
    _note(taking.view, taking)
    return Taken(ahead.own, ahead.planned.after, ahead.planned.paraphrases, ahead.others, ahead.others_after)


def _note(view: View, taking: Taking) -> None:
    """Note a lesson that the view's state has learned."""
    view.know(taking.response, taking.lesson.right)
    view.learned(taking.lesson, taking.response)


def _words(lesson: Lesson) -> Keys:
    return NO_KEYS if lesson.words is None else lesson.words
