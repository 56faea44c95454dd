"""The fast level: its write against an explicit feature space, the ring, and the middle level as a level of the continuum memory."""

import math
from dataclasses import replace

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memory_reference import MINUTE, TINY, bits_of, key_pair, stream, taught, unit, unit_keys
from numpy.typing import NDArray

from model import Lesson, Recall, State
from model.codes import code
from model.features import FeatureMap
from model.hope.cms_learning import accumulate, advance, initial_state
from model.hope.level import LevelConfig
from model.hope.rules import DELTA, HEBBIAN, proximal_rate, write
from model.levels import Clock
from model.state import Named, initial
from model.window import Window, at_home

CONFIG = replace(TINY, key_width=12, code_width=16, window=40, frequencies=20)
Matrix = NDArray[np.float64]


def filled(count: int, seed: int) -> tuple[Window, Named, Matrix]:
    """A window, its tensors with `count` pairs of any errors and rates, and φ (count + 3, …) of their keys and of three more.

    φ are exact finite features of the kernel: the rows of the Cholesky factor of its matrix.
    """
    window, fast = Window(CONFIG.window, CONFIG.sharpness), initial(CONFIG).levels["fast"]
    rng = np.random.default_rng(seed)
    keys = unit_keys(count + 3, seed, CONFIG.key_width, centres=4)
    for key in keys[:count]:
        row = window.place(fast, torch.tensor(key), 0, float(rng.uniform(0.2, 5)))
        fast["errors"][row] = torch.tensor(rng.standard_normal(CONFIG.code_width), dtype=torch.float32) / 4
    whole = keys.astype(np.float64)
    K = np.exp(CONFIG.sharpness * (whole @ whole.T - 1))
    return window, fast, np.linalg.cholesky(K + 1e-9 * np.eye(len(K)))


def weights_of(fast: Named, phi: Matrix) -> Matrix:
    """W = Σ_j e_j φ_jᵀ."""
    count = int(fast["marks"][0, 0])
    return fast["errors"][:count].double().numpy().T @ phi[:count]


# --- the write


def test_reading_is_the_linear_memory_of_the_kernels_features() -> None:
    window, fast, phi = filled(30, 1)
    keys = unit_keys(33, 1, CONFIG.key_width, centres=4)
    for key, features in zip(keys, phi, strict=True):
        assert np.abs(window.read(fast, torch.tensor(key)).numpy() - weights_of(fast, phi) @ features).max() < 1e-5


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.integers(1, 37), st.integers(1, 14), st.booleans(), st.integers(0, 10**6))
def test_a_write_is_the_nearest_memory_with_less_error_in_which_the_first_pair_is_exact(
    count: int, size: int, beside: bool, seed: int
) -> None:
    window, fast, phi = filled(count, seed)
    rng = np.random.default_rng(seed + 1)
    rows = rng.permutation(count)[:size].tolist()
    values = unit(rng.standard_normal((len(rows), CONFIG.code_width)))
    others = rng.standard_normal(values.shape).astype(np.float32) / 3 if beside else np.zeros_like(values)
    before = weights_of(fast, phi)
    window.write(fast, rows, torch.tensor(values), torch.tensor(others) if beside else None)
    after = weights_of(fast, phi)

    # the minimum over ΔW in the features' own space: ΔW (1 + Σ η φφᵀ) = Σ η (v − o) φᵀ, o what all levels said
    chosen, rates = phi[rows], fast["rates"][rows, 0].double().numpy()
    rates[0] = 1e7  # as good as infinite
    missing = values.astype(np.float64) - others - chosen @ before.T
    nearest = np.linalg.solve(np.eye(phi.shape[1]) + (chosen.T * rates) @ chosen, (chosen.T * rates) @ missing).T
    assert np.abs(after - (before + nearest)).max() < 2e-4

    def objective(change: Matrix) -> float:
        return float((change**2).sum() + (rates[:, None] * (missing - chosen @ change.T) ** 2).sum()) / 2

    rates[0] = 0.0  # among changes that leave the first pair exact
    block, across = after - before, np.eye(phi.shape[1]) - np.outer(chosen[0], chosen[0])
    for _ in range(5):
        assert objective(block) <= objective(block + 1e-2 * rng.standard_normal(block.shape) @ across) + 1e-5
    assert np.abs(after @ chosen[0] + others[0] - values[0]).max() < 1e-4


