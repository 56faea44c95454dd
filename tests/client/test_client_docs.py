"""docs/client.md, docs/index.md, docs/adapters.md and the README's Python run as printed and print what they say."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from fixtures_service import ADMIN_KEY, Lab
from listening import listening

from palimpsest.cli import main

pytestmark = pytest.mark.timeout(900)  # the page's last program loads the model
ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "client.md").read_text()
FIRST = "In the app, under Card > Security."
OUTPUT = re.compile(r"(?<=\n\n)((?:    # .*\n)+)")


@pytest.fixture
def url(tmp_path, encoder):
    """A service that nobody has taught anything."""
    lab = Lab(tmp_path / "var", encoder)
    with listening(lab) as base:
        yield base
    lab.close()


def run(text: str, url: str, directory: Path) -> list[str]:
    """What the indented Python of a page prints against the service."""
    code = "\n".join(line[4:] for line in text.splitlines() if (line.startswith("    ") and not line.startswith("    $")) or not line)
    code = code.replace("http://127.0.0.1:8000", url).replace("pal_...", ADMIN_KEY)
    assert url in code
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "MEM0_DIR": str(directory / "mem0")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=600, check=False, cwd=directory, env=environ)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr == ""
    return ran.stdout.splitlines()


def test_python_of_the_page_prints_what_the_page_says(url, tmp_path):
    said = [line.removeprefix("    # ") for block in OUTPUT.findall(PAGE) for line in block.splitlines()]
    assert run(PAGE, url, tmp_path) == said
    assert len(said) > 10


def test_python_of_the_first_page_prints_what_it_says(url, tmp_path):
    page = (ROOT / "docs" / "index.md").read_text()
    said = [line.removeprefix("    # ") for block in OUTPUT.findall(page) for line in block.splitlines()]
    assert run(page, url, tmp_path) == said == [FIRST, "At any cash machine.", "None", FIRST]


def test_python_of_the_page_of_adapters_prints_what_it_says(url, tmp_path):
    for package in ("agents", "anthropic", "langchain_core", "langgraph", "llama_index", "mem0"):
        pytest.importorskip(package)
    page = (ROOT / "docs" / "adapters.md").read_text()
    said = [line.removeprefix("    # ") for block in OUTPUT.findall(page) for line in block.splitlines()]
    assert run(page, url, tmp_path) == said
    assert len(said) > 8


def test_python_of_the_readme_answers_other_words(url, tmp_path):
    section = (ROOT / "README.md").read_text().split("## In Python")[1].split("\n## ")[0]
    assert run(section, url, tmp_path) == ["In the app, under Card > Security."]


def test_commands_of_the_page_exist_with_their_options():
    commands = [line.split()[2:] for line in PAGE.splitlines() if line.startswith("    $ palimpsest")]
    assert len(commands) > 8
    for words in commands:
        command = main.get_command(None, words[0])
        if words[1] in getattr(command, "commands", {}):
            command = command.commands[words[1]]
        known = {option for parameter in command.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, words
