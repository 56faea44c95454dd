"""Health and metrics: open to everybody who reaches the port, and nothing of a tenant is in them."""

import re

import pytest
from fixtures_service import client_of, finished
from prometheus_client.parser import text_string_to_metric_families
from saying import PIN, teach
from tenancy import client_over, deps_of
from waiting import until

from service.api.app import routes_only
from service.api.openapi import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

AN_ID = re.compile(r"_[0-9A-HJKMNP-TV-Z]{26}")


async def test_health_is_open_to_everybody_and_ready_says_what_is_missing(tenant, house):
    async with client_of(house, "no key") as stranger:
        for path in ("/health/live", "/health/ready"):
            response = await stranger.get(path)
            assert response.status_code == 200
            assert response.json()["ready"] is True
        parts = {part["name"]: part["ok"] for part in (await stranger.get("/health/ready")).json()["components"]}
        assert parts == {"database": True, "encoder": True, "model": True}
    async with client_over(deps_of(house, ready=lambda: False), "no key") as early:
        response = await early.get("/health/ready")
        assert (response.status_code, response.json()["ready"]) == (503, False)
        assert (await early.get("/health/live")).status_code == 200


async def test_metrics_count_routes_by_template_and_hold_no_ids(tenant, house):
    taught = await teach(tenant.client, PIN, "change_pin")
    await tenant.client.get(f"/v1/corrections/{taught['id']}")
    await tenant.client.get("/v1/banks/never-heard-of")
    await tenant.client.get("/wp-login.php")
    await finished(tenant.client, (await tenant.client.post("/v1/consolidations", json={})).json()["job_id"])
    async with client_of(house, "no key") as stranger:

        async def told():
            response = await stranger.get("/metrics")
            return response if 'kind="consolidation",status="succeeded"' in response.text else None

        response = await until(told, "the end of the job is counted")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    families = {family.name: family for family in text_string_to_metric_families(response.text)}
    requests = families["palimpsest_requests"].samples
    routes = {sample.labels["route"] for sample in requests}
    assert {"/v1/corrections", "/v1/corrections/{correction_id}", "/v1/banks/{bank_id}", "(none)"} <= routes
    assert routes <= document(routes_only())["paths"].keys() | {"(none)", "/docs", "/openapi.json"}
    once = {"route": "/v1/banks/{bank_id}", "method": "GET", "status": "404"}
    assert [sample.value for sample in requests if sample.labels == once and sample.name.endswith("_total")] >= [1.0]
    assert {"encode", "append", "apply", "read"} <= {sample.labels["stage"] for sample in families["palimpsest_stage_seconds"].samples}
    assert families["palimpsest_warm_banks"].samples[0].value == len(house.engine.banks) > 0
    jobs = [sample.labels for sample in families["palimpsest_jobs"].samples]
    assert {"kind": "consolidation", "status": "succeeded"} in jobs
    assert AN_ID.search(response.text) is None
    assert "never-heard-of" not in response.text
    assert "wp-login" not in response.text
