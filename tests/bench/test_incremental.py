"""The class-incremental protocol: courses and the arithmetic of its marks."""

import pytest

from bench.asking import ConsolidationCost, Said
from bench.scoreboard.incremental import Course, Marks, course, taught
from bench.scoreboard.sources import Intents

TASKS = ("a", "b"), ("c", "d"), ("e", "f")
ROWS = tuple((f"{intent} {number}", intent) for intent in "abcdef" for number in range(5))
TEST = tuple((f"{intent}?", intent) for intent in "abcdef")
DATA = Intents(ROWS, (), TEST, TASKS)


def test_first_order_is_the_published_one_and_the_others_are_shuffled_classes():
    assert course(DATA, 0).tasks == TASKS
    others = [course(DATA, seed).tasks for seed in range(1, 6)]
    assert len({*others, TASKS}) > 3
    assert all(sorted(intent for task in tasks for intent in task) == list("abcdef") for tasks in others)
    assert all([len(task) for task in tasks] == [2, 2, 2] for tasks in others)


@pytest.mark.parametrize("seed", [0, 1])
def test_each_task_has_all_rows_of_its_classes_and_no_others(seed):
    made = course(DATA, seed)
    for task, train, test in zip(made.tasks, made.train, made.test, strict=True):
        assert sorted(train) == sorted(row for row in ROWS if row[1] in task)
        assert {intent for _, intent in test} == set(task)
    assert course(DATA, seed) == made


def test_short_form_takes_a_few_rows_of_each_class():
    assert [len(train) for train in course(DATA, 0, per_class=2).train] == [4, 4, 4]


def test_marks_are_those_of_the_published_definitions():
    # after task 1: 8 of 10; after 2: 6 of 10 and 20 of 20; after 3: 7, 10 and 10 of 10
    figures = Marks([[8], [6, 20], [7, 10, 10]], [10, 20, 10]).figures()
    assert figures["after"] == pytest.approx([0.8, 26 / 30, 27 / 40])
    assert figures["last"] == pytest.approx(27 / 40)
    assert figures["average"] == pytest.approx((0.8 + 26 / 30 + 27 / 40) / 3)
    assert figures["bwt"] == pytest.approx(((0.7 - 0.8) + (0.5 - 1.0)) / 2)
    assert figures["forgetting"] == pytest.approx(((0.8 - 0.7) + (1.0 - 0.5)) / 2)


class Scripted:
    """Knows the classes of the last task it was taught, and everything after a consolidation."""

    def __init__(self):
        self.known, self.whole = set(), False

    async def tell_many(self, rows, progress):
        self.known = {intent for _, intent in rows}
        return []

    async def ask_many(self, texts, progress):
        return [Said(text[0], 0.4, silent=not (self.whole or text[0] in self.known)) for text in texts]

    async def consolidate(self):
        self.whole = True
        return ConsolidationCost(1.5, passed=True)


async def test_product_is_asked_after_each_task_and_again_after_its_consolidation():
    one: Course = course(DATA, 0)
    before, after = await taught("it", Scripted(), lambda done: None, one=one, when="end")
    assert before["after"] == pytest.approx([1.0, 0.5, 1 / 3])
    assert (before["bwt"], before["forgetting"]) == (-1.0, 1.0)
    assert before["guess"] == 1.0  # silence is wrong, though the best guess was right
    assert (after["last"], after["consolidation_s"], after["gate_passed"]) == (1.0, 1.5, True)
    (each,) = await taught("it", Scripted(), lambda done: None, one=one, when="each")
    assert each["last"] == 1.0
