"""The embedded service as tests meet it: the real one on SQLite in a temporary directory, with a small memory so that it is quick."""

import asyncio
import contextlib
import threading
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from waiting import PATIENCE_S, until

from service.embedded import Embedded, load_encoder, run_embedded
from service.settings import Settings

ADMIN_KEY = "test-admin-key-of-at-least-32-characters"


@pytest.fixture(scope="session")
def encoder():
    """The real sentence encoder, once in a process."""
    return load_encoder(Settings())


@contextlib.asynccontextmanager
async def serving(var_dir: Path, encoder, *, memory: Mapping[str, Any] | None = None, **settings) -> AsyncIterator[Embedded]:
    """A small service on a directory; start it again on the same one to see what survived. `memory`: changes of its configuration."""
    from model import RecallConfig

    chosen = Settings(var_dir=var_dir, bootstrap_key=ADMIN_KEY, **{"sweep_s": 0.2, "log_level": "error", **settings})
    async with run_embedded(chosen, encoder=encoder, config=RecallConfig.tiny(encoder_digest=encoder.digest, **memory or {})) as service:
        yield service


@contextlib.asynccontextmanager
async def client_of(service: Embedded, key: str = ADMIN_KEY) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of the service without a socket."""
    async with serving_app(service.app, key) as client:
        yield client


@contextlib.asynccontextmanager
async def serving_app(app: Any, key: str) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of an application without a socket."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest", headers=headers, timeout=30) as client:
        yield client


@pytest_asyncio.fixture
async def service(tmp_path, encoder) -> AsyncIterator[Embedded]:
    """A fresh service."""
    async with serving(tmp_path / "var", encoder) as running:
        yield running


@pytest_asyncio.fixture
async def client(service) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's client of the fresh service."""
    async with client_of(service) as admin:
        yield admin


class Lab:
    """A service in a loop of its own thread, for tests that are not coroutines (property and stateful tests)."""

    def __init__(self, var_dir: Path, encoder, **settings) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._context = serving(var_dir, encoder, **settings)
        self.service: Embedded = self.run(self._context.__aenter__())
        self._client = client_of(self.service)
        self.client: httpx.AsyncClient = self.run(self._client.__aenter__())

    def run(self, coroutine):
        """The result of a coroutine in the lab's loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(2 * PATIENCE_S)

    def call(self, method: str, path: str, body=None, *, expect: int | None = None, **kwargs) -> dict:
        """A request's JSON; fails when the status is not the expected one."""
        response = self.run(self.client.request(method, path, json=body, **kwargs))
        assert expect is None or response.status_code == expect, response.text
        return response.json() if response.content else {}

    def finished(self, job_id: str) -> dict:
        """The job once it has ended."""
        return self.run(finished(self.client, job_id))

    def close(self) -> None:
        self.run(self._client.__aexit__(None, None, None))
        self.run(self._context.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder) -> Iterator[Lab]:
    """One service for all examples of a module's property tests; each example takes a bank of its own."""
    made = Lab(tmp_path_factory.mktemp("lab") / "var", encoder)
    yield made
    made.close()


async def finished(client: httpx.AsyncClient, job_id: str) -> dict:
    """The job once it has ended; fails after two minutes."""

    async def ended() -> dict | None:
        job = (await client.get(f"/v1/jobs/{job_id}")).json()
        return job if job["status"] in ("succeeded", "failed", "canceled") else None

    return await until(ended, f"job {job_id} has ended")
