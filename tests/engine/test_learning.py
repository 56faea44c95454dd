"""Lessons of several banks in one operation: each bank learns as if it were alone."""

from dataclasses import replace

import numpy as np
import pytest

from model import Lesson, Recall, RecallConfig
from workers.learning import SEEN, Ahead, Taking, learn_together, look_over, plan_together
from workers.reading import asked
from workers.view import NO_KEYS, View


@pytest.fixture(scope="module")
def recall():
    return Recall(RecallConfig.tiny(encoder_digest="e" * 64))


def key(seed: int):
    vector = np.random.default_rng(seed).standard_normal(384).astype(np.float32)
    return vector / np.linalg.norm(vector)


def fresh(recall) -> View:
    return View("snap", 0, recall.initial(), (), recall.book(), np.zeros(64, np.int32))


def taking(view: View, bank: int, step: int) -> Taking:
    return Taking(view, Lesson(key(100 * bank + step), f"answer {step % 3}", 5, step + 1), step % 3, key(100 * bank + step)[None])


def test_banks_taught_together_have_the_digests_of_banks_taught_alone(recall):
    alone, together = [fresh(recall) for _ in range(5)], [fresh(recall) for _ in range(5)]
    for step in range(9):
        for bank, view in enumerate(alone):
            (said,) = learn_together(recall, [taking(view, bank, step)])
            assert said.after[0].index == step % 3
        chosen = [bank for bank in range(5) if (bank + step) % 2] + [bank for bank in range(5) if not (bank + step) % 2]
        for part in (chosen[:3], chosen[3:]):
            for said in learn_together(recall, [taking(together[bank], bank, step) for bank in part]):
                assert said.after[0].index == said.paraphrases[0][0].index == step % 3
    assert [view.state.digest() for view in together] == [view.state.digest() for view in alone]
    assert [view.weights for view in together] == [((0, 9),)] * 5


def test_lesson_that_cannot_be_learned_fails_alone(recall):
    good, bad, other = fresh(recall), fresh(recall), fresh(recall)
    wrong = Taking(bad, Lesson(key(1) * 2, "answer", 5, 1), 0, NO_KEYS)
    first, refused, last = learn_together(recall, [taking(good, 0, 0), wrong, taking(other, 1, 0)])
    assert isinstance(refused, ValueError)
    assert (first.after[0].index, last.after[0].index) == (0, 0)
    assert (bad.seq, len(bad.book)) == (0, 0)
    assert bad.state.digest() == recall.initial().digest()


def planned(recall, taking: Taking) -> Taking:
    """The lesson with what a request finds out while the ledger keeps it."""
    (plan,) = plan_together(recall, [taking])
    assert plan is not None
    ((own,),) = recall.answer_many([asked(taking.view, taking.lesson.key[None], SEEN)])
    return replace(taking, ahead=Ahead(own, *spread(look_over(recall, taking.view, plan, taking.others), plan)))


def spread(found, plan):
    before, after = found
    return before, plan, after


def test_planned_lessons_are_taken_in_beside_others_and_say_and_leave_the_same(recall):
    """In one operation: some are planned, some are not, one cannot be learned, one was planned for another lesson."""
    lived, folded = [fresh(recall) for _ in range(4)], [fresh(recall) for _ in range(4)]
    others = np.stack([key(7), key(105), key(211)])
    for step in range(12):
        news = [replace(taking(view, bank, step), others=others) for bank, view in enumerate(lived)]
        said = learn_together(
            recall,
            [
                planned(recall, news[0]) if step % 3 else news[0],
                planned(recall, news[1]),
                Taking(fresh(recall), Lesson(key(1) * 2, "answer", 5, 1), 0, NO_KEYS),
                replace(news[2], ahead=planned(recall, taking(lived[2], 3, step)).ahead) if step % 2 else news[2],
                news[3],
            ],
        )
        assert isinstance(said.pop(2), ValueError)
        plain = learn_together(recall, [replace(taking(view, bank, step), others=others) for bank, view in enumerate(folded)])
        for bank in (0, 1, 3):
            assert said[bank] == plain[bank]
        assert (said[2].after, said[2].paraphrases, said[2].others_after) == (plain[2].after, plain[2].paraphrases, plain[2].others_after)
    for view, other in zip(lived, folded, strict=True):
        assert view.state.digest() == other.state.digest()
        assert (view.weights, view.seq, view.counts.tolist()) == (other.weights, other.seq, other.counts.tolist())
        assert [view.book.place(f"answer {number}") for number in range(4)] == [0, 1, 2, None]


@pytest.mark.parametrize(
    "change",
    [{"seq": 9}, {"tokens": 6}, {"right": "another answer"}, {"key": key(5)}, {"words": key(6)}],
    ids=["seq", "tokens", "right", "key", "words"],
)
def test_plan_of_another_lesson_is_of_no_use(recall, change):
    view, other = fresh(recall), fresh(recall)
    for step in range(3):
        learn_together(recall, [taking(view, 0, step), taking(other, 0, step)])
    first = Taking(view, Lesson(key(50), "a new answer", 5, 4, key(51)), 3)
    lesson = replace(first.lesson, **change)
    (said,) = learn_together(recall, [replace(planned(recall, first), lesson=lesson)])
    learn_together(recall, [Taking(other, lesson, 3)])
    assert view.state.digest() == other.state.digest()
    assert said.after[0].index == 3
    assert (view.book.place("a new answer") is None) is (lesson.right != "a new answer")


def test_plan_that_is_let_go_leaves_the_view_as_it_was(recall):
    view = fresh(recall)
    learn_together(recall, [taking(view, 0, 0)])
    before = view.state.digest()
    for step in range(1, 70):  # the book has to make room
        assert plan_together(recall, [Taking(view, Lesson(key(step), f"new {step}", 5, 2, key(99)), step)]) != [None]
    assert plan_together(recall, [Taking(view, Lesson(key(1) * 2, "answer", 5, 2), 0)]) == [None]
    assert view.state.digest() == before
    assert (len(view.book), view.book.place("new 1"), view.weights, view.seq) == (1, None, ((0, 1),), 1)
    assert view.counts.tolist() == [1] + 63 * [0]
