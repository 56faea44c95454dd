"""What is not the caller's to name, and keys and headers of the wrong form: refused, and nothing is lost or kept."""

from datetime import UTC, datetime, timedelta

import pytest
from fixtures_service import client_of
from saying import PIN, SPAIN, snapshot, teach
from tenancy import client_over, deps_of, kept, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"input": PIN, "right": "change_pin"}
MILLION = 1_000_000
ROUTES_WITH_BANK = [
    ("POST", "/v1/corrections", GOOD),
    ("POST", "/v1/corrections/batch", {"items": [GOOD]}),
    ("POST", "/v1/recall", {"input": PIN}),
    ("POST", "/v1/recall/batch", {"inputs": [PIN]}),
    ("POST", "/v1/snapshots", {}),
    ("POST", "/v1/rollback", {"to": "snap_x"}),
    ("POST", "/v1/forget", {"corrections": ["cor_x"], "mode": "suppress"}),
    ("POST", "/v1/consolidations", {}),
    ("POST", "/v1/sessions", {}),
    ("GET", "/v1/corrections", None),
    ("GET", "/v1/corrections/cor_x", None),
    ("GET", "/v1/events", None),
    ("GET", "/v1/memory", None),
    ("GET", "/v1/snapshots", None),
    ("GET", "/v1/snapshots/snap_x", None),
    ("GET", "/v1/jobs", None),
    ("GET", "/v1/sessions", None),
    ("GET", "/v1/sessions/ses_x", None),
    ("DELETE", "/v1/sessions/ses_x", None),
    ("POST", "/v1/sessions/ses_x/warm", None),
]


@pytest.mark.parametrize(
    "named",
    ["nobody has it", "bank_01ARZ3NDEKTSV4RRFFQ69G5FAV", "%", "'; DROP TABLE bank; --", "Ünknown", "foreign id", "foreign name"],
)
async def test_unknown_or_foreign_bank_is_not_found(taught, other, named):
    if named.startswith("foreign"):
        bank = (await other.client.post("/v1/banks", json={"name": "theirs"})).json()
        named = bank["id"] if named == "foreign id" else bank["name"]
    before = kept(taught)
    for method, path, body in ROUTES_WITH_BANK:
        if body is None:
            response = await taught.client.request(method, path, params={"bank": named})
        else:
            response = await taught.client.request(method, path, json={**body, "bank": named})
        refused(response, 404, "not-found")
    assert kept(taught) == before


@pytest.mark.parametrize("whose", ["another bank", "another tenant", "nobody"])
async def test_foreign_snapshot_is_not_found_by_rollback_recall_and_reading(taught, other, whose):
    match whose:
        case "another bank":
            bank = await taught.client.post("/v1/banks", json={"name": "beside"})
            await teach(taught.client, SPAIN, "transfer_time", bank="beside")
            theirs = (await taught.client.post("/v1/snapshots", json={"bank": bank.json()["id"]})).json()["id"]
        case "another tenant":
            await teach(other.client, SPAIN, "transfer_time")
            theirs = (await snapshot(other.client))["id"]
        case _:
            theirs = "snap_01ARZ3NDEKTSV4RRFFQ69G5FAV"
    before = kept(taught)
    for path, body in (
        ("/v1/rollback", {"to": theirs}),
        ("/v1/rollback", {"to": theirs, "dry_run": True}),
        ("/v1/recall", {"input": PIN, "at": theirs}),
        ("/v1/recall/batch", {"inputs": [PIN], "at": theirs}),
    ):
        refused(await taught.client.post(path, json=body), 404, "not-found")
    refused(await taught.client.get(f"/v1/snapshots/{theirs}"), 404, "not-found")
    assert kept(taught) == before


async def test_expired_key_is_refused_from_the_second_it_expires(tenant, house):
    clock = datetime.now(UTC)
    end = clock + timedelta(seconds=60)
    past = await tenant.client_with("admin", expires_at=clock - timedelta(seconds=1))
    key = await tenant.key("admin", expires_at=end)
    before = kept(tenant)
    refused(await past.post("/v1/corrections", json=GOOD), 401, "unauthenticated")
    async with client_over(deps_of(house, now=lambda: clock), key) as client:
        clock = end - timedelta(microseconds=1)
        assert (await client.get("/v1/whoami")).status_code == 200
        clock = end  # it was found a moment ago and is still remembered
        refused(await client.post("/v1/corrections", json=GOOD), 401, "unauthenticated")
    assert kept(tenant) == before


