"""The calibration board: which rows a bank is taught and asked, the fit, and what is told of it."""

import numpy as np
import pytest

from bench.scoreboard.calibration import FIGURES, Heard, courses, fitted, judged
from bench.scoreboard.sources import Intents
from model.answering import SETTLING, weights
from model.config import SLOW, RecallConfig
from model.levels import Clock
from model.state import initial

CLASSES = [f"intent {number}" for number in range(10)]
ROWS = tuple((f"utterance {number} of {intent}", intent) for number in range(30) for intent in CLASSES)
DATA = Intents(ROWS[:200], ROWS[200:250], ROWS[250:], (tuple(CLASSES),))
WITHIN = Intents(ROWS[:200], ROWS[:50], ROWS[250:], (tuple(CLASSES),), valid_is_train=True)


@pytest.mark.parametrize("data", [DATA, WITHIN], ids=["apart", "part of what is learned"])
def test_what_a_bank_is_asked_was_not_taught_and_what_is_near_is_of_no_class_that_it_knows(data):
    banks = courses("set", data, (1, 4, 100))
    assert [(bank.number, bank.sizes) for bank in banks] == [*((number, (1, 4)) for number in range(6)), (6, (100,))]
    for bank in banks:
        known, asked = {intent for _, intent in bank.taught}, {text for text, _ in bank.inside}
        left_out = set(CLASSES) - {intent for _, intent in bank.inside}
        assert len(left_out) == 2
        assert not known & left_out
        assert not {text for text, _ in bank.taught} & (asked | set(bank.near))
        assert {text.rsplit(" of ", 1)[1] for text in bank.near} == left_out
        assert not {text for text, _ in DATA.test} & (asked | set(bank.near))
    assert len({bank.taught[0] for bank in banks}) > 1, "banks are drawn apart"


def heard(constants, *, sets=("one", "two"), sizes=(200, 1_000), count=4_000, seed=0):
    """Lines whose answers are right as often as the constants say."""
    rng, lines = np.random.default_rng(seed), []
    for name in sets:
        for size in sizes:
            score, margin = rng.uniform(0.05, 1.0, count), rng.uniform(0.0, 0.6, count)
            plain = np.stack([score, np.log(score), margin, np.ones(count)], 1)
            sure = 1 / (1 + np.exp(-np.concatenate([plain, plain * np.log(max(size / SETTLING, 1.0))], 1) @ constants))
            right = rng.uniform(size=count) < sure
            for kind, those in (
                ("inside", np.arange(count) % 2 == 0),
                ("near", np.arange(count) % 4 == 1),
                ("far", np.arange(count) % 4 == 3),
            ):
                told = np.stack([score, margin, sure, right], 1)[those].tolist()
                lines.append({"table": "heard", "set": name, "bank": 0, "corrections": size, "kind": kind, "told": told})
    return lines


def test_fit_finds_the_constants_that_the_answers_were_drawn_by():
    constants = np.array([2.0, 1.0, 3.0, -1.0, 0.2, -0.1, -0.3, 0.1])
    of = Heard.of(heard(constants))
    found = fitted(of.features, of.told[:, 3], np.ones(len(of.told)))
    drawn, fit = of.features @ constants, of.features @ found
    assert np.abs(1 / (1 + np.exp(-drawn)) - 1 / (1 + np.exp(-fit))).mean() < 0.01


def test_each_bank_weighs_the_same_and_what_was_never_taught_a_tenth_of_it():
    of = Heard.of(heard(np.zeros(8), count=400))
    for name in ("one", "two"):
        for size in (200, 1_000):
            mine = (of.sets == name) & (of.corrections == size)
            assert of.weights[mine].sum() == pytest.approx(1.0)
            assert of.weights[mine & (of.kinds != "inside")].sum() == pytest.approx(0.1)


def test_tables_have_each_bank_as_it_is_settled_ones_as_fitted_on_the_others_and_eight_constants():
    lines = judged(heard(np.array([2.0, 1.0, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0]), sizes=(10, 200, 1_000)))
    rows = [line for line in lines if line["table"] == "calibration"]
    assert [(row["set"], row["corrections"], row["confidence"]) for row in rows] == [
        (name, size, confidence)
        for name in ("one", "two")
        for size in (10, 200, 1_000)
        for confidence in ("as it is", "fitted on the others")
        if size > 10 or confidence == "as it is"
    ]
    assert all(0.0 <= row[figure] <= 1.0 for row in rows for figure in FIGURES)
    settled = [row for row in rows if row["corrections"] > 10]
    for as_it_is, of_others in zip(settled[::2], settled[1::2], strict=True):
        assert of_others["error"] == pytest.approx(as_it_is["error"], abs=0.03), "both are drawn by the same constants"
    constants = [line for line in lines if line["table"] == "constants"]
    assert [line["constant"] for line in constants] == [
        f"{of}: {each}" for of in ("settled", "growth") for each in ("score", "ln score", "margin", "1")
    ]


def test_young_banks_alone_have_no_constants_to_fit():
    lines = judged(heard(np.zeros(8), sizes=(10,), count=100))
    assert {(line["table"], line["confidence"]) for line in lines} == {("calibration", "as it is")}


def test_constants_of_the_board_are_those_of_the_memory():
    """In one order, and of the same features."""
    config = RecallConfig.tiny(encoder_digest="e", settled=(1.0, 2.0, 3.0, 4.0), growth=(0.1, 0.2, 0.3, 0.4))
    for corrections in (1, 100, 128, 129, 700, 5_000, 10**6):
        of = Heard.of([{"set": "s", "corrections": corrections, "kind": "inside", "told": [[0.5, 0.25, 0.0, True]]}])
        by_board = of.features[0] @ [*config.settled, *config.growth]
        by_memory = np.dot(weights(config, settled(config, corrections)), [0.5, np.log(0.5), 0.25, 1.0])
        assert by_board == pytest.approx(by_memory)


def settled(config, corrections):
    """A state with a place in its slow level that has learned so many."""
    state = initial(config)
    state.levels[SLOW]["held"][0, 0] = 1
    state.clock = Clock(events=corrections)
    return state
