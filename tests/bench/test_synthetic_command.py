"""`python -m bench synthetic` from end to end: tables beside the paper's rows, a file it goes on from, weights that load."""

import json

import pytest
from click.testing import CliRunner
from safetensors.torch import load_model

from bench.__main__ import main
from bench.synthetic import kinds, paper
from bench.synthetic.languages import LANGUAGES, language_task
from bench.synthetic.learner import Learned, accuracy
from bench.synthetic.mad import MAKERS
from bench.synthetic.report import Run, render, spread
from bench.synthetic.suite import entries

SHORT = ("synthetic", "--kinds", "lstm", "--tasks", "(aa)*", "--budget", "0.02")


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def made(family, task, group, kind, seed, scores, **notes):
    learned = Learned(scores, scores, solved=False, steps=10, best_step=10, seconds=1.0, loss=0.5)
    return Run(family, task, group, kind, seed, 1_000, {}, learned, notes)


def test_table_stands_beside_the_papers_rows_and_the_weights_load(tmp_path):
    result = run(
        *SHORT,
        "--budget",
        0.1,
        "--seeds",
        1,
        "--json",
        tmp_path / "r" / "s.json",
        "--markdown",
        tmp_path / "s.md",
        "--weights",
        tmp_path / "w",
    )
    assert result.exit_code == 0, result.output
    rows = [line for line in result.output.splitlines() if line.startswith("| lstm ")]
    assert "100 / 100" in rows[0]
    assert "Hope (paper)" in result.output
    assert (tmp_path / "s.md").read_text().strip() in result.output
    task = language_task("(aa)*", 0)
    model = kinds.make("lstm", "languages", task.vocabulary, task.longest, seed=99)
    load_model(model, str(tmp_path / "w" / "lstm-aa-0.safetensors"))
    assert accuracy(model, task.test["bin1"], "rows") == 100.0


def test_interrupted_command_goes_on_where_it_stopped(tmp_path):
    path = tmp_path / "s.json"
    assert run(*SHORT, "--seeds", 1, "--json", path).exit_code == 0
    first = json.loads(path.read_text())["runs"]
    again = run(*SHORT, "--seeds", 2, "--json", path)
    assert again.exit_code == 0, again.output
    both = json.loads(path.read_text())["runs"]
    assert both[:1] == first  # seconds and all: it was not run again
    assert [found["seed"] for found in both] == [0, 1]


def test_another_budget_is_another_run(tmp_path):
    path = tmp_path / "s.json"
    run(*SHORT, "--seeds", 1, "--json", path)
    run(*SHORT, "--budget", 0.01, "--seeds", 1, "--json", path)
    assert [found["recipe"]["steps"] for found in json.loads(path.read_text())["runs"]] == [100, 50]


@pytest.mark.parametrize(("option", "value"), [("--tasks", "dyck"), ("--kinds", "gru")])
def test_unknown_names_are_refused_with_those_that_there_are(option, value):
    result = run("synthetic", option, value)
    assert result.exit_code == 2
    assert value in result.output
    assert "there are" in result.output


def test_file_of_something_else_is_not_overwritten(tmp_path):
    path = tmp_path / "other.json"
    path.write_text('{"benchmark": "corrections"}')
    result = run(*SHORT, "--json", path)
    assert result.exit_code == 1
    assert "move this one away" in result.output
    assert path.read_text() == '{"benchmark": "corrections"}'


def test_families_and_names_choose_tasks_and_harder_adds_the_settings_of_mad():
    assert [entry.name for entry in entries(["languages"])] == list(LANGUAGES) == list(paper.LANGUAGES)
    assert [entry.name for entry in entries(["mad"])] == list(MAKERS) == list(paper.MAD)
    assert len(entries(["memorization"], harder=True)) == 6
    assert {entry.family for entry in entries()} == {"languages", "mad", "recall"}


def test_mad_score_is_the_mean_over_settings_of_seeds_that_have_them_all():
    runs = [
        made("mad", "compression", "compression", "hope", 0, {"test": 60.0}),
        made("mad", "compression, rows 800", "compression", "hope", 0, {"test": 40.0}),
        made("mad", "compression", "compression", "hope", 1, {"test": 90.0}),
    ]
    row = next(line for line in render(runs).splitlines() if line.startswith("| hope "))
    assert row.split("|")[2].strip() == "50.0"


def test_worst_seed_is_shown_and_nothing_is_rounded_up_to_100():
    assert spread([100.0, 100.0]) == "100"
    assert spread([100.0, 98.0]) == "99.0 [98.0]"
    assert spread([99.99]) == "99.9"
    assert spread([0.04]) == "0.0"


def test_recall_shows_each_distance_and_failures_are_told():
    failed = Learned({"4": 100.0, "64": 12.5}, {}, False, 7, 5, 1.0, 0.1, failed="the loss is not finite at step 7")
    text = render([Run("recall", "filler", "filler", "hope", 0, 1_000, {}, failed, {})])
    assert "| hope   | 100 | 12.5 |" in text
    assert "not finite at step 7" in text


def test_bound_of_memorization_is_told_beside_the_scores():
    text = render([made("mad", "memorization", "memorization", "hope", 0, {"test": 60.0}, ceiling=63.2)])
    assert "bounded by 63.2" in text
