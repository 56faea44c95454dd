"""A consolidation takes no more memory than is stated: counted by Linux in processes that do nothing else."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.consolidating import Unfinished, apart
from bench.peak import CLEAR
from model import RecallConfig
from model.consolidation import room

counted = pytest.mark.skipif(not CLEAR.exists(), reason="only Linux counts the most memory that a process had")
LARGE = 7_400  # corrections: more than places and window have room for, so that the largest system of all is solved
CHILD = """
import numpy as np
from bench.peak import forget_peak, held_bytes, peak_bytes
from model import Lesson, Recall, RecallConfig, succession
from model.codes import packed_code
from model.consolidation import consolidate

count, known, config, rng = {count}, {answers}, RecallConfig("d" * 64), np.random.default_rng(1)
centres, answers = rng.standard_normal((known, config.key_width)), rng.integers(known, size=count)
keys = centres[answers] + 0.5 * rng.standard_normal((count, config.key_width))
keys = (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)
lessons = [Lesson(key, f"answer {{answer}}", 5, 1 + at) for at, (key, answer) in enumerate(zip(keys, answers, strict=True))]
state = Recall(config).initial()  # it knows the answers, and need not have learned more
for answer in range(known):
    succession.add(state.levels["fast"], packed_code(f"answer {{answer}}", config.code_width), -1, 0.0)
before = held_bytes()
forget_peak()
work = consolidate(config, state, lessons)
try:
    while True:
        next(work)
except StopIteration as ended:
    places = int(ended.value.state.levels["slow"]["held"][0, 0])
print(peak_bytes() - before, places)
"""


@counted
@pytest.mark.timeout(900)
@pytest.mark.parametrize("answers", [30, LARGE], ids=["intents", "facts"])
def test_training_takes_less_memory_than_is_stated(answers):
    """If this fails, something is held that need not be, or `model.consolidation.room` and docs/operations.md say too little."""
    code = CHILD.format(count=LARGE, answers=answers)
    said = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=os.environ)
    added, places = map(int, said.stdout.split())
    assert places == RecallConfig("d" * 64).places, "it was trained, with more corrections than places"
    assert 0.4 * room(LARGE) < added < room(LARGE), "stated for what it is"


def test_a_process_without_conversations_has_no_libraries_of_language_models():
    """They are 140 MiB of what a process for jobs has before it does anything."""
    code = """
import sys, service.processes.jobs, service.processes.working_off, workers.maintenance, workers.jobs, workers.tasks, workers.celery_app
print([name for name in ("transformers", "torch._dynamo", "onnxruntime") if name in sys.modules])
"""
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "[]"


async def test_a_process_that_cannot_consolidate_says_why(tmp_path):
    with pytest.raises(Unfinished, match=r"ended with 1: .*the database cannot be used now"):
        await apart(tmp_path, 1, RecallConfig("d" * 64), "ten_1", "bank_1")


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
async def test_a_cancelled_board_ends_the_process_that_consolidates_for_it(tmp_path):
    def children() -> set[int]:
        return {int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()}

    before = children()
    board = asyncio.ensure_future(apart(tmp_path, 1, RecallConfig("d" * 64), "ten_1", "bank_1"))
    started: set[int] = set()
    for _ in range(1_000):
        await asyncio.sleep(0.01)
        if started := children() - before:
            break
    (pid,) = started
    os.kill(pid, signal.SIGSTOP)  # it does not end by itself
    board.cancel()
    with pytest.raises(asyncio.CancelledError):
        await board
    assert pid not in children()
