"""Vectors that a benchmark keeps are kept for the test run only."""

import pytest


@pytest.fixture(autouse=True, scope="session")
def kept_vectors(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield
