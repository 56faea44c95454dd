"""The commands from end to end, on real sentences in a small data directory of their own."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from bench_data import write_all
from click.testing import CliRunner
from waiting import PATIENCE_S

from bench.__main__ import COMMANDS, main
from bench.runs import ENGINE, REST

SUBJECTS = {
    "card_arrival": ["Where is my new card?", "My card has not come yet.", "When will the card arrive?", "How long until I get my card?"],
    "change_pin": ["How do I change my PIN?", "I want another PIN.", "Can I pick a new PIN code?", "Where can the PIN be changed?"],
    "exchange_rate": ["What is the exchange rate?", "Which rate do you use for euros?", "How are dollars converted?", "Is your rate fair?"],
}
ROWS = [(f"{text}{end}", intent) for end in ("", " Please tell me.", " Thanks!") for intent, texts in SUBJECTS.items() for text in texts]
WORDINGS = {
    intent: [f"{text}{end}" for end in ("", " Please tell me.") for text in texts] for intent, texts in SUBJECTS.items()
}  # five taught, three asked


@pytest.fixture
def data(tmp_path, monkeypatch):
    write_all(tmp_path / "data", ROWS)
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "data"))


def run(*arguments):
    return CliRunner().invoke(main, arguments)


def run_apart(*arguments):
    """In a process of its own, as a user does: a command that starts a service sets up the logging of its whole process."""
    root = Path(__file__).resolve().parent.parent.parent
    return subprocess.run([sys.executable, "-m", "bench", *arguments], cwd=root, capture_output=True, text=True, timeout=2 * PATIENCE_S)


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)], ids=["group", *COMMANDS])
def test_help_tells_what_a_command_does(command):
    result = run(*command, "--help")
    assert result.exit_code == 0, result.output
    assert "Usage:" in result.output
    assert command or set(COMMANDS) <= set(result.output.split())


@pytest.mark.parametrize("command", ["corrections", "demo"])
def test_absent_data_ends_in_one_clear_message(command, tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path / "nowhere"))
    result = run(command)
    assert result.exit_code == 1
    assert "banking77_train.csv.gz" in result.output
    assert "Traceback" not in result.output


def test_running_service_cannot_be_measured_without_a_key():
    result = run("corrections", "--rest", "http://127.0.0.1:1")
    assert result.exit_code == 2
    assert "--key" in result.output


def test_engine_and_rest_make_the_same_few_mistakes(data, tmp_path):
    report = tmp_path / "reports" / "corrections.json"
    options = ("--data", "hwu64", "--streams", "policy-change", "--requests", "60", "--seeds", "1", "--rest", "--json", str(report))
    result = run_apart("corrections", *options)
    assert result.returncode == 0, result.stderr
    assert "hwu64, policy-change: 60 requests, 1 seed," in result.stdout
    rows = {row["memory"]: row for row in json.loads(report.read_text())["runs"]}
    engine, rest = rows[ENGINE], rows[REST]
    measured = ("mistakes", "avoidable", "silent", "before", "after", "end", "size_bytes")
    assert [engine[name] for name in measured] == [rest[name] for name in measured]
    assert rows["no memory"]["mistakes"] == 60
    assert 4 <= engine["mistakes"] <= 30  # four answers are new to everybody
    assert 2**20 < engine["size_bytes"] <= 16 * 2**20


def test_demo_tells_its_story_to_the_end(tmp_path, monkeypatch):
    write_all(tmp_path, [(text, intent) for intent, texts in WORDINGS.items() for text in texts])
    monkeypatch.setenv("PALIMPSEST_DATA", str(tmp_path))
    result = run_apart("demo")
    assert result.returncode == 0, result.stderr
    for chapter in ("Taught 15 real utterances", "A policy changes", "Rolled back", "Forgotten: all 5", "bit for bit"):
        assert chapter in result.stdout
