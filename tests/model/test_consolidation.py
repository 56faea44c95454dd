"""Consolidation: what corrections say that hold, in the slow level. Checked against the formulas in float64, and by what it promises."""

from collections.abc import Generator, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
import pytest
import torch
from memory_reference import MINUTE, TINY, bits_of, book_of, policies, reference_code, stream, unit, unit_keys
from numpy.typing import NDArray

from model import Lesson, Parcel, Recall, RecallConfig, Slots, State, checkpoint, consolidation, inspection, solving, turning, wide
from model.choosing import NOISES, USUAL, choose
from model.codes import packed_code
from model.consolidation import Basis, consolidate, hardest
from model.features import FeatureMap
from model.holding import Material
from model.repairing import SURE, Repair
from model.solving import Half, solve
from model.survey import Survey

T = TypeVar("T")

FEW = replace(MINUTE, slow_from=10, code_width=64, window=112, places=32)  # room for 80 pairs
ROOMY = replace(FEW, window=300, places=200)


def consolidated(config: RecallConfig, state: State, lessons: Sequence[Lesson]) -> State:
    work, shares = consolidate(config, state, lessons), []
    while True:
        try:
            shares.append(next(work))
        except StopIteration as ended:
            assert shares == sorted(shares)
            assert all(0.0 <= share <= 1.0 for share in shares)
            found: State = ended.value.state
            return found


def ended(work: Generator[float, None, T]) -> T:
    """What comes of work that is done in steps."""
    while True:
        try:
            next(work)
        except StopIteration as stopped:
            found: T = stopped.value
            return found


