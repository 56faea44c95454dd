"""An S3 server as the blob store's tests meet it: moto's, in a process of its own on a free port, once in a pytest process."""

import ctypes
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import httpx
import obstore
import pytest
from obstore.store import S3Store
from waiting import PATIENCE_S

PR_SET_PDEATHSIG = 1
STARTED = re.compile(r"Running on (http://\S+)")
BUCKET = "palimpsest-test"


@dataclass(frozen=True)
class S3:
    """A running server with one bucket, and what a client finds in its environment."""

    url: str

    @property
    def environment(self) -> dict[str, str]:
        return {"AWS_ENDPOINT_URL": self.url, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}

    @property
    def raw(self) -> S3Store:
        """The bucket as another client of the same account sees it."""
        config = {"endpoint": self.url, "region": "us-east-1", "access_key_id": "test", "secret_access_key": "test"}
        return S3Store(BUCKET, config=config, client_options={"allow_http": True})

    def write(self, key: str, data: bytes) -> None:
        """Write an object past all checks."""
        obstore.put(self.raw, key, data)

    def keys(self, prefix: str = "") -> list[str]:
        """All keys that begin with a prefix."""
        found = [each["path"] for batch in obstore.list(self.raw) for each in batch]
        return sorted(key for key in found if key.startswith(prefix))

    def modified(self, key: str) -> datetime:
        """When an object was last written, to the second."""
        return obstore.head(self.raw, key)["last_modified"]


@pytest.fixture(scope="session")
def s3(tmp_path_factory) -> Iterator[S3]:
    """The process's S3 server."""
    log = tmp_path_factory.mktemp("s3") / "log"
    with log.open("wb") as file:
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
        process = subprocess.Popen(command, stdout=file, stderr=file, preexec_fn=_die_with_parent)
    try:
        server = S3(_address(process, log))
        httpx.put(f"{server.url}/{BUCKET}", timeout=PATIENCE_S).raise_for_status()
        yield server
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _address(process: subprocess.Popen, log: Path) -> str:
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        if found := STARTED.search(log.read_text()):
            return found[1]
        assert process.poll() is None, log.read_text()
        time.sleep(0.02)
    raise AssertionError("the S3 server did not start: " + log.read_text())


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # a killed pytest leaves no server behind
