"""A real Redis server for tests: a child on a socket in its own directory, that can be killed, started again and emptied."""

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from waiting import PATIENCE_S

PR_SET_PDEATHSIG = 1


class RedisServer:
    """A throw-away server that keeps nothing: killed and started again it is empty."""

    def __init__(self, home: Path, *options: str) -> None:
        binary = shutil.which("redis-server")
        if binary is None:
            pytest.skip("no redis-server on the PATH")
        self.home, self._options, self.socket = home, options, home / "redis.sock"
        self._command = [binary, "--port", "0", "--unixsocket", str(self.socket), "--save", "", "--dir", str(home), *options]
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Start it if need be; it answers when this returns."""
        if self.process is None:
            with (self.home / "log").open("ab") as log:
                self.process = subprocess.Popen(self._command, stdout=log, stderr=log, preexec_fn=_die_with_parent)
        until = time.monotonic() + PATIENCE_S
        while True:
            try:
                self.command("PING")
                return
            except redis.exceptions.ConnectionError:
                assert self.process.poll() is None, (self.home / "log").read_text()
                assert time.monotonic() < until, (self.home / "log").read_text()
                time.sleep(0.005)

    def command(self, *words: str):
        """The reply to a command."""
        with contextlib.closing(redis.Redis.from_url(self.url, protocol=3, legacy_responses=False, socket_timeout=PATIENCE_S)) as client:
            return client.execute_command(*words)

    def calls(self, command: str) -> int:
        """How often a command was carried out so far, in scripts too."""
        return self.command("INFO", "commandstats").get(f"cmdstat_{command}", {"calls": 0})["calls"]

    def flush(self) -> None:
        """Lose all data and all scripts."""
        self.command("FLUSHALL")
        self.command("SCRIPT", "FLUSH")

    def age(self, seconds: float) -> None:
        """Let everything that it holds be so much older, as if the time had passed: what lives so long no more is gone.

        Besides times to live these are the scores of sorted sets, ends in milliseconds, and allowances, ends in microseconds.
        """
        for key in self.command("KEYS", "*"):
            kind = self.command("TYPE", key)
            if kind == b"zset":
                for member in self.command("ZRANGE", key, "0", "-1"):
                    self.command("ZINCRBY", key, f"{-1e3 * seconds:.0f}", member)
            if kind == b"string" and key.endswith(b":allowance"):
                end = float(self.command("GET", key))
                self.command("SET", key, f"{end - 1e6 * seconds:.17g}", "KEEPTTL")
            if (left_ms := self.command("PTTL", key)) > 0:
                self.command("PEXPIRE", key, str(max(0, left_ms - round(1e3 * seconds))))

    def kill(self) -> None:
        """`kill -9`."""
        self._signal(signal.SIGKILL)
        self.process.wait()
        self.process = None

    def pause(self) -> None:
        """Stop it as a machine that hangs: connections stay open and nobody answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def stop(self) -> None:
        if self.process is not None:
            self.kill()

    def _signal(self, number: int) -> None:
        os.kill(self.process.pid, number)


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)  # a killed pytest leaves no server behind


@contextlib.contextmanager
def redis_running(*options: str) -> Iterator[RedisServer]:
    """A server with options of its own."""
    home = Path(tempfile.mkdtemp(prefix="redis-", dir="/tmp"))  # a socket's path must be short
    try:
        server = RedisServer(home, *options)
        yield server
        server.stop()
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def redis_process() -> Iterator[RedisServer]:
    """The Redis server of this pytest process."""
    with redis_running() as server:
        yield server


@pytest.fixture
def redis_server(redis_process) -> RedisServer:
    """It, running and empty."""
    redis_process.start()
    redis_process.flush()
    return redis_process
