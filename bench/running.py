"""A service as a user runs it: a process of its own, `palimpsest serve`, on a free port and a directory that goes away with it."""

import asyncio
import contextlib
import os
import re
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_urlsafe

import httpx

from bench.ending import end_with_parent

START_S = 120.0  # a cold disk and a busy machine
STOP_S = 30.0
SAYS = re.compile(r"serves on (http://\S+)")


class NotServing(Exception):
    """The service did not start; the message has what it said."""


@dataclass(frozen=True, slots=True)
class Running:
    """Where a service listens, the key of its admin, and the directory that it keeps everything in (None: a cluster has none)."""

    url: str
    key: str
    var_dir: Path | None = None

    def client(self) -> httpx.AsyncClient:
        """A client with the key."""
        return client_of(self.url, self.key)


def client_of(url: str, key: str) -> httpx.AsyncClient:
    """A client of the service at `url`."""
    return httpx.AsyncClient(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60)


@contextlib.asynccontextmanager
async def running_service(environ: Mapping[str, str] = os.environ) -> AsyncIterator[Running]:
    """Start a service, give it when it is ready, stop it. `environ` holds further settings, as for `palimpsest serve`.

    Raises:
        NotServing: it ended before it was ready, or was not in time.
    """
    key = token_urlsafe(32)
    with tempfile.TemporaryDirectory(prefix="palimpsest-bench-") as scratch:
        own = {"VAR_DIR": f"{scratch}/var", "PORT": "0", "HOST": "127.0.0.1", "BOOTSTRAP_KEY": key, "DATABASE": "", "BLOBS": ""}
        variables = {**environ, **{f"PALIMPSEST_{name}": value for name, value in own.items()}}
        log = Path(scratch) / "log"
        with log.open("wb") as errors:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "service.cli", "serve"),
                stdout=asyncio.subprocess.PIPE,
                stderr=errors,
                env=variables,
                preexec_fn=end_with_parent,
            )
        try:
            url = await address_of(process, log)
            await until_ready(url, log)
            yield Running(url, key, Path(scratch) / "var")
        finally:
            await _stop(process)


async def address_of(process: asyncio.subprocess.Process, log: Path) -> str:
    """Where a service that was just started will listen, as it says on its standard output.

    Raises:
        NotServing: it ended before it said so, or was not in time.
    """
    assert process.stdout is not None
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S):
            async for line in process.stdout:
                if found := SAYS.search(line.decode()):
                    return found[1]
    raise NotServing(f"the service did not start: {_end(log)}")


async def until_ready(url: str, log: Path) -> None:
    """Wait until the service is ready; it tells its address just before the socket listens.

    Raises:
        NotServing: it was not in time.
    """
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(START_S), httpx.AsyncClient(base_url=url) as client:
            while True:
                with contextlib.suppress(httpx.TransportError):
                    if (await client.get("/health/ready")).is_success:
                        return
                await asyncio.sleep(0.05)
    raise NotServing(f"the service is not ready: {_end(log)}")


def _end(log: Path) -> str:
    return log.read_text(errors="replace")[-2_000:].strip() or "it said nothing"


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        process.terminate()
    try:
        async with asyncio.timeout(STOP_S):
            await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