def test_a_pair_alone_moves_by_the_proximal_step_of_the_delta_rule_and_the_newest_takes_the_rest() -> None:
    # own words, far from the situation, are in the block beside the newest pair
    key, words = key_pair(-1.0 + 1e-7, 2)
    recall = Recall(replace(TINY, sharpness=20.0, rate=2.0, own_words=0.25))
    state = recall.update(recall.initial(), Lesson(key, "right", 3, 1, words))
    value, rate = torch.tensor(code("right", TINY.code_width)), torch.tensor(0.5)
    weight, features = torch.zeros(TINY.code_width, 1), torch.ones(1)  # a kernel of one key with itself is a feature of length 1
    moved, _ = write(
        weight,
        None,
        features,
        DELTA.error(weight @ features, value),
        rate=proximal_rate(rate, features @ features),
        retention=torch.tensor(1.0),
        decay=None,
        erase=False,
    )
    assert np.abs(recall.read(state, words) - moved[:, 0].numpy()).max() < 1e-6
    assert np.abs(recall.read(state, words) - 0.5 / 1.5 * value.numpy()).max() < 1e-6
    assert np.abs(recall.read(state, key) - value.numpy()).max() < 1e-6


def test_a_lesson_repairs_what_it_would_do_to_its_neighbours() -> None:
    key, near = key_pair(0.8, 3)
    hurt = []
    for neighbours in (0, 1):
        recall = Recall(replace(TINY, neighbours=neighbours, replaced_at=1e9))
        state = taught([Lesson(near, "near", 3, 1), Lesson(key, "other", 3, 2)], recall)
        hurt.append(float(np.linalg.norm(recall.read(state, near) - code("near", TINY.code_width))))
    assert hurt[1] < hurt[0] / 2


# --- the ring


def test_home_is_made_of_the_newest_pairs_also_when_the_ring_has_come_round() -> None:
    window, fast = Window(40, 5.0), {name: tensor.clone() for name, tensor in initial(CONFIG).levels["fast"].items()}
    old, new = torch.eye(CONFIG.key_width)[:2]
    for number in range(76):  # 43 pairs in one place, then 33 in another, in rows 3 to 35
        if number >= 40:
            window.empty(fast, [number % 40])
        window.place(fast, old if number < 43 else new, 0, 1.0)
    rows = window.newest_of(fast, 0)
    assert at_home(*window.among(fast, rows, new), 0.25)
    assert not at_home(*window.among(fast, rows, old), 0.25), "seven older pairs are left, the newest 32 lie elsewhere"


@settings(max_examples=60, derandomize=True, deadline=None)
@given(st.lists(st.integers(1, 9), max_size=25), st.integers(2, 12))
def test_pair_n_lies_in_row_n_mod_window_and_the_oldest_leave_first(counts: list[int], size: int) -> None:
    window, fast = Window(size, 5.0), initial(replace(CONFIG, window=40)).levels["fast"]
    fast = {name: tensor[:size].clone() for name, tensor in fast.items()}
    held: list[int] = []
    taken = 0
    for count in counts:
        for _ in range(min(count, size - len(held))):
            key = torch.zeros(CONFIG.key_width)
            key[taken % CONFIG.key_width] = 1.0
            assert window.place(fast, key, taken, 1.0 + taken) == taken % size
            held.append(taken)
            taken += 1
        leaving = window.oldest(fast, min(count, size))
        leave = max(len(held) - size + min(count, size), 0)
        assert leaving == [pair % size for pair in held[:leave]]
        if leaving:
            window.empty(fast, leaving)
        held = held[leave:]
        assert fast["marks"].tolist() == [[taken, taken - len(held)]]
        assert {int(fast["rates"][pair % size, 0]) - 1 for pair in held} == set(held)
        assert {int(fast["answers"][pair % size, 0]) for pair in held} == set(held)
        for row in set(range(size)) - {pair % size for pair in held}:
            assert not any(bool(fast[name][row].any()) for name in ("keys", "errors", "rates", "answers"))


def test_the_pairs_touched_are_the_nearest_that_are_still_held_nearest_first() -> None:
    window, fast, _ = filled(30, 4)
    asked = unit_keys(1, 40, CONFIG.key_width)[0]
    window.empty(fast, window.oldest(fast, 20))
    assert fast["marks"].tolist() == [[30, 10]]
    cosines = (fast["keys"] @ torch.tensor(asked)).numpy()
    order = sorted(range(10, 30), key=lambda row: -cosines[row])
    for count in (1, 5, 20, 29):
        assert window.touched(fast, window.closeness(fast, torch.tensor(asked)), count) == order[:count]


# --- the middle level


def test_a_pair_reads_at_its_own_key_the_same_before_and_after_it_is_handed_on() -> None:
    first, second = key_pair(0.7, 5)
    lessons = [Lesson(first, "first", 1, 1), Lesson(second, "second", 1, 2)]
    small = replace(TINY, window=5, middle_period=2, neighbours=4)  # keeps one pair beside its reserve
    wide = replace(small, window=50)
    handed, held = taught(lessons, Recall(small)), taught(lessons, Recall(wide))
    assert (handed.levels["fast"]["marks"].tolist(), held.levels["fast"]["marks"].tolist()) == ([[2, 1]], [[2, 0]])
    assert handed.levels["middle"]["weights"].any()
    assert np.abs(Recall(small).read(handed, first) - Recall(wide).read(held, first)).max() < 1e-6
    for key in unit_keys(20, 6):
        assert np.abs(Recall(small).read(handed, key) - Recall(wide).read(held, key)).max() < 0.15 / math.sqrt(TINY.code_width)


