"""A tenant and a bank in the fresh database."""

import pytest_asyncio
from keeping import new_bank, new_tenant


@pytest_asyncio.fixture
async def tenant(database) -> str:
    return await new_tenant(database)


@pytest_asyncio.fixture
async def bank(database, tenant):
    return await new_bank(database, tenant)