async def test_revoked_key_is_refused_at_once(tenant):
    client = await tenant.client_with("admin")
    me = (await client.get("/v1/whoami")).json()["key_id"]
    assert (await client.post("/v1/recall", json={"input": PIN})).status_code == 200
    assert (await tenant.client.delete(f"/v1/keys/{me}")).status_code == 200
    before = kept(tenant)
    for method, path, body in (("POST", "/v1/corrections", GOOD), ("POST", "/v1/recall", {"input": PIN}), ("GET", "/v1/memory", None)):
        refused(await client.request(method, path, json=body), 401, "unauthenticated")
    assert kept(tenant) == before


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Bearer  ",
        "Basic {key}",
        "{key}",
        "Bearer{key}",
        "Bearer {key}x",
        "Bearer {key} {key}",
        "Bearer " + "x" * 600,
        "Bearer \xff\xfe",
        "Token {key}",
        "Bearer 'or 1=1--",
    ],
)
async def test_missing_or_malformed_authorization_is_refused(taught, house, authorization):
    key = await taught.key("admin")
    headers = {} if authorization is None else {"authorization": authorization.format(key=key).encode("latin-1")}
    before = kept(taught)
    async with client_of(house, key) as client:
        del client.headers["authorization"]
        for path in ("/v1/corrections", "/v1/recall"):
            response = await client.post(path, json=GOOD, headers=headers)
            refused(response, 401, "unauthenticated")
            assert response.headers["www-authenticate"].startswith("Bearer")
    assert kept(taught) == before


async def test_key_is_taken_from_bearer_in_any_case_and_from_x_api_key(taught, house):
    key = await taught.key("admin")
    async with client_of(house, key) as client:
        del client.headers["authorization"]
        for headers in ({"authorization": f"bearer {key}"}, {"Authorization": f"BEARER  {key} "}, {"x-api-key": key}):
            assert (await client.get("/v1/whoami", headers=headers)).status_code == 200
        wrong_first = {"authorization": "Bearer wrong", "x-api-key": key}
        refused(await client.get("/v1/whoami", headers=wrong_first), 401, "unauthenticated")


async def test_unauthenticated_requests_are_refused_before_their_bodies_are_judged(taught, house):
    async with client_of(house, "wrong") as client:
        refused(await client.post("/v1/corrections", content=b"{"), 401, "unauthenticated")
        refused(await client.post("/v1/corrections", content=b"x" * 2 * MILLION), 401, "unauthenticated")


@pytest.mark.parametrize("given", ["", "x" * 201, "é", "a\tb"])
async def test_idempotency_key_of_the_wrong_form_is_refused(taught, given):
    before = kept(taught)
    headers = {"Idempotency-Key": given.encode()}
    refused(await taught.client.post("/v1/corrections", json=GOOD, headers=headers), 400, "validation", "Idempotency-Key")
    assert kept(taught) == before


@pytest.mark.parametrize(
    "given", ["", "snap", "snap_x:", ":1", "snap_x:-1", "snap_x:1.5", "snap_x:" + "9" * 16, "snap x:1", "snap_x:1\u0661"]
)
async def test_memory_min_state_of_the_wrong_form_is_refused(taught, given):
    headers = {"Memory-Min-State": given.encode()}
    refused(await taught.client.post("/v1/recall", json={"input": PIN}, headers=headers), 400, "validation", "Memory-Min-State")
    refused(await taught.client.get("/v1/memory", headers=headers), 400, "validation", "Memory-Min-State")


@pytest.mark.parametrize(
    "path",
    ["/v1/nothing", "/v2/recall", "/", "/v1", "/v1/corrections/batch/more", "/v1/banks/a/b", "/../etc/passwd", "/%00"],
)
async def test_unknown_path_is_not_found(taught, path):
    refused(await taught.client.get(path), 404, "not-found")


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "TRACE", "BREW"])
async def test_method_that_a_path_does_not_take_is_refused_with_those_it_takes(taught, method):
    response = await taught.client.request(method, "/v1/corrections")
    refused(response, 405, "method-not-allowed")
    assert {"GET", "POST"} <= set(response.headers["allow"].replace(" ", "").split(","))


@pytest.mark.parametrize(("path", "methods"), [("/v1/banks/default", "DELETE, GET, OPTIONS"), ("/v1/webhooks", "GET, OPTIONS, POST")])
async def test_options_names_all_methods_of_a_path(taught, path, methods):
    response = await taught.client.options(path)
    assert (response.status_code, response.headers.get_list("allow")) == (204, [methods])
