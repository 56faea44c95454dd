"""The API page in a real browser: whole, quiet, readable in light and dark, without scripts, and asking no other host."""

import re
from collections.abc import Iterator

import pytest
from fixtures_service import Lab
from listening import listening
from playwright.sync_api import BrowserContext, Page, expect
from waiting import PATIENCE_S

from service.api.app import routes_only
from service.api.docs_page import error_codes
from service.api.openapi import document

PHONE, DESK = {"width": 390, "height": 844}, {"width": 1280, "height": 900}


@pytest.fixture(scope="module")
def url(tmp_path_factory, encoder) -> Iterator[str]:
    """Where the real application listens."""
    lab = Lab(tmp_path_factory.mktemp("browser") / "var", encoder)
    with listening(lab) as base:
        yield base
    lab.close()


def opened(context: BrowserContext, url: str) -> tuple[Page, list[str], list[str]]:
    """The page at /docs, what the console said while it loaded, and every address that was asked."""
    page, said, asked = context.new_page(), [], []
    page.set_default_timeout(1e3 * PATIENCE_S)
    page.on("console", lambda message: said.append(f"{message.type}: {message.text}"))
    page.on("pageerror", lambda error: said.append(f"error: {error}"))
    page.on("requestfailed", lambda request: said.append(f"failed: {request.url}"))
    page.on("request", lambda request: asked.append(request.url))
    response = page.goto(f"{url}/docs", wait_until="networkidle")
    assert response is not None
    assert response.status == 200
    return page, said, asked


@pytest.fixture(params=["with scripts", "without scripts"])
def context(request, browser) -> Iterator[BrowserContext]:
    """A fresh context, with and without JavaScript."""
    made = browser.new_context(java_script_enabled=request.param == "with scripts", viewport=DESK)
    yield made
    made.close()


def test_page_loads_quietly_and_asks_nobody_else(context, url):
    _, said, asked = opened(context, url)
    assert said == []
    assert {address for address in asked if not address.startswith(f"{url}/")} == set()
    assert asked[0] == f"{url}/docs"


def test_every_route_and_every_error_code_can_be_seen(context, url):
    page, _, _ = opened(context, url)
    headings = page.locator("h3").all_inner_texts()
    for path, operations in document(routes_only())["paths"].items():
        for method, operation in operations.items():
            assert f"{method.upper()} {path}" in headings
            assert page.locator(f"#{operation['operationId']}").is_visible()
            summary = re.sub("`", "", operation["summary"])
            assert page.get_by_text(summary, exact=True).first.is_visible(), summary
    for code, (status, advice) in error_codes().items():
        row = page.locator(f"tr#{code}")
        assert row.is_visible()
        assert row.inner_text().split() == f"{code} {status} {advice.replace('`', '')}".split()


def test_type_of_a_problem_leads_to_its_row(context, url):
    page, _, _ = opened(context, url)
    page.goto(f"{url}/docs#tainted-snapshot")
    expect(page.locator("tr#tainted-snapshot")).to_be_in_viewport()


def test_link_to_the_document_leads_to_it(context, url):
    page, _, _ = opened(context, url)
    with page.expect_response(f"{url}/openapi.json") as got:
        page.get_by_role("link", name="/openapi.json").click()
    assert got.value.json()["openapi"].startswith("3.1")


def luminance(colour: str) -> float:
    parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, DESK], ids=["phone", "desk"])
def test_page_is_readable_in_light_and_dark_on_a_phone_and_a_desk(browser, url, scheme, size, tmp_path):
    context = browser.new_context(color_scheme=scheme, viewport=size)
    page, said, _ = opened(context, url)
    for selector in ("body", "code", "a", "th"):
        style = "element => [getComputedStyle(element).color, getComputedStyle(element).backgroundColor]"
        colour, behind = page.locator(selector).first.evaluate(style)
        if behind == "rgba(0, 0, 0, 0)":
            behind = page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor")
        light, dark = sorted((luminance(colour), luminance(behind)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{selector}: {colour} on {behind}"
    assert luminance(page.locator("body").evaluate("element => getComputedStyle(element).backgroundColor")) > 0.5 or scheme == "dark"
    assert page.evaluate("document.documentElement.scrollWidth") <= size["width"], "it scrolls sideways"
    shot = tmp_path / f"docs-{scheme}.png"
    page.screenshot(path=shot, full_page=True)
    assert shot.stat().st_size > 20_000
    assert said == []
    context.close()
