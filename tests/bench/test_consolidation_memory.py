"""A consolidation takes no more memory than is stated: counted by Linux in processes that do nothing else."""

import os
import subprocess
import sys

import pytest

from bench.consolidating import Unfinished, apart
from bench.peak import CLEAR
from model import RecallConfig
from model.consolidation import room

counted = pytest.mark.skipif(not CLEAR.exists(), reason="only Linux counts the most memory that a process had")
LARGE = 4_700  # corrections: more than places and window have room for, so that the largest system of all is solved
CHILD = """
import numpy as np
from bench.peak import forget_peak, held_bytes, peak_bytes
from model import Lesson, Recall, RecallConfig
from model.consolidation import consolidate

count, config, rng = int({count}), RecallConfig("d" * 64), np.random.default_rng(1)
centres, answers = rng.standard_normal((30, config.key_width)), rng.integers(30, size=count)
answers[:30] = np.arange(30)
keys = centres[answers] + rng.standard_normal((count, config.key_width))
keys = (keys / np.linalg.norm(keys, axis=1, keepdims=True)).astype(np.float32)
lessons = [Lesson(key, f"answer {{answer}}", 5, 1 + at) for at, (key, answer) in enumerate(zip(keys, answers, strict=True))]
state = Recall(config).fold(Recall(config).initial(), lessons[:30])  # the others need not be in it
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
@pytest.mark.timeout(240)
def test_training_takes_less_memory_than_is_stated():
    """If this fails, something is held that need not be, or `model.consolidation.room` and docs/operations.md say too little."""
    said = subprocess.run([sys.executable, "-c", CHILD.format(count=LARGE)], check=True, capture_output=True, text=True, env=os.environ)
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
        await apart(tmp_path, RecallConfig("d" * 64), "ten_1", "bank_1")
