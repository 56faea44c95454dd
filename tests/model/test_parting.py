"""Answers that live side by side and answers of which one replaced the other are told apart at a consolidation, by their corrections."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from memory_reference import TINY, book_of, unit
from numpy.typing import NDArray

from model import Lesson, Recall, State, parting, succession
from model.codes import packed_code
from model.config import RecallConfig
from model.consolidation import consolidate
from model.parting import apart, part
from model.state import Named, initial
from model.succession import PARENT, SUCCESSOR

T = TypeVar("T")
SOON = replace(TINY, slow_from=40, window=400, places=320)  # all corrections here have a place and a pair
Keys = NDArray[np.float32]


def ended(work: Generator[float, None, T]) -> T:
    """What comes of work that is done in steps."""
    while True:
        try:
            assert 0.0 <= next(work) <= 1.0
        except StopIteration as stopped:
            found: T = stopped.value
            return found


def subjects(seed: int, *counts: int, between: float, width: int = 64) -> list[torch.Tensor]:
    """Keys of several answers in one subject: `between` is how far their own centres lie from that of the subject."""
    rng = np.random.default_rng(seed)
    subject = rng.standard_normal(width)
    centres = [subject + between * rng.standard_normal(width) for _ in counts]
    return [torch.tensor(unit(centre + 0.8 * rng.standard_normal((count, width)))) for centre, count in zip(centres, counts, strict=True)]


# --- whether corrections of two answers are told apart


def test_answers_with_situations_of_their_own_are_told_apart_and_answers_in_the_same_ones_are_not() -> None:
    for seed in range(6):
        assert apart(*subjects(seed, 30, 40, between=0.8), 3.0)
        assert not apart(*subjects(seed, 30, 40, between=0.0), 3.0)
        assert not apart(*subjects(seed, 150, 6, between=0.0), 3.0)


def test_so_few_corrections_that_chance_may_have_told_them_tell_nothing() -> None:
    for counts in ((3, 3), (1, 200), (0, 5), (200, 2)):
        assert not apart(*subjects(1, *counts, between=3.0), 3.0), counts
    assert apart(*subjects(1, 12, 12, between=3.0), 3.0)


def test_each_correction_is_told_by_all_others_of_both_answers_which_weigh_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The closed form is that of leaving each out; the threshold lies between two counts of what is told rightly."""
    old, new = (keys.double().numpy() for keys in subjects(4, 25, 14, between=0.2))
    keys, side = np.concatenate([old, new]), np.array([-1.0] * 25 + [1.0] * 14)
    noise = 0.1 * 2 * np.where(side < 0, 25, 14) / 39
    told = []
    for left in range(39):
        rest = np.arange(39) != left
        among = np.exp(3.0 * (keys[rest] @ keys[rest].T - 1.0)) + np.diag(noise[rest])
        said = np.exp(3.0 * (keys[left] @ keys[rest].T - 1.0)) @ np.linalg.solve(among, side[rest])
        told.append(said * side[left] > 0)
    share = (np.mean(told[:25]) + np.mean(told[25:])) / 2
    assert 0.6 < share < 1.0
    monkeypatch.setattr(parting, "CHANCE", 0.0)
    for known, wanted in ((share - 1e-6, True), (share + 1e-6, False)):
        monkeypatch.setattr(parting, "KNOWN", known)
        assert apart(torch.tensor(old), torch.tensor(new), 3.0) == wanted


# --- what comes of it


def family(*kin: tuple[int, int]) -> Named:
    """Answers whose parents and successors are these."""
    fast = initial(TINY).levels["fast"]
    for place in range(len(kin)):
        succession.add(fast, packed_code(f"answer {place}", TINY.code_width), -1, 0.0)
    fast["kin"][:] = torch.tensor(kin)
    fast["evidence"][:] = 0.7
    return fast


def test_a_succession_between_answers_that_are_told_apart_ends_and_is_not_born_again_the_others_stay() -> None:
    mixed, (here, there) = subjects(1, 40, between=0.0)[0], subjects(2, 40, 40, between=0.8)
    keys = torch.cat([mixed[:20], here, there, mixed[20:]])
    answers = torch.tensor([0] * 20 + [1] * 40 + [2] * 40 + [3] * 20)
    fast = family((-1, 3), (-1, 2), (1, -1), (0, -1), (1, -1))  # 0 → 3 in the same situations, 1 → 2 in others, 4 never taught
    ended(part(fast, keys, answers, 3.0))
    assert fast["kin"].tolist() == [[-1, 3], [-1, -1], [-1, -1], [0, -1], [1, -1]]
    assert fast["evidence"][:, 0].tolist() == pytest.approx([0.7, 0.7, 0.0, 0.7, 0.7])


