"""The calibration board: which rows a bank is taught and asked, the fit, and what is told of it."""

import numpy as np
import pytest

from bench.scoreboard.calibration import FIGURES, Heard, courses, fitted, judged
from bench.scoreboard.sources import Intents
from model.answering import weights
from model.config import RecallConfig

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


def heard(constants, *, sets=("one", "two"), count=4_000, seed=0):
    """Lines whose answers are right as often as the constants say, of banks of two sizes."""
    rng, lines = np.random.default_rng(seed), []
    for name in sets:
        for size in (10, 1_000):
            score, margin = rng.uniform(0.05, 1.0, count), rng.uniform(0.0, 0.6, count)
            plain = np.stack([score, np.log(score), margin, np.ones(count)], 1)
            sure = 1 / (1 + np.exp(-np.concatenate([plain, plain * np.log(size)], 1) @ constants))
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


def test_each_bank_weighs_the_same_and_what_was_never_taught_a_fifth_of_it():
    of = Heard.of(heard(np.zeros(8), count=400))
    for name in ("one", "two"):
        for size in (10, 1_000):
            mine = (of.sets == name) & (of.corrections == size)
            assert of.weights[mine].sum() == pytest.approx(1.0)
            assert of.weights[mine & (of.kinds != "inside")].sum() == pytest.approx(0.2)


def test_tables_have_each_bank_as_it_is_and_fitted_on_the_others_and_eight_constants():
    lines = judged(heard(np.array([2.0, 1.0, 3.0, -1.0, 0.0, 0.0, 0.0, 0.0])))
    rows = [line for line in lines if line["table"] == "calibration"]
    assert [(row["set"], row["corrections"], row["confidence"]) for row in rows] == [
        (name, size, confidence) for name in ("one", "two") for size in (10, 1_000) for confidence in ("as it is", "fitted on the others")
    ]
    assert all(0.0 <= row[figure] <= 1.0 for row in rows for figure in FIGURES)
    for as_it_is, of_others in zip(rows[::2], rows[1::2], strict=True):
        assert of_others["error"] == pytest.approx(as_it_is["error"], abs=0.03), "both are drawn by the same constants"
    config = RecallConfig("e")
    assert [line["constant"] for line in lines if line["table"] == "constants"] == [
        f"{each}_{of}" if each != "bias" or of != "weight" else "bias"
        for of in ("weight", "growth")
        for each in ("score", "log_score", "margin", "bias")
    ]
    assert all(hasattr(config, line["constant"]) for line in lines if line["table"] == "constants")


def test_constants_of_the_board_are_those_of_the_memory():
    """In one order, and of the same features."""
    config = RecallConfig(
        "e",
        score_weight=1.0,
        log_score_weight=2.0,
        margin_weight=3.0,
        bias=4.0,
        score_growth=0.1,
        log_score_growth=0.2,
        margin_growth=0.3,
        bias_growth=0.4,
    )
    told = [[0.5, 0.25, 0.0, True]]
    of = Heard.of([{"set": "s", "corrections": 100, "kind": "inside", "told": told}])
    by_board = of.features[0] @ [1.0, 2.0, 3.0, 4.0, 0.1, 0.2, 0.3, 0.4]
    by_memory = np.dot(weights(config, 100), [0.5, np.log(0.5), 0.25, 1.0])
    assert by_board == pytest.approx(by_memory)
    assert weights(config, 1) == pytest.approx((1.0, 2.0, 3.0, 4.0))
    assert weights(config, 0) == weights(config, 1)
    assert weights(config, 10**6) == weights(config, 5_000)
