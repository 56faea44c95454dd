"""The boards from end to end: short forms on slices of the real data, and the page that is made from their files."""

import json
import os

import numpy as np
import pytest
from click.testing import CliRunner

from bench.__main__ import main
from bench.data import directory
from bench.runs import ENGINE
from bench.scoreboard import results
from bench.scoreboard.ablation import NO_FAST, NO_MIDDLE, NO_SLOW, PLAIN, WITH
from bench.scoreboard.peers import mem0_memory, why_absent
from bench.scoreboard.report import Figure, Table, as_markdown, as_text, rows, spread
from bench.scoreboard.sources import INTENTS, cheat_sheet, facts, far_questions, intents, sentences
from bench.scoreboard.stores import STORE
from bench.vectors import Vectors

needs_data = pytest.mark.skipif(
    not (directory(os.environ) / "edits").is_dir(), reason="the public data sets are not there (PALIMPSEST_DATA names their directory)"
)
BOARDS = [name for name in results.BOARDS if name != "corrections"]
LINES = [
    {"table": "t", "memory": "a", "T": 1_000, "seed": 0, "share": 0.5},
    {"table": "t", "memory": "a", "T": 1_000, "seed": 1, "share": 0.7},
    {"table": "t", "memory": "b", "T": 1_000, "seed": 0, "share": None},
    {"table": "other", "memory": "c", "T": 1, "seed": 0, "share": 1.0},
]
TABLE = Table("t", "A title", ("T", "memory"), (Figure("share", "share", ".1f", 100), Figure("share", "spread", ".1f", 100, spread)))


def measured(name, tmp_path, *options):
    report = tmp_path / f"{name}.json"
    result = CliRunner().invoke(main, [name, "--seeds", "1", "--json", str(report), *options], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert results.tables_of(name)[0].title in result.output
    table = results.tables_of(name)[0]
    lines = json.loads(report.read_text())["runs"]
    return {tuple(line[field] for field in table.by): line for line in lines if line["table"] == table.name}


def test_tables_are_means_over_seeds_of_the_lines_that_name_them():
    assert rows(TABLE, LINES) == [("T", "memory", "share", "spread"), ("1,000", "a", "60.0", "20.0"), ("1,000", "b", "–", "–")]
    assert as_text([TABLE], LINES).splitlines()[0] == "A title (2 seeds)"
    assert as_markdown([TABLE], LINES).splitlines()[2:4] == ["| T | memory | share | spread |", "| --- | --- | ---: | ---: |"]
    assert as_text([TABLE], LINES[3:]) == ""


@pytest.mark.parametrize("name", BOARDS)
def test_absent_data_ends_in_one_clear_message(name, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "nowhere"))
    result = CliRunner().invoke(main, [name])
    assert result.exit_code == 1
    assert "Public: " in result.output
    assert "Traceback" not in result.output


@needs_data
def test_data_sets_are_the_published_ones():
    below = directory(os.environ)
    sets = {name: intents(name, below).holds for name in INTENTS}
    assert {name: (len(one.train), len(one.test), len(one.classes)) for name, one in sets.items()} == {
        "banking77": (10_003, 3_080, 77),
        "clinc150": (15_000, 4_500, 150),
        "hwu64": (8_954, 1_076, 64),
    }
    assert {name: {len(task) for task in one.tasks} for name, one in sets.items()} == {"banking77": {11}, "clinc150": {15}, "hwu64": {8}}
    assert all({intent for _, intent in one.train} == set(one.classes) for one in sets.values())
    assert set(sets["banking77"].valid) < set(sets["banking77"].train)
    assert [len(facts(name, below).holds) for name in ("counterfact", "counterfact_val", "zsre")] == [5_085, 979, 998]
    assert not any(question.startswith("nq question") for question, _ in far_questions(below).holds)
    items = [item for item in cheat_sheet(below).holds if sum(version.corrected for version in item) > 1]
    assert (len(items), sum(version.corrected for item in items for version in item)) == (2_277, 5_026)


@needs_data
def test_sentences_of_novels_are_sentences():
    found = sentences(directory(os.environ)).holds
    assert len(found) > 20_000
    assert all(40 <= len(text) <= 160 and text[-1] in ".!?" and "\n" not in text for text, _ in found[:500])


@needs_data
@pytest.mark.timeout(900)
def test_short_incremental(tmp_path):
    lines = measured("incremental", tmp_path, "--data", "hwu64", "--per-class", "2", "--features", "200")
    ended, joint = lines["hwu64", f"{ENGINE}, consolidated at the end"], lines["hwu64", "joint linear probe"]
    assert ended["gate_passed"]
    assert len(lines["hwu64", ENGINE]["after"]) == 8
    assert len(lines) == 9
    assert all(line["last"] > 0.3 for line in lines.values() if "EWC" not in line["memory"])
    assert joint["chosen"].keys() == {"decay"}


