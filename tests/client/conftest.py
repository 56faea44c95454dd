"""Both clients before a real service that listens; each test has a bank of its own."""

from collections.abc import Iterator
from uuid import uuid4

import pytest
from either_kind import got
from fixtures_service import ADMIN_KEY
from listening import listening

from palimpsest import AsyncClient, Client


@pytest.fixture(autouse=True)
def no_profile_of_ours(monkeypatch, tmp_path):
    """Neither the environment nor the configuration of whoever runs the tests says which service is asked."""
    for name in ("URL", "KEY", "BANK", "PROFILE"):
        monkeypatch.delenv(f"PALIMPSEST_{name}", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    """Where the service listens."""
    with listening(lab) as base:
        yield base


@pytest.fixture
def bank(url) -> str:
    """The name of a new bank."""
    with Client(url, api_key=ADMIN_KEY) as admin:
        return admin.create_bank(f"bank {uuid4().hex}").name


@pytest.fixture
def memory(url, bank) -> Iterator[Client]:
    """A client that waits."""
    with Client(url, api_key=ADMIN_KEY, bank=bank) as client:
        yield client


@pytest.fixture(params=[Client, AsyncClient], ids=["waiting", "awaiting"])
async def either(request, url, bank):
    """A client of either kind."""
    client = request.param(url, api_key=ADMIN_KEY, bank=bank)
    yield client
    await got(client.close())
