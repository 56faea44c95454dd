"""MAD: rows have the protocol's shape, hidden parts of the rows suffice to answer them (an oracle does), training asks as MAD asks."""

from dataclasses import replace

import numpy as np
import pytest

from bench.synthetic.mad import BASELINES, HARDER, MAKERS, Setting, mad_task, settings
from bench.synthetic.task import IGNORED, percent_right

SMALL = {name: replace(base, rows=64, length=min(base.length, 64), copied=8) for name, base in BASELINES.items()}


def small(name, seed):
    return mad_task(SMALL[name], seed, held=8, tested=64)


def recalled(row, half):
    """At a key that came before, its value."""
    bond, answers = {}, []
    for place, token in enumerate(row):
        if token < half:
            answers.append(bond.get(token, IGNORED))
        else:
            bond[row[place - 1]] = token
            answers.append(IGNORED)
    return answers


def recalled_fuzzily(row, half, pad):
    """At each token of a value, the next one, when the key of three came before: keys and values are told apart by their ids."""
    answers, bond, key, value = [], {}, [], []
    for place, token in enumerate(row):
        if token == pad:
            answers.append(IGNORED)
            continue
        if token < half:
            if value:
                bond.setdefault(tuple(key), list(value))
                key, value = [], []
            key.append(token)
        else:
            value.append(token)
        known = bond.get(tuple(key), [])
        answers.append(known[len(value)] if len(key) == 3 and len(known) > len(value) else IGNORED)
        assert place >= 0
    return answers


def copied(row, copied, blank, sign):
    end = row.index(sign)
    told = [token for token in row[:end] if token != blank]
    assert len(told) == copied
    return [IGNORED] * (len(row) - copied) + told


def oracle(setting, part):
    rows = part.inputs.tolist()
    if setting.task == "in-context recall":
        return [recalled(row, setting.vocabulary // 2) for row in rows]
    if setting.task == "fuzzy recall":
        return [recalled_fuzzily(row, (setting.vocabulary - 1) // 2, setting.vocabulary - 1) for row in rows]
    if setting.task == "selective copying":
        return [copied(row, setting.copied, setting.vocabulary - 2, setting.vocabulary - 1) for row in rows]
    return rows


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "memorization"])
def test_an_oracle_that_reads_the_row_answers_everything(name):
    setting = SMALL[name]
    part = small(name, 0).test["test"]
    assert percent_right(np.array(oracle(setting, part)), part, "positions") == 100.0


def test_facts_learned_from_training_rows_answer_the_memorization_test():
    task = mad_task(BASELINES["memorization"], 0)
    facts = dict(zip(task.train.inputs[:, ::2].ravel().tolist(), task.train.targets[:, 1::2].ravel().tolist(), strict=True))
    test = task.test["test"]
    answers = np.full_like(test.inputs, 0)
    answers[:, 1::2] = np.vectorize(facts.get)(test.inputs[:, ::2])
    assert percent_right(answers, test, "positions") == 100.0
    assert len(set(facts.values())) == len(facts) == 127
    assert task.notes["ceiling"] == 100.0


def test_ceiling_of_memorization_counts_the_facts_that_training_never_showed():
    task = mad_task(replace(BASELINES["memorization"], vocabulary=8192), 0)
    shown = set(task.train.inputs[:, ::2].ravel().tolist())
    asked = task.test["test"].inputs[:, ::2].ravel().tolist()
    assert task.notes["ceiling"] == pytest.approx(100 * sum(key in shown for key in asked) / len(asked))
    assert 60 < task.notes["ceiling"] < 67  # 1 - 1/e of the keys: 4,096 draws of 4,095


@pytest.mark.parametrize("name", ["in-context recall", "fuzzy recall"])
def test_training_asks_every_next_token_and_the_test_only_values_that_can_be_known(name):
    task = small(name, 1)
    train, test = task.train, task.test["test"]
    assert (train.targets[:, :-1] == train.inputs[:, 1:]).all()
    assert train.asked.all()
    assert test.asked.any(axis=1).all()
    half = SMALL[name].vocabulary // 2 if name == "in-context recall" else (SMALL[name].vocabulary - 1) // 2
    assert test.targets[test.asked].min() >= half


def test_fuzzy_keys_have_three_tokens_when_tested_and_one_to_three_when_trained():
    task, half = small("fuzzy recall", 2), 7

    def runs_of_keys(part):
        lengths = set()
        for row in part.inputs.tolist():
            text = "".join("k" if token < half else "v" for token in row if token != 15)
            lengths |= {len(run) for run in text.split("v") if run}
        return lengths

    assert runs_of_keys(task.train) == {1, 2, 3}
    assert runs_of_keys(task.test["test"]) == {3}


@pytest.mark.parametrize("name", MAKERS)
def test_shapes_are_those_of_the_protocol(name):
    base = BASELINES[name]
    expected = {"compression": (16, 32), "in-context recall": (16, 127), "fuzzy recall": (16, 128), "selective copying": (16, 256)}
    vocabulary, length = expected.get(name, (256, 32))
    task = mad_task(replace(base, rows=32), 0, held=8)
    assert (task.vocabulary, task.train.inputs.shape) == (vocabulary, (32, length))
    assert len(task.test["test"]) == 1_280
    assert task.whole == (name == "compression")
    assert base.rows == (256 if name == "memorization" else 12_800)


@pytest.mark.parametrize("name", MAKERS)
def test_no_test_row_was_trained_on(name):
    task = small(name, 0)
    train, test = ({tuple(row) for row in part.inputs.tolist()} for part in (task.train, task.test["test"]))
    assert not train & test


@pytest.mark.parametrize("name", MAKERS)
def test_harder_settings_change_one_number_each_and_have_names_of_their_own(name):
    every = settings(name)
    assert every[0] == BASELINES[name]
    assert len({setting.name for setting in every}) == len(every) == 1 + sum(map(len, HARDER[name].values()))
    for setting in every[1:]:
        assert sum(getattr(setting, field) != getattr(every[0], field) for field in ("vocabulary", "length", "rows", "copied")) == 1


@pytest.mark.parametrize("name", ["in-context recall", "memorization"])
def test_rows_depend_on_the_seed_alone(name):
    one, same, other = (small(name, seed).train.inputs for seed in (7, 7, 8))
    assert (one == same).all()
    assert (one != other).any()


@pytest.mark.parametrize("change", [{"task": "sorting"}, {"vocabulary": 4}, {"length": 33}, {"rows": 0}, {"copied": 128}])
def test_bad_settings_are_refused_by_name(change):
    with pytest.raises(ValueError, match=next(iter(change))):
        Setting(**{"task": "selective copying", "length": 256, **change})