@needs_data
@pytest.mark.timeout(900)
def test_short_ablation(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_ENCODER_START", "shipped")
    lines = measured("ablation", tmp_path, "--data", "hwu64", "--per-class", "3", "--requests", "300", "--every", "150")
    assert set(lines) == {("hwu64", label) for label in (WITH, NO_SLOW, NO_MIDDLE, NO_FAST, PLAIN)}
    assert all(line["mistakes"] >= line["avoidable"] > 0 for line in lines.values())
    assert all(lines["hwu64", label]["before"] > 0.4 for label in (WITH, NO_SLOW, NO_MIDDLE, PLAIN)), "so few all lie in the window"
    assert lines["hwu64", NO_SLOW]["guess"] == lines["hwu64", NO_SLOW]["before"] == lines["hwu64", WITH]["before"]
    assert lines["hwu64", NO_FAST]["mistakes"] > lines["hwu64", WITH]["mistakes"]
    assert (lines["hwu64", WITH]["lost"], lines["hwu64", NO_SLOW]["lost"]) == (0, None)


@needs_data
@pytest.mark.timeout(900)
def test_short_facts(tmp_path):
    options = ("--size", "1", "--size", "20", "--validation", "20", "--far", "20")
    lines = measured("facts", tmp_path, *options)
    assert lines["counterfact", 20, STORE]["reliability"] == lines["zsre", 20, STORE]["reliability"] == 1.0
    assert {memory.split(",")[0] for _, _, memory in lines} == {ENGINE, STORE.split(",")[0]}
    assert lines["counterfact", 20, ENGINE]["generality"] > 0.5


@needs_data
@pytest.mark.timeout(900)
def test_short_supersession(tmp_path):
    lines = measured("supersession", tmp_path, "--items", "20", "--undo", "5", "--stream", "corrections")
    assert all(
        abs(sum(line[each] for each in ("current", "stale", "wrong", "silent")) - 1) < 1e-9 for line in lines.values() if "stale" in line
    )
    assert lines["corrections", "latest", STORE]["current"] > 0.8
    undone = [line for line in json.loads((tmp_path / "supersession.json").read_text())["runs"] if line["table"] == "undo"]
    assert [(line["memory"], line["undone"]) for line in undone] == [(ENGINE, 5), (STORE, 5)]
    assert undone[0]["rebuilt"] == undone[1]["at_once"] == 1.0


@needs_data
@pytest.mark.timeout(900)
def test_short_supersession_of_the_whole_sheet(tmp_path):
    """Many entries of one page are alike and none of them is another's correction: each keeps its own command."""
    lines = measured("supersession", tmp_path, "--items", "40", "--undo", "5", "--stream", "sheet")
    assert lines["sheet", "latest", ENGINE]["items"] == 40
    assert lines["sheet", "latest", ENGINE]["current"] >= lines["sheet", "latest", STORE]["current"] > 0.8


@needs_data
@pytest.mark.timeout(900)
def test_short_abstention(tmp_path):
    options = ("--taught", "300", "--asked", "60", "--consolidate")
    lines = measured("abstention", tmp_path, *options)
    assert [name for name, _ in lines] == [ENGINE, f"{ENGINE}, consolidated", STORE]
    assert all(0.5 < line["auroc"] <= 1.0 for line in lines.values())
    assert lines[STORE, 300]["calibration"] is None
    again = CliRunner().invoke(main, ["abstention", "--seeds", "1", "--json", str(tmp_path / "again.json"), *options])
    assert "(1 of 1 parts in earlier runs)" in again.output
    first, second = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("abstention", "again"))
    assert first["runs"] == second["runs"]


