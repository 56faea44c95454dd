"""No key reaches anything of another tenant: for it, what is not its own does not exist."""

import pytest
from routes import ROUTES, furnish
from saying import PIN, ask
from tenancy import changed, kept, refused

from service.api.app import routes_only
from service.api.openapi import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS = [
    "/v1/corrections",
    "/v1/events",
    "/v1/snapshots",
    "/v1/jobs",
    "/v1/banks",
    "/v1/keys",
    "/v1/audit",
    "/v1/sessions",
    "/v1/quarantine",
    "/v1/webhooks",
    "/v1/probe-sets",
    "/v1/proposals",
]


async def test_ids_of_another_tenant_are_not_found_on_any_route_and_nothing_changes(tenant, other):
    mine, theirs = await furnish(tenant), await furnish(other)
    before = kept(tenant)
    tried = 0
    for route in ROUTES:
        names = [name for name in theirs if "{" + name + "}" in f"{route.template} {route.body}"]
        for name in names:  # one foreign id among otherwise own ones, then all of them
            for has in ({**mine, name: theirs[name]}, theirs):
                response = await tenant.client.request(route.method, route.path(has), json=route.json(has))
                said = refused(response, 404, "not-found")
                assert other.id not in str(said)
                tried += 1
    assert tried >= 30
    assert changed(before, kept(tenant)) == {}, "something of either tenant changed"


async def test_bank_of_another_tenant_is_not_found_by_a_query_either(tenant, other):
    """Of every route that takes one, by its id and by a name that only the other has."""
    mine, theirs = await furnish(tenant), await furnish(other)
    named = (await other.client.post("/v1/banks", json={"name": "theirs alone"})).json()["name"]
    asked = {path: operations["get"] for path, operations in document(routes_only())["paths"].items() if takes_bank(operations.get("get"))}
    assert len(asked) >= 9
    for path, operation in asked.items():
        needed = {given["name"]: "pin" for given in operation["parameters"] if given["in"] == "query" and given["required"]}
        if path == "/v1/stream":
            needed["wait_s"] = "0"  # else it stays open
        for bank in (theirs["bank_id"], named):
            response = await tenant.client.get(path.format(**mine), params={"bank": bank, **needed})
            said = refused(response, 404, "not-found")
            assert not [name for name in theirs.values() if name != bank and name in str(said)]
        found = await tenant.client.get(path.format(**mine), params={"bank": mine["bank_id"], **needed})
        assert found.status_code == 200, "it is the tenant that makes the difference"


def takes_bank(operation: dict | None) -> bool:
    return operation is not None and any((given["in"], given["name"]) == ("query", "bank") for given in operation["parameters"])


async def test_same_requests_of_the_owner_are_done(tenant, other):
    """The positive control of the test above: it is the tenant that makes the difference."""
    await furnish(other)
    mine = await furnish(tenant)
    for route in ROUTES:
        response = await tenant.client.request(route.method, route.path(mine), json=route.json(mine))
        assert response.status_code == route.status, (route, response.text)


async def test_lists_hold_only_what_is_the_tenants_own(tenant, other):
    mine, theirs = await furnish(tenant), await furnish(other)
    for path in LISTS:
        text = (await tenant.client.get(path, params={"limit": 200})).text
        assert not [name for name in theirs.values() if name in text], path
        assert [name for name in mine.values() if name in text], path


async def test_cursor_of_another_tenant_leads_to_nothing_of_theirs(tenant, other):
    await furnish(tenant)
    theirs = await furnish(other)
    for path in LISTS:
        cursor = (await other.client.get(path, params={"limit": 1})).json()["next_cursor"]
        if cursor is None:
            continue
        response = await tenant.client.get(path, params={"cursor": cursor, "limit": 200})
        assert response.status_code in (200, 400)
        assert not [name for name in theirs.values() if name in response.text], path


async def test_banks_of_the_same_name_know_nothing_of_each_other(tenant, other):
    await other.client.post("/v1/corrections", json={"input": PIN, "right": "their secret"})
    asked = await ask(tenant.client, PIN, min_confidence=0, top_k=100)
    assert (asked["answers"], asked["abstained"]) == ([], True)
    assert (await tenant.client.get("/v1/memory")).json()["events"] == 0


async def test_tenant_cannot_be_chosen_by_path_query_header_or_body(tenant, other):
    await furnish(other)
    for name in ("tenant", "X-Tenant", "X-Tenant-Id", "Tenant"):
        me = (await tenant.client.get("/v1/whoami", headers={name: other.id})).json()
        assert me["tenant"] == tenant.id
        assert (await tenant.client.get("/v1/events", headers={name: other.id})).json()["items"] == []
    for path in ("/v1/whoami", "/v1/events"):
        refused(await tenant.client.get(path, params={"tenant": other.id}), 400, "validation", "tenant")
    refused(await tenant.client.post("/v1/recall", json={"input": PIN, "tenant": other.id}), 400, "validation", "tenant")
