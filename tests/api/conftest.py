"""One service for the tests of a file; each test rents a tenant of its own, so that no test sees anything of another."""

from collections.abc import AsyncIterator

import pytest_asyncio
from completing import KEY, completing
from fixtures_service import serving
from saying import PIN, snapshot, teach
from tenancy import Tenant, renting

from service.embedded import Embedded
from service.settings import Upstream


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def house(tmp_path_factory, encoder) -> AsyncIterator[Embedded]:
    """The file's service."""
    calm = {"sweep_s": 3_600, "webhook_private": True}  # a job without a bell stays queued, and no webhook leads out
    with completing() as upstream:
        calm["upstreams"] = (Upstream(url=upstream.url, key=KEY, models=("echo",)),)
        async with serving(tmp_path_factory.mktemp("house") / "var", encoder, **calm) as service:
            yield service


@pytest_asyncio.fixture(loop_scope="module")
async def tenant(house) -> AsyncIterator[Tenant]:
    """A new tenant."""
    async with renting(house) as rented:
        yield rented


@pytest_asyncio.fixture(loop_scope="module")
async def other(house) -> AsyncIterator[Tenant]:
    """Another new tenant of the same service."""
    async with renting(house) as rented:
        yield rented


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def resident(house) -> AsyncIterator[Tenant]:
    """A tenant for all tests of a file whose requests are not about what it holds."""
    async with renting(house) as rented:
        yield rented


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def taught(resident) -> Tenant:
    """A tenant that has something to lose."""
    await teach(resident.client, PIN, "change_pin")
    await snapshot(resident.client)
    return resident