def test_what_many_pairs_said_is_read_the_same_but_for_the_noise_of_the_features() -> None:
    lessons = [replace(lesson, tokens=16) for lesson in stream(TINY, 40, 7)]
    small = replace(TINY, window=40, frequencies=4_096)
    wide = replace(small, window=200)
    before = taught(lessons[:-1], Recall(small))
    held = replace_window(before, 200)
    after, kept = Recall(small).update(before, lessons[-1]), Recall(wide).update(held, lessons[-1])
    left = int(after.levels["fast"]["marks"][0, 1]) - int(before.levels["fast"]["marks"][0, 1])
    assert left > 0
    errors = float(kept.levels["fast"]["errors"].norm(dim=1).max())
    for key in unit_keys(30, 8):
        far = np.linalg.norm(Recall(small).read(after, key) - Recall(wide).read(kept, key))
        assert far < 5 * left * errors / math.sqrt(2 * small.frequencies)


def replace_window(state: State, window: int) -> State:
    """The same pairs in a larger window, from which none leave."""
    other = state.clone()
    fast, (taken, handed) = other.levels["fast"], state.levels["fast"]["marks"][0].tolist()
    for name in ("keys", "errors", "rates", "answers"):
        old = fast[name]
        fast[name] = torch.zeros(window, old.shape[1], dtype=old.dtype)
        for pair in range(handed, taken):
            fast[name][pair % window] = old[pair % len(old)]
    other.config_hash = replace(TINY, window=window, frequencies=4_096).hash
    return other


def test_the_middle_level_is_a_level_of_the_continuum_memory() -> None:
    """Eq. 71 at the boundary: features frozen, the matrix above them learns by the sum of its tokens' gradients, at rate 1."""
    recall, features = Recall(MINUTE), FeatureMap(MINUTE)
    level = LevelConfig(
        "middle", MINUTE.middle_period, 2 * MINUTE.frequencies, rate=1.0, rule="sgd", clip=math.inf, reduction="sum", adapt="down"
    )
    base = {"down": torch.zeros(MINUTE.code_width, 2 * MINUTE.frequencies)}
    learned = initial_state(level, base, [], rows=1, dtype=torch.float32)
    state, written = recall.initial(), 0
    for lesson in stream(MINUTE, 60, 9):
        twin = state.clone()
        twin.clock = Clock()
        recall.apply_(twin, replace(lesson, tokens=1))  # the same lesson at a moment where no pair leaves
        tokens = min(lesson.tokens, MINUTE.middle_period)
        before = state.clock
        recall.apply_(state, replace(lesson, tokens=tokens))
        moment = torch.tensor([before.tokens]), torch.tensor([state.clock.tokens])
        for pair in range(int(twin.levels["fast"]["marks"][0, 1]), int(state.levels["fast"]["marks"][0, 1])):
            row = pair % MINUTE.window
            psi, error = features(twin.levels["fast"]["keys"][row].clone()), twin.levels["fast"]["errors"][row]
            gradient = torch.outer(HEBBIAN.error(learned.delta["down"][0] @ psi, error), psi)
            [learned] = accumulate([level], (learned,), ({"down": gradient[None]},), torch.tensor([1]))
            written += 1
        [learned] = advance([level], [base], (learned,), *moment)
        assert (state.levels["middle"]["weights"] - learned.delta["down"][0]).abs().max() < 1e-5
    assert written > 50
    assert (learned.clipped.tolist(), learned.refused.tolist()) == ([0], [0])


def test_a_handed_on_pair_is_out_of_reach_of_the_rule_that_rewrites_the_held_ones() -> None:
    recall = Recall(MINUTE)
    state = recall.fold(recall.initial(), stream(MINUTE, 30, 10))
    held = state.clone()
    for row in held.levels["fast"]["rates"][:, 0].eq(0).nonzero().flatten().tolist():
        held.levels["fast"]["answers"][row] = 1  # what no held pair refers to is read by nobody
    lesson = replace(stream(MINUTE, 31, 10)[-1], tokens=1)
    one, other = recall.update(state, lesson), recall.update(held, lesson)
    assert bits_of(one)["fast.errors"] == bits_of(other)["fast.errors"]
    assert bits_of(one)["middle.weights"] == bits_of(other)["middle.weights"]
