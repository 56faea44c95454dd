"""Lessons of several banks in one operation: each bank learns as if it were alone."""

import numpy as np
import pytest

from model import Lesson, Recall, RecallConfig
from workers.learning import Taking, learn_together
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
