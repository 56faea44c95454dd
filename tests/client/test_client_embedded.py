"""A memory in the program itself: the service in a thread, asked over the same routes."""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from saying import PIN
from waiting import PATIENCE_S

from palimpsest import AsyncClient, Client, errors
from palimpsest.client import IN_PROCESS, NO_KEY
from palimpsest.embedded import InProcess

pytestmark = pytest.mark.timeout(900)  # each program loads the model, and other tests run beside
REWORDED = "How can I get a new PIN code for my card?"


def test_memory_in_the_program_answers_other_words_and_is_there_again_next_time(tmp_path):
    with Client.embedded(tmp_path / "memory") as memory:
        taught = memory.correct(PIN, "in the app")
        assert memory.recall(REWORDED).value == "in the app"
        memory.forget([taught.id]).wait(timeout_s=PATIENCE_S)
        assert memory.recall(REWORDED).value is None
        memory.correct(PIN, "at any cash machine")
        digest = memory.memory().digest
        assert [one.change.event for one in memory.changes(since="0", wait_s=0)].count("correction.created") == 2
        assert next(memory.changes(since="0")).change.data["corrections"] == [taught.id]
    with Client.embedded(tmp_path / "memory") as again:
        assert again.recall(REWORDED).value == "at any cash machine"
        assert again.memory().digest == digest
        assert [key.name for key in list(again.keys())] == ["first admin key"]


def test_memory_of_before_the_start_is_taken_over_by_a_new_bank_or_goes_on_without_it(tmp_path, monkeypatch):
    with Client.embedded(tmp_path / "memory") as memory:
        memory.correct(PIN, "by letter")
        memory.correct(PIN, "in the app", wrong="by letter")
    monkeypatch.setenv("PALIMPSEST_ENCODER_START", "shipped")
    with Client.embedded(tmp_path / "memory") as memory:
        with pytest.raises(errors.OtherEncoder, match="PALIMPSEST_ENCODER_START=none"):
            memory.recall(PIN)
        memory.create_bank("next")
        kept = [{"input": one.input, "right": one.right, "wrong": one.wrong} for one in memory.corrections() if one.input and one.right]
        memory.correct_many(kept, bank="next")
        assert memory.recall(REWORDED, bank="next").value == "in the app"
        memory.delete_bank("default")
        assert [bank.name for bank in memory.banks()] == ["next"]


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


def test_feed_is_one_answer_that_comes_as_it_is_read(tmp_path):
    with InProcess(tmp_path / "memory") as transport, httpx.Client(transport=transport, base_url=IN_PROCESS) as http:
        begin = time.monotonic()
        with http.stream("GET", "/v1/stream", params={"wait_s": 600}) as answer:
            lines = answer.iter_lines()
            assert next(lines) == ": here"
            http.post("/v1/corrections", json={"input": PIN, "right": "in the app"}).raise_for_status()
            assert next(line for line in lines if line.startswith("event:")) == "event: correction.created"
        assert time.monotonic() - begin < 500, "it was not read to its end first"
        with http.stream("GET", "/v1/stream", params={"events": "never.heard"}) as refused:
            assert refused.status_code == 400
        memory = Client(IN_PROCESS, api_key=NO_KEY, http=http)
        feed = memory.changes(wait_s=2)
        assert list(feed) == []
        counted = 'palimpsest_requests_total{method="GET",route="/v1/stream",status="200"} 2.0'
        end = time.monotonic() + PATIENCE_S
        while counted not in (told := http.get("/metrics").text):  # a moment after its end
            assert time.monotonic() < end, told


async def test_program_that_awaits_reads_the_feed_until_it_leaves_or_the_memory_is_closed(tmp_path):
    async with AsyncClient.embedded(tmp_path / "memory") as memory:
        feed = memory.changes(since="0")  # whether it is read before or after what happens
        coming = asyncio.ensure_future(anext(feed))
        await asyncio.sleep(0.2)
        taught = await memory.correct(PIN, "in the app")
        assert (await coming).change.data["corrections"] == [taught.id]
        await feed.aclose()
        left_open = asyncio.ensure_future(anext(memory.changes()))
        await asyncio.sleep(0.2)
        left_open.cancel()
        await asyncio.gather(left_open, return_exceptions=True)


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
        ran = subprocess.run(words, capture_output=True, text=True, timeout=3 * PATIENCE_S, env=environ, check=True)
        assert (ran.stdout, ran.stderr) == ("in the app\n", "")
    with Client.embedded(tmp_path / "memory") as memory:
        assert [one.seq for one in memory.corrections()] == [1, 2]


def test_errors_are_those_of_a_service(tmp_path):
    with Client.embedded(tmp_path / "memory") as memory:
        with pytest.raises(errors.Invalid):
            memory.recall(" ")
        with pytest.raises(errors.NotFound):
            memory.get_correction("cor_none")