def places_of(slow: dict[str, torch.Tensor], count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Keys and errors of the first places, (count, …) each, as they are kept; they are all in one block."""
    keys, errors = slow["keys"][:count].double() * slow["scales"][:count], slow["errors"][:, :count].T.double() * slow["sizes"][:count]
    return keys.numpy(), errors.numpy()


def clear_values(lessons: Sequence[Lesson], width: int, answers: int = 6) -> NDArray[np.float64]:
    """What the slow level learns for each lesson: a vector that says its answer, and of the others less than its code does."""
    codes = np.array([reference_code(f"answer {answer}", width) for answer in range(answers)])
    clear = np.linalg.solve(codes @ codes.T + 0.1 * np.eye(answers), codes)
    clear /= (clear * codes).sum(axis=1, keepdims=True)
    assert np.abs(clear @ codes.T - np.eye(answers)).max() < 0.5 * np.abs(codes @ codes.T - np.eye(answers)).max()
    return np.asarray(clear[[int(lesson.right.removeprefix("answer ")) for lesson in lessons]])


def learned(config: RecallConfig, lessons: Sequence[Lesson]) -> State:
    recall = Recall(config)
    return recall.fold(recall.initial(), lessons)


def right(config: RecallConfig, state: State, lessons: Sequence[Lesson], answers: int) -> list[bool]:
    """Whether each lesson's own answer is given at its key."""
    keys = np.stack([lesson.key for lesson in lessons])
    found = Recall(config).answer(state, keys, book_of(answers, config), top_k=1)
    return [f"answer {one[0].index}" == lesson.right for one, lesson in zip(found, lessons, strict=True)]


def distinct(config: RecallConfig, count: int, seed: int, *, answers: int = 6, spread: float = 0.8) -> list[Lesson]:
    """Lessons whose answer follows from the situation, without own words."""
    rng = np.random.default_rng(seed)
    centres, at = rng.standard_normal((answers, config.key_width)), rng.integers(answers, size=count)
    keys = unit(centres[at] + spread * rng.standard_normal((count, config.key_width)))
    return [Lesson(key, f"answer {answer}", 3, 1 + place) for place, (key, answer) in enumerate(zip(keys, at, strict=True))]


# --- what it is


@pytest.mark.parametrize("config", [FEW, ROOMY], ids=["few places", "a place for each"])
def test_a_consolidation_is_repeatable_bit_for_bit_and_leaves_what_it_was_given(config: RecallConfig) -> None:
    lessons = stream(config, 120, 1, answers=6)
    state = learned(config, lessons)
    before = bits_of(state)
    first, second = consolidated(config, state, lessons), consolidated(config, state, lessons)
    assert bits_of(first) == bits_of(second) != before
    assert bits_of(state) == before
    assert bits_of(consolidated(config, first, lessons)) == bits_of(first), "nothing was taught since"
    assert (first.clock, first.watermark) == (state.clock, state.watermark)


def test_a_bank_with_few_corrections_stays_as_it_is() -> None:
    config = replace(FEW, slow_from=40)
    lessons = distinct(config, 39, 2)
    state = learned(config, lessons)
    assert bits_of(consolidated(config, state, lessons)) == bits_of(state)
    lessons += [replace(lessons[0], seq=40)]  # the same situation: not one more
    state = learned(config, lessons)
    assert bits_of(consolidated(config, state, lessons)) == bits_of(state)
    lessons += [replace(distinct(config, 1, 3)[0], seq=41)]
    state = learned(config, lessons)
    assert int(consolidated(config, state, lessons).levels["slow"]["held"][0, 0]) > 0
    assert bits_of(consolidated(config, learned(config, []), [])) == bits_of(learned(config, []))


def test_the_errors_are_those_of_kernel_ridge_regression_on_the_keys_as_they_are_kept() -> None:
    lessons = distinct(ROOMY, 60, 5)
    state = consolidated(ROOMY, learned(ROOMY, lessons), lessons)
    slow = state.levels["slow"]
    keys, errors = places_of(slow, 60)
    raw = np.array([lesson.key for lesson in lessons], np.float64)
    turned = unit(raw + raw @ slow["turn"].double().numpy().T)
    np.testing.assert_allclose(keys, turned, atol=0.5 * np.abs(turned).max() / 127 + 1e-6)
    kernel = np.exp(ROOMY.slow_sharpness * (keys @ keys.T - 1.0))
    values = clear_values(lessons, ROOMY.code_width)
    exact = [np.linalg.solve(kernel + noise * np.eye(60), values) for noise in NOISES]
    steps = np.abs(errors).max(axis=1, keepdims=True) / 127
    assert min(np.abs(errors - one).max() for one in exact) <= 0.51 * steps.max(), "one of the noises, rounded to 8 bits"
    assert not state.levels["fast"]["errors"].any(), "all of it is right, nothing is left to the fast level"
    assert int(state.levels["fast"]["marks"][0, 0]) == 60, "the pairs are there for lessons to write again"
    other = unit_keys(1, 6, ROOMY.key_width)[0]
    at = unit(other + slow["turn"].double().numpy() @ other)
    near = np.exp(ROOMY.slow_sharpness * (keys @ at - 1.0))
    np.testing.assert_allclose(Recall(ROOMY).read(state, other), near @ errors, atol=1e-4)


def test_where_corrections_are_more_than_places_those_that_the_others_tell_least_about_are_held(monkeypatch: pytest.MonkeyPatch) -> None:
    lessons = distinct(FEW, 90, 7)
    keys, values = np.array([lesson.key for lesson in lessons]), clear_values(lessons, FEW.code_width)
    material = Material(
        torch.tensor(keys), torch.zeros(90, dtype=torch.int64), torch.tensor([1.0, 0.5] * 45), torch.tensor([True, False] * 45)
    )
    among = np.exp(FEW.slow_sharpness * (keys.astype(np.float64) @ keys.T - 1.0)) + np.diag(0.1 / material.shares.double().numpy())
    lengths = np.linalg.norm(np.linalg.solve(among, values), axis=1)

    def held(most: int) -> list[int]:
        found: list[int] = ended(hardest(FEW, material, torch.tensor(values, dtype=torch.float32), 0.1, most)).tolist()
        return found

    words = np.flatnonzero(~material.taught.numpy())
    by_words = words[np.argsort(-lengths[words])]
    assert held(72) == sorted([*range(0, 90, 2), *by_words[:27].tolist()]), "words after corrections"
    corrections = np.arange(0, 90, 2)[np.argsort(-lengths[::2])]
    assert held(30) == sorted(corrections[:30].tolist())
    assert held(90) == held(99) == list(range(90))
    monkeypatch.setattr(consolidation, "GROUP", 40)
    apart = held(72)
    assert apart == sorted(set(apart)), "three groups of thirty"
    assert len(apart) == 72 > len(set(apart) & {*range(0, 90, 2), *by_words[:27].tolist()}) > 55
    same = Material(torch.tensor(keys[:1]).repeat(90, 1), material.answers, torch.ones(90), torch.ones(90, dtype=torch.bool))
    once = torch.tensor(values[:1], dtype=torch.float32).repeat(90, 1)
    monkeypatch.setattr(consolidation, "GROUP", 1)
    assert ended(hardest(FEW, same, once, 0.1, 10)).tolist() == list(range(80, 90)), "of equal ones the newest"
    state = consolidated(FEW, learned(FEW, lessons), lessons)
    counts = int(state.levels["slow"]["held"][0, 0]), int(state.levels["fast"]["marks"][0, 0])
    assert counts == (32, 40), "half of the room of the window"


def test_with_fewer_places_errors_of_places_and_pairs_are_the_best_that_they_can_say_together() -> None:
    lessons = distinct(FEW, 90, 7)
    state = consolidated(FEW, learned(FEW, lessons), lessons)
    slow, fast = state.levels["slow"], state.levels["fast"]
    places, errors = places_of(slow, 32)
    pairs = fast["keys"][:40].double().numpy()
    raw = np.array([lesson.key for lesson in lessons], np.float64)
    turned = unit(raw + raw @ slow["turn"].double().numpy().T).astype(np.float64)

    def kernels(keys: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.hstack([np.exp(FEW.slow_sharpness * (keys @ places.T - 1.0)), np.exp(FEW.sharpness * (keys @ pairs.T - 1.0))])

    near, among = kernels(turned), np.zeros((72, 72))
    among[:32, :32], among[32:, 32:] = kernels(places)[:, :32], kernels(pairs)[:, 32:]
    values, misses = clear_values(lessons, FEW.code_width), []
    for noise in NOISES:
        best = np.linalg.solve(near.T @ near / noise + among + 1e-3 * np.eye(72), near.T @ values / noise)
        misses.append(np.abs(near @ best - near @ np.vstack([errors, fast["errors"][:40].double().numpy()])).max())
    assert min(misses) < 0.02, "one of the noises, rounded to 8 bits"


def test_what_places_and_pairs_leave_at_all_corrections_is_the_middle_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wide, "ROWS", 40)
    lessons = distinct(FEW, 90, 7)
    state = consolidated(FEW, learned(FEW, lessons), lessons)
    slow, fast, middle = (state.levels[level] for level in ("slow", "fast", "middle"))
    assert int(middle["taken"]) == 90 - 32 - 40, "those that have no place and no pair"
    places, errors = places_of(slow, 32)
    turned = unit(np.array([lesson.key + slow["turn"].numpy() @ lesson.key for lesson in lessons])).astype(np.float64)
    pairs, owed = fast["keys"][:40].double().numpy(), fast["errors"][:40].double().numpy()
    settled = np.exp(FEW.slow_sharpness * (turned @ places.T - 1.0)) @ errors
    features = np.stack([FeatureMap(FEW)(torch.tensor(key, dtype=torch.float32)).double().numpy() for key in turned])
    left = clear_values(lessons, FEW.code_width) - settled - np.exp(FEW.sharpness * (turned @ pairs.T - 1.0)) @ owed
    exact = [
        np.linalg.solve(features.T @ features / noise + wide.LEFT * np.eye(features.shape[1]), features.T @ left / noise)
        for noise in NOISES
    ]
    assert min(np.abs(middle["weights"].double().numpy() - one.T).max() for one in exact) < 1e-4


@pytest.mark.parametrize("count", [30, 32, 33, 60, 72])
def test_where_all_have_a_place_or_a_pair_nothing_is_left_to_the_middle_level(count: int) -> None:
    lessons = distinct(FEW, count, 10)
    middle = consolidated(FEW, learned(FEW, lessons), lessons).levels["middle"]
    assert not middle["taken"].any()
    assert not middle["weights"].any()


def test_facts_that_have_no_place_and_are_like_no_other_are_known() -> None:
    config = replace(FEW, frequencies=256)
    keys = unit_keys(140, 9, config.key_width)
    lessons = [Lesson(key, f"answer {place % 50}", 3, 1 + place) for place, key in enumerate(keys)]
    state = consolidated(config, learned(config, lessons), lessons)
    assert all(right(config, state, lessons, 50))
    state.levels["middle"]["weights"].zero_()
    assert sum(right(config, state, lessons, 50)) < 120, "and it is the middle level that knows them"


def test_a_large_system_is_solved_exactly_in_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(solving, "BLOCK", 16)
    keys = unit_keys(70, 8, 24).astype(np.float64)
    matrix, values = np.exp(3.0 * (keys @ keys.T - 1.0)) + 0.03 * np.eye(70), np.random.default_rng(8).standard_normal((70, 5))
    found = torch.tensor(values, dtype=torch.float32)
    half = Half(70)
    for rows, panel in half:
        panel.copy_(torch.tensor(matrix)[rows, : rows.stop])
    assert sum(panel.numel() for panel in half.panels) < 0.65 * matrix.size, "little of the other half is held"
    shares = list(solve(half, found))
    np.testing.assert_allclose(found.numpy(), np.linalg.solve(matrix, values), atol=1e-3)
    assert len(shares) == 5 + 4 + 3 + 2 + 1, "a step for each block of rows that a block changes"
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1.0)


