"""A real browser, a service that it finds, and pages that fail their test when anything is wrong with them."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures_service import Lab
from listening import listening
from playwright.sync_api import Browser, BrowserContext, expect, sync_playwright
from visiting import DESK
from waiting import PATIENCE_S

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium. Not for the whole session: playwright keeps an event loop running, beside which no other test can have one."""
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium on this machine: apt-get install chromium")
    expect.set_options(timeout=1e3 * PATIENCE_S)
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, headless=True, args=ARGUMENTS)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder) -> Iterator[Lab]:
    """The real service; webhooks may lead to this machine."""
    made = Lab(tmp_path_factory.mktemp("console") / "var", encoder, webhook_private=True, webhook_retry_s=0.05)
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    """Where the real application listens."""
    with listening(lab) as base:
        yield base


@pytest.fixture
def context(browser) -> Iterator[BrowserContext]:
    """A visitor in another time zone than the service."""
    made = browser.new_context(viewport=DESK, locale="en-GB", timezone_id="Asia/Kolkata", reduced_motion="reduce")
    made.set_default_timeout(1e3 * PATIENCE_S)
    yield made
    made.close()


@pytest.fixture(scope="session")
def shots() -> Path:
    """Where screenshots are kept, to be looked at: $SHOTS, else build/console."""
    folder = Path(os.environ.get("SHOTS") or Path(__file__).resolve().parents[2] / "build" / "console")
    folder.mkdir(parents=True, exist_ok=True)
    return folder
