"""Answers that were replaced, as a consolidation and its gate judge them: as a recall, which lets them speak where they are inferred."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from memory_reference import TINY, taught, unit
from numpy.typing import NDArray

from model import Lesson, Recall, State, succession
from model.codes import packed_code, scores
from model.learning import noise
from model.repairing import SURE, Repair
from model.state import Named
from model.survey import DOUBT, Judge, Survey

T = TypeVar("T")
RECALL = Recall(replace(TINY, replaced_at=1e9))  # what is replaced is told by `told`
ANSWERS = ["A", "B", "other 0", "other 1", "other 2"]


def ended(work: Generator[float, None, T]) -> T:
    """What comes of work that is done in steps."""
    while True:
        try:
            next(work)
        except StopIteration as stopped:
            found: T = stopped.value
            return found


def row_of(fast: Named, answer: str) -> int:
    row = succession.find(fast, packed_code(answer, TINY.code_width))
    assert row is not None
    return row


def told(state: State) -> State:
    """The same, where B has replaced A."""
    fast = state.levels["fast"]
    old, new = row_of(fast, "A"), row_of(fast, "B")
    fast["kin"][old, succession.SUCCESSOR], fast["kin"][new, succession.PARENT] = new, old
    return state


def changed_policy() -> list[Lesson]:
    """Sixty times A in paraphrases that lie close together, other answers elsewhere, and then B, three times, where A was."""
    rng = np.random.default_rng(3)
    centres = unit(rng.standard_normal((4, TINY.key_width)))
    at = [0] * 60 + [1, 2, 3] * 10 + [0] * 3
    keys = unit(centres[at] + 0.3 * rng.standard_normal((93, TINY.key_width)) / TINY.key_width**0.5)
    answers = ["A"] * 60 + [f"other {place - 1}" for place in at[60:90]] + ["B"] * 3
    return [Lesson(key, answer, 5, 1 + place) for place, (key, answer) in enumerate(zip(keys, answers, strict=True))]


def recalled(state: State, lessons: Sequence[Lesson]) -> NDArray[np.bool_]:
    """Whether a recall gives what each taught, or what has replaced it."""
    book = RECALL.book()
    for answer in ANSWERS:
        book.add(answer)
    found = RECALL.answer(state, np.stack([lesson.key for lesson in lessons]), book, top_k=1)
    said = [ANSWERS[best.index] for (best,) in found]
    return np.array([given == lesson.right or (given, lesson.right) == ("B", "A") for given, lesson in zip(said, lessons, strict=True)])


def surveyed(state: State, lessons: Sequence[Lesson]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    keys = torch.tensor(np.stack([lesson.key for lesson in lessons]))
    right, sure = ended(Survey(RECALL.config, state).right(keys, [lesson.right for lesson in lessons]))
    return right.numpy(), sure.numpy()


def said_again(lessons: Sequence[Lesson]) -> State:
    """What says A once more where B was taught, by a score that speaks for itself."""
    more = [Lesson(lesson.key, "A", 5, 100 + place) for place, lesson in enumerate(lessons[-3:])]
    return told(RECALL.fold(taught(lessons, RECALL), more))


def test_where_the_old_answer_is_certain_again_the_survey_calls_it_wrong_as_a_recall_does() -> None:
    lessons = changed_policy()
    head, candidate = told(taught(lessons, RECALL)), said_again(lessons)
    assert recalled(head, lessons).all()
    right, sure = surveyed(head, lessons)
    assert (right | ~sure).all()
    assert recalled(candidate, lessons).tolist() == [True] * 90 + [False] * 3
    right, sure = surveyed(candidate, lessons)
    assert not (right & sure)[90:].any(), "A is not right where B was taught"
    assert (right | ~sure)[:90].all(), "where A was taught, both are"


@pytest.mark.parametrize("seed", range(4))
def test_the_survey_tells_of_every_read_out_what_a_recall_tells_or_that_it_is_in_doubt(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fast = taught(changed_policy(), RECALL).levels["fast"]
    fast["kin"][:] = -1
    fast["kin"][0, succession.SUCCESSOR], fast["kin"][1, succession.SUCCESSOR] = 1, 4  # the first became the second, that the last
    judge = Judge(fast)
    loud = rng.uniform(0.0, 1.0, (400, 5)).astype(np.float32) * (rng.random((400, 5)) < 0.6)
    loud[:, 0] = rng.choice([0.05, 0.2, 0.5, 0.79, 0.81, 0.95], 400)
    whole, wanted = torch.tensor(loud) @ judge.codes, torch.tensor(rng.integers(5, size=400))
    stands = judge.standing(whole, wanted)
    old, new = succession.replaced(fast)
    assert (old.tolist(), new.tolist()) == ([0, 1], [4, 4])
    sure = ((stands.best - stands.rival).abs() >= DOUBT + stands.swing).tolist()
    for place, read_out in enumerate(whole.numpy()):
        spoken = succession.speak_for(scores(fast["codes"].numpy(), read_out), old, new, noise(read_out))
        answer = int(wanted[place])
        if sure[place]:
            assert bool(stands.best[place] > stands.rival[place]) == (int(spoken.argmax()) in {answer, [4, 4, 2, 3, 4][answer]})
        assert float(stands.best[place]) == pytest.approx(spoken[int(stands.own[place])], abs=1e-4) or not sure[place]
    assert 0.5 < np.mean(sure) < 1.0


def test_what_was_replaced_is_asked_again_where_it_is_nearly_loud_enough_to_speak_or_not() -> None:
    fast = told(taught(changed_policy(), RECALL)).levels["fast"]
    judge, old, new = Judge(fast), row_of(fast, "A"), row_of(fast, "B")
    for loud, doubtful in ((0.5, False), (succession.CERTAIN - 0.005, True), (succession.CERTAIN + 0.005, True), (0.95, False)):
        read_out = (loud * judge.codes[old])[None]
        stands = judge.standing(read_out, torch.tensor([new]))
        assert bool((stands.best - stands.rival).abs() < DOUBT + stands.swing) == doubtful
        assert bool(stands.best > stands.rival) == (loud < succession.CERTAIN)


def test_repair_writes_where_the_old_answer_speaks_for_itself_and_nothing_where_it_was_taught() -> None:
    lessons = changed_policy()
    state = said_again(lessons)
    fast = state.levels["fast"]
    keys = torch.tensor(np.stack([lesson.key for lesson in lessons]))
    answers = torch.tensor([row_of(fast, lesson.right) for lesson in lessons])
    said = ended(Survey(RECALL.config, state).whole(keys))
    repair, asked, written = Repair(RECALL.config, state, keys, answers, said), torch.arange(93), [90, 91, 92]
    assert ended(repair.below(asked))[0].tolist() == written
    for _ in range(6):
        below, standing = ended(repair.below(asked))
        if not len(below):
            break
        ended(repair.write(torch.tensor(written), torch.arange(3), standing))  # in pairs of the window that lie elsewhere
    margins = ended(repair.below(asked))[1].margins
    assert bool((margins >= SURE).all())