@needs_data
@pytest.mark.timeout(900)
def test_short_calibration(tmp_path):
    """Its constants are fitted on settled banks alone, and are as many as the memory has."""
    report = tmp_path / "calibration.json"
    result = CliRunner().invoke(main, ["calibration", "--size", "2", "--size", "140", "--json", str(report)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    lines = json.loads(report.read_text())["runs"]
    banks = [line for line in lines if line["table"] == "calibration"]
    assert {(line["set"], line["corrections"]) for line in banks} == {(name, size) for name in INTENTS for size in (2, 140)}
    assert all(line["near"] > 0.6 and line["far"] > 0.6 and line["silenced"] < 0.2 for line in banks)
    assert len([line for line in lines if line["table"] == "constants"]) == 8


@needs_data
@pytest.mark.timeout(900)
def test_short_capacity(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_CONSOLIDATE_EVENTS", "50")  # so that it is consolidated on the way
    lines = measured("capacity", tmp_path, "--size", "60", "--size", "120")
    assert lines[120, ENGINE]["bytes"] < 16 * 2**20
    assert lines[120, STORE]["bytes"] == 120 * 384 * 4
    assert lines[120, ENGINE]["verbatim"] == 1.0
    assert lines[60, STORE]["verbatim"] == lines[120, STORE]["oldest"] == 1.0


@needs_data
@pytest.mark.timeout(900)
def test_short_cost_names_a_peer_that_is_not_there(tmp_path, monkeypatch):
    monkeypatch.setattr("bench.scoreboard.peers.find_spec", lambda name: None)
    report = tmp_path / "cost.json"
    result = CliRunner().invoke(main, ["cost", "--seeds", "1", "--corrections", "240", "--step", "120", "--json", str(report)])
    assert result.exit_code == 0, result.output
    assert "mem0 is not installed" in result.stderr
    runs = json.loads(report.read_text())["runs"]
    lines = {(line["corrections"], line["memory"]): line for line in runs if line["table"] == "cost"}
    assert set(lines) == {(size, memory) for size in (120, 240) for memory in (ENGINE, STORE)}
    assert lines[240, ENGINE]["consolidation_s"] > 0
    assert lines[120, ENGINE]["disk_bytes"] > 0 <= lines[240, ENGINE]["disk_bytes"]  # so few may fit into what there is
    assert lines[240, STORE]["consolidation_s"] is None
    apart = [line for line in runs if line["table"] == "consolidations"]
    assert len(apart) == 2
    for line in apart:
        assert line["stated_bytes"] < 2**30
        if line["peak_bytes"] is not None:  # Linux counts it
            assert 2**26 < line["before_bytes"] < 2**29, "the libraries, and nothing of this process"
            assert 2**24 < line["more_bytes"] < line["stated_bytes"], "so many are trained"


def test_page_is_made_from_the_files_and_leaves_the_rest_alone(tmp_path):
    page = tmp_path / "results.md"
    page.write_text(f"# Results\n\nbefore\n{results.BEGIN}\nold\n{results.END}\nafter\n")
    report = {
        "benchmark": "abstention",
        "command": "python -m bench abstention --seeds 1",
        "encoder": "e" * 64,
        "encoders": {"clinc150": {"Palimpsest": "d" * 64, "rivals": "e" * 64}},
        "seconds": 12.3,
        "data": [{"name": "clinc150", "rows": 1, "sha256": "f" * 64}],
        "runs": [{"table": "abstention", "memory": "it", "taught": 15_000, "seed": 0, "auroc": 0.954}],
    }
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "abstention.json").write_text(json.dumps(report))
    arguments = ["results", "--from", str(tmp_path / "files"), "--page", str(page)]
    assert CliRunner().invoke(main, [*arguments, "--check"]).exit_code == 1
    assert CliRunner().invoke(main, arguments).exit_code == 0
    made = page.read_text()
    assert "| it | 15,000 | 0.954 | – |" in made
    assert "`python -m bench abstention --seeds 1`, 12 s; encoder eeeeeeeeeeee, Palimpsest's start of it dddddddddddd (without" in made
    assert "Not measured yet: `python -m bench facts`." in made
    assert made.startswith("# Results\n\nbefore\n")
    assert made.endswith("\nafter\n")
    assert "old" not in made
    assert CliRunner().invoke(main, [*arguments, "--check"]).exit_code == 0


def test_page_without_a_place_for_it_is_left_alone(tmp_path):
    page = tmp_path / "results.md"
    page.write_text("# Results\n")
    result = CliRunner().invoke(main, ["results", "--page", str(page)])
    assert result.exit_code == 1
    assert "no place" in result.output
    assert page.read_text() == "# Results\n"


def test_the_projects_own_page_is_what_its_files_say():
    result = CliRunner().invoke(main, ["results", "--check"])
    assert result.exit_code == 0, result.output


@pytest.mark.skipif(why_absent() is not None, reason="the extra `peers` is not installed")
async def test_mem0_keeps_what_it_is_told_in_its_own_files(tmp_path, monkeypatch):
    monkeypatch.setenv("MEM0_DIR", "")  # and what mem0_memory sets goes away again
    monkeypatch.setenv("MEM0_TELEMETRY", "")
    keys = np.eye(384, dtype=np.float32)[:3]
    vectors = Vectors({"a": 0, "b": 1, "c": 2}, keys, [3] * 3, "d" * 64)
    with mem0_memory(vectors, tmp_path) as memory:
        assert len(await memory.tell_many([("a", "A"), ("b", "B")], lambda done: None)) == 2
        assert [said.value for said in await memory.ask_many(["b", "a"], lambda done: None)] == ["B", "A"]
        assert 0 < await memory.size_bytes() == await memory.disk_bytes()
