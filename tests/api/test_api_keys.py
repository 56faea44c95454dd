"""Keys: what each may do, what a pinned one may see, how they end, and that no secret is ever seen twice."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from fixtures_service import client_of
from routes import ANY, ROUTES, furnish
from saying import PIN, SPAIN, ask, snapshot, teach
from tenancy import SCOPES, kept, refused
from waiting import until

from service.api.app import routes_only
from service.api.openapi import document

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def mint(client, *scopes, expect=201, **more):
    response = await client.post("/v1/keys", json={"name": "minted", "scopes": list(scopes), **more})
    assert response.status_code == expect, response.text
    return response.json()


async def test_table_of_routes_is_complete():
    paths = document(routes_only())["paths"]
    with_key = {(method.upper(), path) for path, operations in paths.items() for method, it in operations.items() if it["security"]}
    assert with_key == {(route.method, route.template.partition("?")[0]) for route in ROUTES}
    assert {route.scope for route in ROUTES} == {ANY, *SCOPES}


async def test_every_route_asks_for_its_scope_and_for_no_other(tenant):
    """With all other scopes but the route's it is 403 and nothing happens; with the route's alone it is done."""
    has = await furnish(tenant)
    for route in [route for route in ROUTES if route.scope != ANY]:
        without = await tenant.client_with(*(scope for scope in SCOPES if scope not in (route.scope, "admin")))
        untouched = kept(tenant)
        said = refused(await without.request(route.method, route.path(has), json=route.json(has)), 403, "forbidden")
        assert route.scope in said["detail"], "it tells which scope is needed"
        assert kept(tenant) == untouched, route
    for route in ROUTES:
        alone = await tenant.client_with("recall:read" if route.scope == ANY else route.scope)
        response = await alone.request(route.method, route.path(has), json=route.json(has))
        assert response.status_code == route.status, (route, response.text)


async def test_admin_may_do_everything(tenant):
    has = await furnish(tenant)
    for route in ROUTES:
        response = await tenant.client.request(route.method, route.path(has), json=route.json(has))
        assert response.status_code == route.status, (route, response.text)


async def test_minted_key_works_as_it_was_minted(tenant, house):
    expires = datetime(2100, 1, 1, tzinfo=UTC)
    minted = await mint(tenant.client, "recall:read", "recall:read", expires_at=expires.isoformat())
    assert minted["key"].startswith(minted["prefix"])
    assert (minted["scopes"], minted["banks"], datetime.fromisoformat(minted["expires_at"])) == (["recall:read"], None, expires)
    async with client_of(house, minted["key"]) as client:
        me = (await client.get("/v1/whoami")).json()
        assert me == {"tenant": tenant.id, "key_id": minted["id"], "scopes": ["recall:read"], "banks": None}
        await ask(client, PIN)
        refused(await client.post("/v1/corrections", json={"input": PIN, "right": "x"}), 403, "forbidden")


async def test_secret_is_shown_once_and_stored_nowhere(tenant, house):
    minted = await mint(tenant.client, "recall:read")
    secret = minted["key"].rpartition("_")[2]
    for path in ("/v1/keys", "/v1/audit", "/metrics"):
        assert secret not in (await tenant.client.get(path)).text
    assert secret not in str(kept(tenant))
    for path in house.settings.var_dir.rglob("*"):
        assert not path.is_file() or secret.encode() not in path.read_bytes(), path
    assert re.fullmatch(r"pal_[0-9A-Za-z]{8}", minted["prefix"])


async def test_key_cannot_mint_a_wider_one(tenant):
    """Only an admin mints; one that is pinned to banks could mint itself free, so it may not."""
    bank = (await tenant.client.get("/v1/banks/default")).json()["id"]
    pinned = await tenant.client_with("admin", banks=[bank])
    everything_else = await tenant.client_with(*(scope for scope in SCOPES if scope != "admin"))
    before = kept(tenant)
    for client in (pinned, everything_else):
        for body in (
            {"name": "n", "scopes": ["recall:read"]},
            {"name": "n", "scopes": ["admin"]},
            {"name": "n", "scopes": ["recall:read"], "banks": [bank]},
        ):
            refused(await client.post("/v1/keys", json=body), 403, "forbidden")
    assert kept(tenant) == before


async def test_key_cannot_be_pinned_to_an_unknown_or_foreign_bank(tenant, other):
    foreign = (await other.client.get("/v1/banks/default")).json()["id"]
    before = kept(tenant)
    for bank in ("nobody", foreign):
        response = await tenant.client.post("/v1/keys", json={"name": "n", "scopes": ["recall:read"], "banks": ["default", bank]})
        refused(response, 404, "not-found")
    assert kept(tenant) == before


async def test_pinned_key_sees_its_bank_and_no_other(tenant, house):
    mine = (await tenant.client.post("/v1/banks", json={"name": "mine"})).json()
    theirs = (await tenant.client.get("/v1/banks/default")).json()
    foreign = await teach(tenant.client, PIN, "change_pin")
    saved = await snapshot(tenant.client)
    job = (await tenant.client.post("/v1/consolidations", json={})).json()["job_id"]
    session = (await tenant.client.post("/v1/sessions", json={})).json()["id"]
    minted = await mint(tenant.client, *SCOPES, banks=["mine", mine["id"]])
    assert minted["banks"] == [mine["id"]], "a name is kept as the id that it means"
    async with client_of(house, minted["key"]) as client:
        assert [row["id"] for row in (await client.get("/v1/banks")).json()["items"]] == [mine["id"]]
        taught = await teach(client, SPAIN, "transfer_time")
        assert (await client.get("/v1/memory")).json()["bank"] == mine["id"], "its one bank is what it means by default"
        assert (await ask(client, SPAIN, bank="mine"))["answers"][0]["support"] == [taught["id"]]
        assert (await client.get("/v1/jobs")).json()["items"] == []
        before = kept(tenant)
        for bank in (theirs["id"], "default"):
            for method, path in (
                ("GET", "/v1/memory"),
                ("GET", "/v1/events"),
                ("GET", "/v1/corrections"),
                ("GET", "/v1/snapshots"),
                ("GET", "/v1/jobs"),
                ("GET", "/v1/sessions"),
                ("GET", f"/v1/sessions/{session}"),
                ("POST", f"/v1/sessions/{session}/warm"),
                ("DELETE", f"/v1/sessions/{session}"),
            ):
                refused(await client.request(method, path, params={"bank": bank}), 404, "not-found")
            for path, body in (
                ("/v1/corrections", {"input": PIN, "right": "x"}),
                ("/v1/corrections/batch", {"items": [{"input": PIN, "right": "x"}]}),
                ("/v1/recall", {"input": PIN}),
                ("/v1/recall/batch", {"inputs": [PIN]}),
                ("/v1/snapshots", {}),
                ("/v1/rollback", {"to": saved["id"]}),
                ("/v1/forget", {"corrections": [foreign["id"]], "mode": "erase"}),
                ("/v1/consolidations", {}),
                ("/v1/sessions", {"id": session}),
            ):
                refused(await client.post(path, json={**body, "bank": bank}), 404, "not-found")
            refused(await client.get(f"/v1/banks/{bank}"), 404, "not-found")
            refused(await client.delete(f"/v1/banks/{bank}"), 404, "not-found")
        for path in (f"/v1/sessions/{session}", f"/v1/jobs/{job}", f"/v1/snapshots/{saved['id']}", f"/v1/corrections/{foreign['id']}"):
            refused(await client.get(path), 404, "not-found")
        refused(await client.post(f"/v1/jobs/{job}/cancel"), 404, "not-found")
        refused(await client.post("/v1/rollback", json={"to": saved["id"]}), 404, "not-found")
        refused(await client.post("/v1/recall", json={"input": PIN, "at": saved["id"]}), 404, "not-found")
        refused(await client.post("/v1/forget", json={"corrections": [foreign["id"]], "mode": "suppress"}), 404, "not-found")
        for method, path, body in (
            ("POST", "/v1/banks", {"name": "more"}),
            ("GET", "/v1/keys", None),
            ("GET", "/v1/audit", None),
            ("DELETE", f"/v1/keys/{minted['id']}", None),
        ):
            refused(await client.request(method, path, json=body), 403, "forbidden")
        after = kept(tenant)
        del before["rows"]["job"], after["rows"]["job"]  # the admin's consolidation goes on meanwhile
        assert {name: rows for name, rows in after["rows"].items() if name in ("event", "forget", "tombstone", "api_key")} == {
            name: rows for name, rows in before["rows"].items() if name in ("event", "forget", "tombstone", "api_key")
        }


async def test_key_pinned_to_two_banks_names_the_one_it_means(tenant):
    banks = [(await tenant.client.post("/v1/banks", json={"name": name})).json()["id"] for name in ("one", "two")]
    client = await tenant.client_with("admin", banks=banks)
    assert [row["id"] for row in (await client.get("/v1/banks")).json()["items"]] == banks
    for name in ("one", "two", *banks):
        await teach(client, PIN, "change_pin", bank=name)
    refused(await client.get("/v1/memory"), 404, "not-found")
    refused(await client.post("/v1/corrections", json={"input": PIN, "right": "x"}), 404, "not-found")


async def test_key_pinned_to_a_deleted_bank_sees_nothing(tenant):
    bank = (await tenant.client.post("/v1/banks", json={"name": "gone"})).json()["id"]
    client = await tenant.client_with("admin", banks=[bank])
    await teach(client, PIN, "change_pin")
    assert (await tenant.client.delete(f"/v1/banks/{bank}")).status_code == 204
    refused(await client.post("/v1/recall", json={"input": PIN}), 404, "not-found")
    refused(await client.post("/v1/corrections", json={"input": PIN, "right": "x"}), 404, "not-found")
    assert (await client.get("/v1/banks")).json()["items"] == []


async def test_revoking_takes_effect_at_once_is_listed_and_may_be_repeated(tenant, house):
    minted = await mint(tenant.client, "admin")
    async with client_of(house, minted["key"]) as client:
        assert (await client.get("/v1/whoami")).status_code == 200
        first = (await tenant.client.delete(f"/v1/keys/{minted['id']}")).json()
        refused(await client.get("/v1/whoami"), 401, "unauthenticated")
    assert first["revoked_at"] is not None
    assert (await tenant.client.delete(f"/v1/keys/{minted['id']}")).json()["revoked_at"] == first["revoked_at"]
    listed = {row["id"]: row for row in (await tenant.client.get("/v1/keys")).json()["items"]}
    assert listed[minted["id"]]["revoked_at"] == first["revoked_at"]


async def test_last_usable_admin_key_cannot_be_revoked(tenant):
    """Expired, revoked and pinned admin keys do not count: none of them could mint another."""
    bank = (await tenant.client.get("/v1/banks/default")).json()["id"]
    me = (await tenant.client.get("/v1/whoami")).json()["key_id"]
    await tenant.key("admin", expires_at=datetime.now(UTC) - timedelta(days=1))
    await tenant.key("admin", banks=[bank])
    await tenant.key(*(scope for scope in SCOPES if scope != "admin"))
    spare = await mint(tenant.client, "admin")
    assert (await tenant.client.delete(f"/v1/keys/{spare['id']}")).status_code == 200
    refused(await tenant.client.delete(f"/v1/keys/{me}"), 409, "conflict")
    assert (await tenant.client.get("/v1/whoami")).status_code == 200
    await mint(tenant.client, "admin")
    assert (await tenant.client.delete(f"/v1/keys/{me}")).status_code == 200
    refused(await tenant.client.get("/v1/whoami"), 401, "unauthenticated")


async def test_use_of_a_key_is_noted(tenant):
    minted = await mint(tenant.client, "admin")

    async def used():
        return next(row for row in (await tenant.client.get("/v1/keys")).json()["items"] if row["id"] == minted["id"])["last_used_at"]

    assert await used() is None
    async with client_of(tenant.service, minted["key"]) as client:
        await client.get("/v1/whoami")
    assert await until(used, "the use is noted") is not None
