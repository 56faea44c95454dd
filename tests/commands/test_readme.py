"""The README's story, typed as printed against a service in a process of its own, gives what the README says."""

import asyncio
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import PATIENCE_S

from bench.running import running_service

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()
FIRST, SECOND = "In the app, under Card > Security.", "At any cash machine."


def commands() -> str:
    """The indented lines of the story's section, in order."""
    story = README.split("## The story, with curl")[1].split("\n## ")[0]
    return "\n".join(line[4:] for line in story.splitlines() if line.startswith("    "))


@pytest.fixture
async def replies():
    """What each command that prints JSON said."""
    async with running_service() as service:
        script = commands().replace("http://127.0.0.1:8000", service.url).replace("export KEY=pal_...", f"export KEY={service.key}")
        assert service.url in script
        assert service.key in script
        until_exact = """until ask memory | grep -q '"rebuild_pending":false'; do sleep 0.1; done"""  # a person looks later
        waiting = "\n".join(f"{line}\n{until_exact}" if "forget" in line else line for line in script.splitlines())
        ran = await asyncio.to_thread(
            subprocess.run, ["bash", "-euc", waiting], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=True
        )
    return [json.loads(line) for line in ran.stdout.splitlines() if line.strip()]


async def test_curl_story_gives_what_the_readme_says(replies):
    taught, reworded, newer, superseded, preview, moved, returned, forgotten, silent, memory = replies
    assert (taught["receipt"]["item"]["before"]["value"], taught["receipt"]["item"]["after"]["value"]) == (None, FIRST)
    assert reworded["answers"][0]["value"] == FIRST
    assert newer["receipt"]["item"]["before"]["value"] == FIRST
    assert superseded["answers"][0]["value"] == SECOND
    assert (preview["head"], [(flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]]) == (
        None,
        [(SECOND, FIRST)] * 2,
    )
    assert moved["pre_rollback"].startswith("snap_")
    assert returned["answers"][0]["value"] == FIRST
    assert forgotten["effective_now"] is True
    assert (silent["answers"], silent["abstained"]) == ([], True)
    assert (memory["corrections"], memory["rebuild_pending"]) == (0, False)


def test_every_folder_of_the_tree_exists_and_every_package_is_in_it():
    root = Path(__file__).resolve().parents[2]
    tree = README.split("## What is where")[1].split("\n## ")[0]
    named = re.findall(r"^    (\S+)\s{2,}\S", tree, re.MULTILINE)
    assert [name for name in named if not (root / name).exists()] == []
    packages = {f"{path.parent.name}/" for path in root.glob("*/__init__.py")}
    assert packages <= set(named)


def test_readme_names_only_make_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", (Path(__file__).resolve().parents[2] / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"^    make ([a-z]+)|`(?:[A-Z]+=\S+ )*make ([a-z]+)`", README, re.MULTILINE))
    assert {name for pair in named for name in pair if name} <= targets
    assert named


def test_the_models_python_runs_as_printed():
    section = README.split("## HOPE, the model")[1].split("\n## ")[0]
    lines = [line[4:] for line in section.splitlines() if line.startswith("    ")]
    script = "\n".join(line for line in lines if not line.startswith("python -m"))
    shown = f"{script}\nprint(more.shape[1], torch.equal(more[:, :68], text))"
    ran = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=True)
    assert ran.stdout.split() == ["76", "True"]


ASKING = """
import contextlib, io, json, runpy, sys
for module, verb in json.loads(sys.argv[1]):
    sys.argv, said = [module, *verb, "--help"], io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        runpy.run_module(module, run_name="__main__")
    print(json.dumps(said.getvalue()))
"""  # one process: to import torch takes longer than to answer


def test_the_models_commands_exist_with_the_options_that_are_printed():
    section = README.split("## HOPE, the model")[1].split("\n## ")[0]
    commands = [line.split()[2:] for line in section.splitlines() if line.startswith("    python -m")]
    asked = [(module, rest[:1] if module != "model.hope.convert" else []) for module, *rest in commands]
    ran = subprocess.run(
        [sys.executable, "-c", ASKING, json.dumps(asked)], capture_output=True, text=True, timeout=2 * PATIENCE_S, check=True
    )
    helped = [json.loads(line) for line in ran.stdout.splitlines()]
    assert len(helped) == len(commands) == 5
    for (module, *rest), said in zip(commands, helped, strict=True):
        assert said.startswith("Usage:"), module
        assert [option for option in rest if option.startswith("--") and option not in said] == [], module
