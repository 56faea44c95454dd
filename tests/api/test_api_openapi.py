"""The OpenAPI document: committed as the code serves it, and true for whatever a generator makes of it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from fixtures_service import ADMIN_KEY
from hypothesis import HealthCheck, settings
from listening import listening
from schemathesis.checks import CHECKS
from waiting import PATIENCE_S

from service.api.app import routes_only
from service.api.openapi import document, text

COMMITTED = Path(__file__).resolve().parents[2] / "docs" / "openapi.json"
LENIENT = {
    "positive_data_acceptance": "a schema cannot say that a text must not be blank, that an id must exist, or what a cursor holds",
}


REJECTION = "negative_data_rejection"


def lets_pass(case) -> bool:
    """Whether a call that imitates another service's may accept this one: it lets pass what that has besides (`service/api/queries.py`)."""
    known = {parameter.name for parameter in case.operation.query}
    return not case.path.startswith("/v1/") and not set(case.query or {}) <= known


def test_committed_document_is_what_the_code_says():
    assert COMMITTED.read_text() == text(routes_only()), "run `make openapi`"


def test_every_operation_has_an_id_a_summary_and_documented_answers():
    spec = document(routes_only())
    ids = []
    for path, operations in spec["paths"].items():
        for method, operation in operations.items():
            ids.append(operation["operationId"])
            assert operation["summary"], (method, path)
            assert all(answer["description"] for answer in operation["responses"].values()), (method, path)
            assert ("Idempotency-Key" in str(operation["parameters"])) == (method == "post"), (method, path)
    assert len(ids) == len(set(ids))
    used = set(json.dumps(spec).split('"#/components/schemas/')[1:])
    assert {reference.partition('"')[0] for reference in used} == spec["components"]["schemas"].keys()


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    """Where a service listens."""
    with listening(lab) as base:
        yield base


schema = schemathesis.openapi.from_dict(document(routes_only()))
schema = schema.exclude(operation_id="stream_changes")  # it may stay open for ever; test_api_stream.py has it
schema.config.checks.negative_data_rejection.expected_statuses += ["413"]  # what is too long may make the body too large


@schema.parametrize()
@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
def test_generated_requests_get_documented_answers(case, url):
    checked = [
        CHECKS.get_one(name) for name in CHECKS.get_all_names() if name not in LENIENT and not (name == REJECTION and lets_pass(case))
    ]
    case.call_and_validate(base_url=url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, checks=checked, timeout=PATIENCE_S)