@pytest.mark.parametrize(("places", "pairs"), [(37, 21), (32, 16), (16, 1), (5, 40), (33, 0), (48, 47)])
def test_a_system_in_panels_is_that_of_all_places_and_pairs(monkeypatch: pytest.MonkeyPatch, places: int, pairs: int) -> None:
    """Wherever the last place and the first pair lie in a panel."""
    monkeypatch.setattr(solving, "BLOCK", 16)
    monkeypatch.setattr(consolidation, "BLOCK", 20)
    keys = unit_keys(places + pairs + 50, 31, FEW.key_width)
    held, asked = keys[: places + pairs].astype(np.float64), keys[places + pairs :]
    shares, values = np.tile([1.0, 0.5], 25), np.random.default_rng(32).standard_normal((50, 5))
    material = Material(
        torch.tensor(asked), torch.zeros(50, dtype=torch.int64), torch.tensor(shares, dtype=torch.float32), torch.ones(50, dtype=torch.bool)
    )
    basis = Basis(torch.tensor(keys[:places]), torch.tensor(keys[places : places + pairs]), FEW)
    system, right = ended(basis.equations(material, torch.tensor(values, dtype=torch.float32), 0.1))
    sharpness = np.repeat([FEW.slow_sharpness, FEW.sharpness], [places, pairs])
    near = np.exp(sharpness * (asked.astype(np.float64) @ held.T - 1.0))
    kinds = np.repeat([0, 1], [places, pairs])
    among = np.where(kinds[:, None] == kinds, np.exp(sharpness * (held @ held.T - 1.0)), 0.0)
    wanted = near.T @ (near * shares[:, None] / 0.1) + among + 1e-3 * np.eye(places + pairs)
    for rows, panel in system:
        np.testing.assert_allclose(panel.numpy(), wanted[rows, : rows.stop], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(right.numpy(), near.T @ (values * shares[:, None] / 0.1), rtol=1e-4, atol=1e-4)


def test_keys_are_turned_where_corrections_tell_each_other_and_those_that_were_held_back_do_not_speak_against_it() -> None:
    rng = np.random.default_rng(21)
    told, at = rng.standard_normal((8, 16)), rng.integers(8, size=400)
    loud = unit(np.concatenate([1.4 * told[at] + rng.standard_normal((400, 16)), 2.0 * rng.standard_normal((400, 48))], axis=1))
    assert ended(choose(torch.tensor(loud), torch.tensor(at), 3.0, 1)).share > 0.0
    noise = torch.tensor(unit(rng.standard_normal((400, 64))))
    assert ended(choose(noise, torch.tensor(at), 3.0, 1)).share == 0.0, "nobody says anything of another"
    assert ended(choose(noise, torch.arange(400), 3.0, 1)) == (0.0, USUAL), "single facts have no vote"


def test_the_noise_is_that_with_which_corrections_that_were_held_back_are_answered_best() -> None:
    rng = np.random.default_rng(22)
    told, at = rng.standard_normal((4, 24)), rng.integers(4, size=600)
    keys = torch.tensor(unit(told[at] + 1.2 * rng.standard_normal((600, 24))))
    wrong = np.where(rng.random(600) < 0.3, rng.integers(4, size=600), at)
    assert ended(choose(keys, torch.tensor(wrong), 3.0, 1)).noise == max(NOISES), "three in ten are taught wrong"


def test_the_turn_is_learned_on_votes_that_leave_the_voter_out() -> None:
    keys, answers = torch.tensor(unit_keys(9, 8, 24)), torch.tensor([0, 1, 0, 1, 2, 0, 1, 3, 0])
    turn = 0.1 * torch.randn(24, 24, generator=torch.Generator().manual_seed(9))
    turned = keys.double().numpy() + keys.double().numpy() @ turn.double().numpy().T
    turned /= np.linalg.norm(turned, axis=1, keepdims=True)
    losses = []
    for asked in range(7):
        others = [other for other in range(9) if other != asked]
        votes = {other: np.exp(turning.SHARPNESS * turned[asked] @ turned[other]) for other in others}
        agreeing = sum(votes[other] for other in others if answers[other] == answers[asked])
        if agreeing:
            losses.append(-np.log(agreeing / sum(votes.values())))
    assert len(losses) == 6, "the fifth has nobody that says the same"
    assert float(turning.loss_of(turn, keys, answers, 7)) == pytest.approx(np.mean(losses), abs=1e-5)
    assert float(turning.loss_of(turn, keys[3:5], answers[3:5], 2)) == 0.0


def test_where_no_two_corrections_say_the_same_keys_are_not_turned() -> None:
    keys = unit_keys(40, 10, ROOMY.key_width)
    lessons = [Lesson(key, f"answer {place}", 3, 1 + place) for place, key in enumerate(keys)]
    state = consolidated(ROOMY, learned(ROOMY, lessons), lessons)
    assert not state.levels["slow"]["turn"].any()
    assert all(right(ROOMY, state, lessons, 40))


def test_what_is_wrong_is_written_with_the_least_change_that_makes_it_right() -> None:
    lessons = distinct(ROOMY, 60, 23)
    state = consolidated(ROOMY, learned(ROOMY, lessons), lessons)
    fast, keys = state.levels["fast"], state.levels["fast"]["keys"][:60].clone()  # all pairs are in the window, in this order
    rows = {packed.tobytes(): row for row, packed in enumerate(fast["codes"].numpy())}
    become = torch.tensor([rows[packed_code(lesson.right, ROOMY.code_width).tobytes()] for lesson in lessons])
    become[10:14] = (become[10:14] + 1) % 6  # four are told otherwise
    before = ended(Survey(ROOMY, state).whole(keys))
    repair = Repair(ROOMY, state, keys, become, before.clone())
    written: list[int] = []
    for _ in range(6):
        below, standing = ended(repair.below(torch.arange(60)))
        written = sorted({*written, *below.tolist()})
        if len(below):
            ended(repair.write(torch.tensor(written), torch.tensor(written), standing))
    assert {10, 11, 12, 13} <= set(written)
    margins = ended(repair.below(torch.arange(60)))[1].margins
    assert bool((margins[written] > SURE).all()), "right"
    assert bool((margins[written] < 1.5 * SURE).all()), "and no louder than it has to be"
    change = ended(Survey(ROOMY, state).whole(keys)) - before
    among = np.exp(ROOMY.sharpness * (keys[written].double().numpy() @ keys[written].double().numpy().T - 1.0))
    np.testing.assert_allclose(fast["errors"][written].numpy(), np.linalg.solve(among, change[written].double().numpy()), atol=0.02)
    assert not fast["errors"][[row for row in range(60) if row not in written]].any()


# --- what it promises


@pytest.mark.parametrize("config", [FEW, ROOMY, replace(TINY, slow_from=50, places=40)], ids=["few places", "a place for each", "tiny"])
def test_every_correction_that_holds_is_right_afterwards(config: RecallConfig) -> None:
    lessons = distinct(config, 150, 11)
    assert all(right(config, consolidated(config, learned(config, lessons), lessons), lessons, 6))


def test_unseen_situations_are_answered_better() -> None:
    """What an answer depends on is a quarter of a key, and the rest of it is louder: that has to be learned."""
    config, rng = replace(TINY, key_width=64, slow_from=50), np.random.default_rng(12)
    told, at = rng.standard_normal((8, 16)), rng.integers(8, size=300)
    keys = unit(np.concatenate([1.4 * told[at] + rng.standard_normal((300, 16)), 2.0 * rng.standard_normal((300, 48))], axis=1))
    lessons = [Lesson(key, f"answer {answer}", 3, 1 + place) for place, (key, answer) in enumerate(zip(keys, at, strict=True))]
    state = learned(config, lessons[:200])
    before = sum(right(config, state, lessons[200:], 8))
    assert sum(right(config, consolidated(config, state, lessons[:200]), lessons[200:], 8)) > before + 10


def test_what_was_superseded_is_not_learned() -> None:
    lessons = distinct(ROOMY, 60, 13)
    older = [replace(lesson, right="answer 5", seq=place + 1) for place, lesson in enumerate(lessons[:30])]
    newer = [replace(lesson, seq=31 + place) for place, lesson in enumerate(lessons)]
    state = consolidated(ROOMY, learned(ROOMY, [*older, *newer]), [*older, *newer])
    only = consolidated(ROOMY, learned(ROOMY, newer), newer)
    for name in ("turn", "keys", "errors"):
        assert torch.equal(state.levels["slow"][name], only.levels["slow"][name])
    assert all(right(ROOMY, state, newer, 6))


def test_an_answers_own_words_replace_no_correction_and_a_correction_replaces_them() -> None:
    lessons = distinct(ROOMY, 60, 13)
    named = [*lessons, Lesson(unit_keys(1, 14, ROOMY.key_width)[0], "answer 7", 3, 61, words=lessons[0].key)]
    state = consolidated(ROOMY, learned(ROOMY, named), named)
    assert all(right(ROOMY, state, named, 8)), "what was taught where the words lie"
    named = [replace(lessons[0], words=lessons[1].key), *lessons[1:]]
    state = consolidated(ROOMY, learned(ROOMY, named), named)
    assert int(state.levels["slow"]["held"][0, 0]) == 60, "the words lie where another correction was taught afterwards"


def test_a_state_tells_what_it_has_learned_since_it_was_consolidated() -> None:
    lessons = distinct(ROOMY, 70, 20)
    recall, state = Recall(ROOMY), learned(ROOMY, lessons[:60])
    assert recall.unsettled(state) == state.clock
    after = consolidated(ROOMY, state, lessons[:60])
    assert (recall.unsettled(after).events, recall.unsettled(after).tokens) == (0, 0)
    more = recall.fold(after, lessons[60:])
    assert (recall.unsettled(more).events, recall.unsettled(more).tokens) == (10, sum(lesson.tokens for lesson in lessons[60:]))


def test_weights_of_the_slow_level_are_the_numbers_that_its_bits_stand_for() -> None:
    lessons = distinct(ROOMY, 60, 5)
    state = consolidated(ROOMY, learned(ROOMY, lessons), lessons)
    keys, errors = places_of(state.levels["slow"], 60)
    whole = np.concatenate([state.levels["slow"]["turn"].numpy().ravel(), keys.ravel(), errors.ravel()])
    assert inspection.norms(state.levels)["slow"] == pytest.approx(np.linalg.norm(whole), rel=1e-6)
    assert inspection.drifts(state, Recall(ROOMY).initial())["slow"] == pytest.approx(1.0)
    assert inspection.drifts(state, state)["slow"] == 0.0


def test_answers_that_were_replaced_stay_replaced() -> None:
    config = replace(ROOMY, neighbours=12)
    histories = [policies(config, 60, seed, lasts=30) for seed in range(8)]  # they end with the second policy
    states = [learned(config, lessons) for lessons in histories]
    state, lessons = next(both for both in zip(states, histories, strict=True) if (both[0].levels["fast"]["kin"][:, 1] >= 0).any())
    after = consolidated(config, state, lessons)
    for name in ("codes", "kin", "evidence", "last"):
        assert torch.equal(after.levels["fast"][name], state.levels["fast"][name])


def test_learning_goes_on_and_the_newest_lesson_is_exact() -> None:
    lessons = distinct(FEW, 150, 14)
    recall, state = Recall(FEW), consolidated(FEW, learned(FEW, lessons), lessons)
    before = {name: tensor.clone() for name, tensor in state.levels["slow"].items()}
    more = stream(FEW, 100, 15, answers=6, first=1_000)
    for lesson in more[:20]:
        recall.apply_(state, lesson)
        np.testing.assert_allclose(recall.read(state, lesson.key), reference_code(lesson.right, FEW.code_width), atol=1e-3)
    state = recall.fold(state, more[20:])
    assert int(state.levels["fast"]["marks"][0, 1]) > 0, "pairs have left the window since"
    assert all(torch.equal(tensor, before[name]) for name, tensor in state.levels["slow"].items()), "I10"


def test_a_consolidated_state_is_saved_moved_and_restored_whole() -> None:
    lessons = distinct(FEW, 120, 16)
    recall, state = Recall(FEW), consolidated(FEW, learned(FEW, lessons), lessons)
    assert bits_of(checkpoint.decode(FEW, checkpoint.encode(state), watermark=state.watermark)) == bits_of(state)
    slots = Slots(FEW, 1)
    view = slots.load(slots.take(), state)
    assert view.digest() == state.digest() == slots.save(0).digest() == Parcel.of(view).state(FEW).digest()
    slots.give_back(0)
    assert slots.view(slots.take()).digest() == recall.initial().digest(), "nothing of it is left in the slot"
    state.levels["slow"]["held"][0, 0] = FEW.places + 1
    blobs = checkpoint.encode(state)
    with pytest.raises(checkpoint.CheckpointRefused, match=r"slow\.held"):
        checkpoint.decode(FEW, blobs, watermark=state.watermark)


def test_consolidated_banks_learn_together_what_they_learn_alone() -> None:
    lessons = distinct(FEW, 120, 17)
    plain = learned(FEW, lessons)
    settled = consolidated(FEW, plain, lessons)
    more = stream(FEW, 60, 18, answers=6, first=1_000)
    numbers = []
    for stacked in (False, True):
        recall = Recall(FEW, stacked=stacked)
        alone = [recall.fold(state, more) for state in (plain, settled)]
        company = [plain.clone(), settled.clone(), settled.clone()]
        for lesson in more:
            recall.apply_many_(company, [lesson] * 3)
        assert [state.digest() for state in company] == [alone[0].digest(), alone[1].digest(), alone[1].digest()]
        numbers.append([recall.read(alone[1], key) for key in unit_keys(10, 19, FEW.key_width)])
    np.testing.assert_allclose(numbers[0], numbers[1], atol=2e-4)