def test_only_the_newest_corrections_of_an_answer_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parting, "MOST", 30)
    here, there = subjects(2, 30, 30, between=0.8)
    elsewhere = subjects(3, 30, between=0.0)[0]
    keys, answers = torch.cat([elsewhere, there, here]), torch.tensor([0] * 30 + [1] * 30 + [0] * 30)
    fast, newest = family((-1, 1), (0, -1)), family((-1, 1), (0, -1))
    ended(part(fast, keys, answers, 3.0))
    ended(part(newest, keys[30:], answers[30:], 3.0))
    assert fast["kin"].tolist() == newest["kin"].tolist() == [[-1, -1], [-1, -1]]


# --- in a memory


def lessons_of(pairs: Sequence[tuple[Keys, str]]) -> list[Lesson]:
    return [Lesson(key, answer, 7, seq) for seq, (key, answer) in enumerate(pairs, 1)]


def sorted_by_answer(seed: int, config: RecallConfig) -> tuple[list[Lesson], list[tuple[Keys, str]]]:
    """Six answers of one subject, each done with before the next comes; and other situations of each."""
    told = [keys.numpy() for keys in subjects(seed, *[30] * 6, between=0.6, width=config.key_width)]
    pairs = [(key, f"answer {place}") for place, keys in enumerate(told) for key in keys[:20]]
    return lessons_of(pairs), [(key, f"answer {place}") for place, keys in enumerate(told) for key in keys[20:]]


def right(config: RecallConfig, state: State, asked: Sequence[tuple[Keys, str]]) -> float:
    found = Recall(config).answer(state, np.stack([key for key, _ in asked]), book_of(6, config), top_k=1)
    return float(np.mean([f"answer {one[0].index}" == answer for one, (_, answer) in zip(found, asked, strict=True)]))


def test_a_consolidation_gives_answers_back_that_passed_as_replaced_and_the_state_it_was_given_stays() -> None:
    lessons, asked = sorted_by_answer(1, SOON)
    recall = Recall(SOON)
    plain = recall.fold(recall.initial(), lessons)
    assert not len(succession.replaced(plain.levels["fast"])[0]), "nothing is replaced here by itself"
    state = plain.clone()
    for old, new in ((0, 1), (2, 3)):
        state.levels["fast"]["kin"][old, SUCCESSOR], state.levels["fast"]["kin"][new, PARENT] = new, old
    assert right(SOON, state, asked) < right(SOON, plain, asked) - 0.1
    kept = state.digest()
    after, wanted = ended(consolidate(SOON, state, lessons)).state, ended(consolidate(SOON, plain, lessons)).state
    assert state.digest() == kept
    assert not len(succession.replaced(after.levels["fast"])[0])
    for name in ("turn", "keys", "errors"):
        assert torch.equal(after.levels["slow"][name], wanted.levels["slow"][name]), "as if it had never passed so"
    assert right(SOON, after, asked) == right(SOON, wanted, asked) > 0.9
    again = ended(consolidate(SOON, after, lessons)).state
    assert again.digest() == after.digest()


def test_a_policy_that_changed_stays_changed() -> None:
    rng = np.random.default_rng(5)
    centres = rng.standard_normal((3, SOON.key_width))
    pairs = []
    for policy in range(2):
        for number in range(60):
            key = unit(centres[number % 3] + 0.8 * rng.standard_normal(SOON.key_width))
            pairs.append((key, f"answer {number % 3 + 3 * policy}"))
    recall, lessons = Recall(SOON), lessons_of(pairs)
    state = recall.fold(recall.initial(), lessons)
    fast = state.levels["fast"]
    for place in range(3):
        fast["kin"][place, SUCCESSOR], fast["kin"][place + 3, PARENT] = place + 3, place
    after = ended(consolidate(SOON, state, lessons)).state
    assert torch.equal(after.levels["fast"]["kin"], fast["kin"])
    assert torch.equal(after.levels["fast"]["evidence"], fast["evidence"])
