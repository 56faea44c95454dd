"""One world, built once in a process; each test works on copies of it."""

import asyncio

import pytest

pytest.register_assert_rewrite("fault_world", "fault_operations", "fault_promises")  # before they are imported

from fault_world import Remembering, World, build, folds  # noqa: E402


@pytest.fixture(scope="session")
def encoder(encoder):
    """The real encoder; the same few texts are asked a thousand times."""
    return Remembering(encoder)


@pytest.fixture(scope="session")
def world(tmp_path_factory, encoder) -> World:
    return asyncio.run(build(tmp_path_factory.mktemp("world") / "var", encoder))


@pytest.fixture(scope="session")
def fold(encoder):
    return folds(encoder)
