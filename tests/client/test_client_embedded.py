"""A memory in the program itself: the service in a thread, asked over the same routes."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from saying import PIN

from palimpsest import AsyncClient, Client, errors

pytestmark = pytest.mark.timeout(240)  # each program loads the model, and other tests run beside
REWORDED = "How can I get a new PIN code for my card?"


def test_memory_in_the_program_answers_other_words_and_is_there_again_next_time(tmp_path):
    with Client.embedded(tmp_path / "memory") as memory:
        taught = memory.correct(PIN, "in the app")
        assert memory.recall(REWORDED).value == "in the app"
        memory.forget([taught.id]).wait(timeout_s=30)
        assert memory.recall(REWORDED).value is None
        memory.correct(PIN, "at any cash machine")
        digest = memory.memory().digest
        assert [one.change.event for one in memory.changes(since="0", wait_s=0)].count("correction.created") == 2
        assert next(memory.changes(since="0")).change.data["corrections"] == [taught.id]
    with Client.embedded(tmp_path / "memory") as again:
        assert again.recall(REWORDED).value == "at any cash machine"
        assert again.memory().digest == digest
        assert [key.name for key in list(again.keys())] == ["first admin key"]


async def test_program_that_awaits_is_not_held_up_while_its_memory_is_loaded(tmp_path):
    async with AsyncClient.embedded(tmp_path / "memory") as memory:
        turned = 0

        async def turning():
            nonlocal turned
            while True:
                await asyncio.sleep(0.01)
                turned += 1

        beside = asyncio.create_task(turning())
        await memory.correct(PIN, "in the app")
        assert turned > 5
        said = await asyncio.gather(*(memory.recall(REWORDED) for _ in range(20)))
        beside.cancel()
        assert {one.value for one in said} == {"in the app"}


def readable_by_others(path: Path) -> list[Path]:
    """The files below a directory that others of the machine can get at."""
    if path.is_dir():
        inside = [found for each in path.iterdir() for found in readable_by_others(each)]
        return inside if path.stat().st_mode & 0o011 else []
    return [path] if path.stat().st_mode & 0o066 else []


@pytest.mark.parametrize("made", [False, True], ids=["new", "made by the program"])
def test_directory_is_private_and_one_programs_at_a_time(tmp_path, made):
    umask = os.umask(0o022)
    try:
        if made:
            (tmp_path / "memory").mkdir()
        with Client.embedded(tmp_path / "memory") as memory:
            memory.correct(PIN, "in the app")
            memory.take_snapshot()
            assert len(list((tmp_path / "memory").rglob("*"))) > 10
            assert readable_by_others(tmp_path / "memory") == []
            with pytest.raises(Exception, match="is in use by another Palimpsest"):
                Client.embedded(tmp_path / "memory")
        (tmp_path / "of the program").touch()
        assert (tmp_path / "of the program").stat().st_mode & 0o777 == 0o644
    finally:
        os.umask(umask)


def test_memory_that_others_served_before_is_taken_with_a_key_of_the_programs_own(tmp_path):
    with Client.embedded(tmp_path / "memory") as memory:
        memory.correct(PIN, "in the app")
        own = memory.whoami().key_id
    (tmp_path / "memory" / "client-key").unlink()
    with Client.embedded(tmp_path / "memory") as memory:
        assert memory.whoami().key_id != own
        assert memory.recall(PIN).value == "in the app"


def test_setting_that_cannot_be_used_is_told_where_the_memory_is_asked_for(tmp_path, monkeypatch):
    monkeypatch.setenv("PALIMPSEST_ENCODER", "/nowhere")
    with pytest.raises(Exception, match="/nowhere"):
        Client.embedded(tmp_path / "memory")


PROGRAM = """
import sys
from palimpsest import Client
memory = Client.embedded(sys.argv[1])
memory.correct("Where do I change my PIN?", "in the app")
print(memory.recall("How can I change the PIN of my card?").value)
"""


def test_program_that_ends_without_closing_keeps_what_was_acknowledged_and_says_nothing_else(tmp_path):
    environ = {name: value for name, value in os.environ.items() if not name.startswith("PALIMPSEST_")}
    for _ in range(2):
        words = [sys.executable, "-c", PROGRAM, str(tmp_path / "memory")]
        ran = subprocess.run(words, capture_output=True, text=True, timeout=110, env=environ, check=True)
        assert (ran.stdout, ran.stderr) == ("in the app\n", "")
    with Client.embedded(tmp_path / "memory") as memory:
        assert [one.seq for one in memory.corrections()] == [1, 2]


def test_errors_are_those_of_a_service(tmp_path):
    with Client.embedded(tmp_path / "memory") as memory:
        with pytest.raises(errors.Invalid):
            memory.recall(" ")
        with pytest.raises(errors.NotFound):
            memory.get_correction("cor_none")
