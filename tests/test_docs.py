"""The written reference is complete: every route, every error code, every scope and every metric of the code is in it."""

import re
from pathlib import Path

from service.api.app import routes_only
from service.api.docs_page import error_codes
from service.telemetry import Metrics

DOCS = Path(__file__).resolve().parents[1] / "docs"
API, OPERATIONS = (DOCS / "api.md").read_text(), (DOCS / "operations.md").read_text()


def routes() -> dict[tuple[str, str], dict]:
    return {
        (method, route.path_format): handler.opt
        for route in routes_only().routes
        for handler in route.route_handlers
        for method in handler.http_methods
        if method != "OPTIONS"
    }


def written() -> dict[tuple[str, str], list[str]]:
    rows = re.findall(r"^\| `([A-Z]+) (/\S*)` \| (.+?) \| (.+?) \| .+ \|$", API, re.MULTILINE)
    return {(method, path): [scope, status] for method, path, scope, status in rows}


def test_every_route_is_in_the_reference_and_no_other():
    assert written().keys() == routes().keys()


def test_scope_of_every_route_is_in_the_reference():
    for route, opt in routes().items():
        scope, _ = written()[route]
        wanted = {"public"} if opt.get("public") else set(opt.get("scopes", ["any"]))
        assert {word.strip("`,") for word in scope.replace(" for mode `erase`", "").split()} == wanted, route


def test_status_of_every_route_is_in_the_reference():
    for route in routes_only().routes:
        for handler in route.route_handlers:
            for method in handler.http_methods - {"OPTIONS"}:
                assert str(handler.status_code) in written()[method, route.path_format][1].split(", "), route.path


def test_every_error_code_is_in_the_reference_with_its_status_and_advice():
    rows = re.findall(r"^\| `([a-z-]+)` \| (\d{3}) \| (.+) \|$", API, re.MULTILINE)
    assert {code: (int(status), advice) for code, status, advice in rows} == error_codes()


def test_every_metric_is_in_the_operations_page_and_no_other():
    registered = {metric.name + ("_total" if metric.type == "counter" else "") for metric in Metrics().registry.collect()}
    assert set(re.findall(r"^\| `(palimpsest_\w+)` \|", OPERATIONS, re.MULTILINE)) == registered


def test_links_between_the_documents_lead_somewhere():
    for page in sorted(DOCS.glob("*.md")):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
