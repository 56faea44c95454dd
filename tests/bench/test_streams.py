"""The protocol's arithmetic: order, policy change, mistakes and windows."""

import numpy as np
import pytest

from bench.asking import ConsolidationCost, Said
from bench.repeats import Repeats
from bench.streams import Request, changed_intents, play, stream, survival, tally
from bench.vectors import Vectors

ROWS = [(f"text {number}", f"intent {number % 10}") for number in range(50)]
NEW = " (new policy)"
VECTORS = Vectors({"a": 0, "b": 1}, np.eye(2, dtype=np.float32), [3, 3], "d" * 64)


def figures(hits, requests, *, silent=0, asking_s=0.0, telling_s=0.0):
    return tally(hits, requests, silent, 0, asking_s, telling_s, Repeats(VECTORS))


class Scripted:
    """A memory that gives the answers it was made with, and keeps what it was told."""

    def __init__(self, answers):
        self.answers, self.told = list(answers), []

    async def ask(self, text):
        return self.answers.pop(0)

    async def tell(self, text, right, said):
        self.told.append((text, right, said))

    async def size_bytes(self):
        return 7


def test_stream_is_the_same_for_a_seed_and_another_for_another():
    first = stream(ROWS, "policy-change", seed=0, requests=50)
    assert first == stream(ROWS, "policy-change", seed=0, requests=50)
    assert first != stream(ROWS, "policy-change", seed=1, requests=50)


def test_stream_takes_each_row_once_before_it_takes_any_twice():
    asked = [request.text for request in stream(ROWS, "corrections-only", seed=3, requests=120)]
    everything = sorted(text for text, _ in ROWS)
    assert sorted(asked[:50]) == sorted(asked[50:100]) == everything
    assert asked[:50] != asked[50:100]  # newly shuffled
    assert len(asked) == 120
    assert len(set(asked[100:])) == 20


def test_corrections_only_keeps_every_answer():
    intents = dict(ROWS)
    assert all(request.right == intents[request.text] for request in stream(ROWS, "corrections-only", seed=0, requests=100))


def test_policy_change_gives_half_of_the_intents_a_new_answer_from_the_middle_on():
    changed = changed_intents(ROWS)
    assert len(changed) == 5
    assert changed < {intent for _, intent in ROWS}
    intents = dict(ROWS)
    for seed in (0, 1):  # the same intents change, whatever the order
        requests = stream(ROWS, "policy-change", seed=seed, requests=100)
        for step, request in enumerate(requests):
            intent = intents[request.text]
            assert request.right == (intent + NEW if step >= 50 and intent in changed else intent)


async def test_memory_is_told_only_where_it_was_wrong_or_silent():
    requests = [Request("a", "1"), Request("b", "2"), Request("a", "1"), Request("b", "2")]
    memory, done = Scripted([None, "1", "1", "2"]), []
    result = await play(memory, requests, VECTORS, done.append)
    assert memory.told == [("a", "1", None), ("b", "2", "1")]
    assert (result.requests, result.mistakes, result.silent, result.avoidable) == (4, 2, 1, 0)
    assert (result.before, result.after, result.end) == (0.0, 1.0, 1.0)
    assert (result.size_bytes, sum(done)) == (7, 4)


def test_first_appearance_of_an_answer_is_no_avoidable_mistake():
    requests = [Request("a", "1"), Request("b", "1"), Request("a", "1" + NEW), Request("b", "1" + NEW)]
    result = figures([False, False, False, False], requests, silent=1)
    assert (result.mistakes, result.avoidable) == (4, 2)


def test_windows_lie_before_the_middle_after_it_and_at_the_end():
    hits = [False] * 1_000 + [True] * 1_000 + [True, False] * 500 + [False] * 750 + [True] * 250
    result = figures(hits, [Request("a", "1")] * len(hits), asking_s=4.0, telling_s=1.0)
    assert (result.window, result.before, result.after, result.end) == (1_000, 1.0, 0.5, 0.25)
    assert result.ask_ms == pytest.approx(1.0)
    assert result.tell_ms == pytest.approx(1e3 / hits.count(False))


def test_curve_has_the_accuracy_of_each_twentieth():
    hits = [False] * 50 + [True] * 50 + [True, False] * 50
    assert figures(hits, [Request("a", "1")] * 200).curve == [0.0] * 5 + [1.0] * 5 + [0.5] * 10


async def test_repeated_mistakes_are_counted_on_the_way():
    requests = [Request("a", "1"), Request("b", "2"), Request("a", "1"), Request("a", "1" + NEW)]
    result = await play(Scripted([None, "1", "2", "1"]), requests, VECTORS, lambda done: None)
    assert (result.mistakes, result.repeated, result.again) == (4, 1, 1)


class Consolidating(Scripted):
    """Forgets what it was told about `a` in a consolidation, and answers about `b` from then on."""

    consolidations = 0

    async def ask_many(self, texts, progress):
        right = dict.fromkeys(texts) | {text: right for text, right, _ in self.told}
        lost = "a" if self.consolidations else "b"
        return [Said(None if text == lost else right[text], 0.5, silent=text == lost) for text in texts]

    async def consolidate(self):
        self.consolidations += 1
        return ConsolidationCost(2.0, passed=False)


async def test_consolidations_come_every_so_many_requests_and_tell_what_they_lost():
    requests = [Request("a", "1"), Request("b", "2"), Request("a", "1"), Request("b", "2"), Request("a", "1")]
    memory = Consolidating([None, "1", "1", "2", "1"])
    result = await play(memory, requests, VECTORS, lambda done: None, every=2)
    first, second = result.consolidations
    assert memory.consolidations == 2
    assert (first.at, first.corrections, first.right, first.lost, first.won, first.seconds, first.passed) == (2, 2, 1, 1, 1, 2.0, False)
    assert (second.at, second.right, second.lost) == (4, 1, 0)
    assert result.lost == 1
    assert (await play(Scripted([None] * 5), requests, VECTORS, lambda done: None, every=2)).consolidations == []


async def test_survival_asks_for_the_corrections_that_hold():
    memory = Consolidating([])
    memory.told = [("a", "1", None), ("b", "2", None)]
    found = await survival(memory, {"a": "1", "b": "other"}, 7)
    assert (found.at, found.corrections, found.right, found.lost, found.won) == (7, 2, 1, 1, 0)


async def test_memory_that_consolidates_by_itself_may_do_so_after_each_correction():
    class Settling(Scripted):
        settled = 0

        async def settle(self):
            self.settled += 1

    memory = Settling(["x", "y", None])
    played = await play(memory, [Request("a", "x"), Request("a", "x"), Request("b", "x")], VECTORS, lambda done: None)
    assert (memory.settled, played.mistakes, played.consolidations) == (2, 2, [])
