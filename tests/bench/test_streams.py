"""The protocol's arithmetic: order, policy change, mistakes and windows."""

import pytest

from bench.streams import Request, changed_intents, play, stream, tally

ROWS = [(f"text {number}", f"intent {number % 10}") for number in range(50)]
NEW = " (new policy)"


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
    result = await play(memory, requests, done.append)
    assert memory.told == [("a", "1", None), ("b", "2", "1")]
    assert (result.requests, result.mistakes, result.silent, result.avoidable) == (4, 2, 1, 0)
    assert (result.before, result.after, result.end) == (0.0, 1.0, 1.0)
    assert (result.size_bytes, sum(done)) == (7, 4)


def test_first_appearance_of_an_answer_is_no_avoidable_mistake():
    requests = [Request("a", "1"), Request("b", "1"), Request("a", "1" + NEW), Request("b", "1" + NEW)]
    result = tally([False, False, False, False], requests, 1, 0, 0.0, 0.0)
    assert (result.mistakes, result.avoidable) == (4, 2)


def test_windows_lie_before_the_middle_after_it_and_at_the_end():
    hits = [False] * 1_000 + [True] * 1_000 + [True, False] * 500 + [False] * 750 + [True] * 250
    result = tally(hits, [Request("a", "1")] * len(hits), 0, 0, 4.0, 1.0)
    assert (result.window, result.before, result.after, result.end) == (1_000, 1.0, 0.5, 0.25)
    assert result.ask_ms == pytest.approx(1.0)
    assert result.tell_ms == pytest.approx(1e3 / hits.count(False))
