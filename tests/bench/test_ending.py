"""A benchmark that is ended before its time leaves neither processes nor directories behind."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
from waiting import PATIENCE_S

ROOT = Path(__file__).resolve().parents[2]


def children(pid: int) -> list[int]:
    """The processes that a process has started and that are there."""
    try:
        found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except FileNotFoundError:
        return []
    return [int(child) for child in found]


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def until(condition, what: str) -> None:
    end = time.monotonic() + 2 * PATIENCE_S
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def scratch():
    """A folder that PostgreSQL's own user may pass through."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


@pytest.fixture
def begun(scratch):
    """A benchmark in the middle of its work, what it has started, and where its scratch directories are."""
    made = []

    def begin(*options: str, number: int) -> tuple[subprocess.Popen, list[int]]:
        environ = {**os.environ, "TMPDIR": str(scratch), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-m", "bench", *options]
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        made.append(process)
        until(lambda: process.poll() is not None or len(children(process.pid)) >= number, "it did not start anything")
        assert process.poll() is None, process.communicate()[0]
        assert any(scratch.glob("palimpsest-*"))
        return process, children(process.pid)

    yield begin
    for process in made:
        process.kill()
        process.wait()
        process.stdout.close()


COMMANDS = {"one process": (["latency"], 1), "a cluster": (["latency", "--cluster"], 4)}


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_terminated_benchmark_stops_what_it_started_and_deletes_its_directories(name, begun, scratch):
    options, number = COMMANDS[name]
    process, started = begun(*options, number=number)
    process.terminate()
    said, _ = process.communicate(timeout=2 * PATIENCE_S)
    assert (process.returncode, "Aborted!" in said) == (1, True), said
    assert [pid for pid in started if runs(pid)] == []
    assert list(scratch.glob("palimpsest-*")) == []


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", COMMANDS)
def test_processes_of_a_killed_benchmark_end_with_it(name, begun):
    options, number = COMMANDS[name]
    process, started = begun(*options, number=number)
    process.kill()
    process.communicate(timeout=2 * PATIENCE_S)
    until(lambda: not any(runs(pid) for pid in started), "they live on")
