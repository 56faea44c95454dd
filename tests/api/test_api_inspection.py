"""Looking in over REST: pages, limits, bad input, and nothing of what was forgotten."""

import itertools
import json
from datetime import UTC, datetime, timedelta

import pytest
from saying import PIN, SPAIN, snapshot, teach
from tenancy import JSON, kept, refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROBE = {"input": PIN, "expected": "change_pin"}


async def found(tenant, q, **more) -> dict:
    response = await tenant.client.get("/v1/memory/search", params={"q": q, **more})
    assert response.status_code == 200, response.text
    return response.json()


async def save(tenant, *probes, name="saved", expect=201, **more) -> dict:
    response = await tenant.client.post("/v1/probe-sets", json={"name": name, "probes": list(probes), **more})
    assert response.status_code == expect, response.text
    return response.json()


async def test_search_walks_all_that_is_found_newest_first(tenant):
    for number in range(5):
        await teach(tenant.client, f"question {number}", f"Answer {number % 2}", metadata={"turn": f"T{number}"})
    seen, cursor = [], None
    while True:
        page = await found(tenant, "ANSWER question", limit=2, **({"cursor": cursor} if cursor else {}))
        seen += [row["seq"] for row in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [5, 4, 3, 2, 1]
    assert [row["seq"] for row in (await found(tenant, "t3"))["items"]] == [4]
    first = await found(tenant, "question", limit=1)
    refused(
        await tenant.client.get("/v1/memory/search", params={"q": "answer", "cursor": first["next_cursor"]}), 400, "validation", "cursor"
    )


async def test_search_tells_the_status_and_never_what_was_forgotten(tenant):
    first, second = await teach(tenant.client, PIN, "change_pin"), await teach(tenant.client, PIN, "ask_the_branch")
    rows = (await found(tenant, "pin"))["items"]
    assert [(row["id"], row["status"]) for row in rows] == [(second["id"], "active"), (first["id"], "superseded")]
    await tenant.client.post("/v1/forget", json={"corrections": [second["id"]], "mode": "suppress"})
    assert [(row["id"], row["status"]) for row in (await found(tenant, "pin"))["items"]] == [(first["id"], "active")]
    assert (await found(tenant, "branch"))["items"] == []


@pytest.mark.parametrize("q", ["", " ", "\u2003", "a\x00b", "a b c d e f g h i", "x" * 257])
async def test_search_for_nothing_or_for_too_much_is_refused(taught, q):
    said = refused(await taught.client.get("/v1/memory/search", params={"q": q}), 400, "validation")
    assert said["errors"][0]["field"] == "q"


async def test_search_without_words_is_refused(taught):
    refused(await taught.client.get("/v1/memory/search"), 400, "validation")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"since": "2026-11-29T12:00:00"}, "since"),
        ({"until": "2026-11-29T12:00:00"}, "until"),
        ({"since": "yesterday"}, "since"),
        ({"since": "2026-11-29T12:00:00Z", "until": "2026-11-29T12:00:00Z"}, "since"),
        ({"since": "2026-01-01T12:00:00Z", "bucket": "hour"}, "since"),
        ({"bucket": "year"}, "bucket"),
        ({"since": "0001-01-01T00:00:00+14:00"}, "since"),
        ({"until": "9999-12-31T23:59:59-12:00"}, "until"),
    ],
)
async def test_time_that_is_none_or_too_long_is_refused(taught, params, field):
    said = refused(await taught.client.get("/v1/stats", params=params), 400, "validation")
    assert said["errors"][0]["field"] == field


async def test_series_has_a_moment_for_every_bucket(taught):
    until = datetime.now(UTC)
    params = {"since": (until - timedelta(days=3)).isoformat(), "until": until.isoformat()}
    series = (await taught.client.get("/v1/stats", params=params)).json()["series"]
    begins = [datetime.fromisoformat(moment["at"]) for moment in series]
    assert [later - earlier for earlier, later in itertools.pairwise(begins)] == [timedelta(days=1)] * 3
    assert [moment["corrections"] for moment in series[:-1]] == [0, 0, 0]
    assert len((await taught.client.get("/v1/stats")).json()["series"]) == 31
    assert len((await taught.client.get("/v1/stats", params={"bucket": "week"})).json()["series"]) == 53


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("/v1/memory/probe", {"inputs": []}, "inputs"),
        ("/v1/memory/probe", {"inputs": [PIN] * 201}, "inputs"),
        ("/v1/memory/probe", {"inputs": [PIN, " "]}, "inputs[1]"),
        ("/v1/memory/probe", {"inputs": [PIN], "at": []}, "at"),
        ("/v1/memory/probe", {"inputs": [PIN], "at": ["head"] * 21}, "at"),
        ("/v1/memory/probe", {"inputs": [PIN], "at": "head"}, "at"),
        ("/v1/memory/explain", {"input": "\n"}, "input"),
        ("/v1/memory/explain", {"input": PIN, "sample": 0}, "sample"),
        ("/v1/memory/explain", {"input": PIN, "sample": 65}, "sample"),
        ("/v1/memory/explain", {"input": PIN, "at": None}, "at"),
        ("/v1/probe-sets", {"name": "x", "probes": []}, "probes"),
        ("/v1/probe-sets", {"name": "x", "probes": [PROBE] * 201}, "probes"),
        ("/v1/probe-sets", {"name": "x", "probes": [{"input": PIN}]}, "probes[0].expected"),
        ("/v1/probe-sets", {"name": "x", "probes": [PROBE, {"input": "a\x00", "expected": " "}]}, "probes[1].input"),
        ("/v1/probe-sets", {"name": "a\nb", "probes": [PROBE]}, "name"),
    ],
)
async def test_bad_request_is_refused_by_its_field_and_leaves_nothing(taught, path, body, field):
    before = kept(taught)
    refused(await taught.client.post(path, content=json.dumps(body), headers=JSON), 400, "validation", field)
    assert kept(taught) == before


@pytest.mark.parametrize("sample", ["0", "257", "x"])
async def test_sample_of_levels_has_its_bounds(taught, sample):
    refused(await taught.client.get("/v1/memory/levels", params={"sample": sample}), 400, "validation")


async def test_probe_set_is_run_against_any_versions(tenant):
    await teach(tenant.client, PIN, "change_pin")
    saved = await snapshot(tenant.client)
    await teach(tenant.client, PIN, "ask_the_branch")
    probes = await save(tenant, PROBE, {"input": "Play some jazz in the kitchen.", "expected": None})
    ran = (await tenant.client.post(f"/v1/probe-sets/{probes['id']}/run", json={"at": [saved["id"], "head"]})).json()
    then, now = ran["versions"]
    assert (then["at"], then["passed"], then["failed"], then["failures"]) == (saved["id"], 2, 0, [])
    assert (now["at"], now["passed"], now["failed"]) == ("head", 1, 1)
    (failure,) = now["failures"]
    assert (failure["place"], failure["input"], failure["expected"], failure["said"]["value"]) == (0, PIN, "change_pin", "ask_the_branch")


async def test_probe_set_of_the_same_name_is_refused_and_free_again_once_deleted(tenant):
    first = await save(tenant, PROBE)
    refused(await tenant.client.post("/v1/probe-sets", json={"name": "saved", "probes": [PROBE]}), 409, "conflict")
    assert (await tenant.client.delete(f"/v1/probe-sets/{first['id']}")).status_code == 204
    refused(await tenant.client.get(f"/v1/probe-sets/{first['id']}"), 404, "not-found")
    refused(await tenant.client.post(f"/v1/probe-sets/{first['id']}/run", json={}), 404, "not-found")
    refused(await tenant.client.delete(f"/v1/probe-sets/{first['id']}"), 404, "not-found")
    second = await save(tenant, PROBE)
    changed = (await tenant.client.put(f"/v1/probe-sets/{second['id']}", json={"probes": [PROBE, PROBE]})).json()
    assert (changed["id"], changed["name"], changed["size"]) == (second["id"], "saved", 2)
    refused(await tenant.client.put(f"/v1/probe-sets/{second['id']}", json={"probes": []}), 400, "validation", "probes")
    refused(await tenant.client.put(f"/v1/probe-sets/{first['id']}", json={"probes": [PROBE]}), 404, "not-found")
    audit = (await tenant.client.get("/v1/audit")).json()["items"]
    assert [entry["action"] for entry in audit if entry["action"].startswith("probe_set")] == [
        "probe_set.create",
        "probe_set.delete",
        "probe_set.create",
        "probe_set.change",
    ]
    assert PIN not in str(audit)


async def test_key_that_is_pinned_to_another_bank_sees_no_probe_set_and_finds_nothing(tenant):
    await teach(tenant.client, PIN, "change_pin")
    probes = await save(tenant, PROBE)
    beside = (await tenant.client.post("/v1/banks", json={"name": "beside"})).json()["id"]
    pinned = await tenant.client_with("memory:inspect", "snapshots:write", banks=[beside])
    for method, path, body in (("GET", "", None), ("PUT", "", {"probes": [PROBE]}), ("DELETE", "", None), ("POST", "/run", {})):
        refused(await pinned.request(method, f"/v1/probe-sets/{probes['id']}{path}", json=body), 404, "not-found")
    assert (await pinned.get("/v1/probe-sets")).json()["items"] == []
    assert (await pinned.get("/v1/memory/search", params={"q": "pin"})).json()["items"] == []
    refused(await pinned.get("/v1/memory/search", params={"q": "pin", "bank": "default"}), 404, "not-found")
    refused(await pinned.get("/v1/stats", params={"bank": "default"}), 404, "not-found")


async def test_deleted_bank_takes_what_was_looked_up_and_its_probe_sets_along(tenant):
    bank = (await tenant.client.post("/v1/banks", json={"name": "short lived"})).json()["id"]
    await teach(tenant.client, SPAIN, "transfer_time", bank=bank)
    probes = await save(tenant, PROBE, bank=bank)
    assert (await tenant.client.delete(f"/v1/banks/{bank}")).status_code == 204
    refused(await tenant.client.get(f"/v1/probe-sets/{probes['id']}"), 404, "not-found")
    assert not [row for table in ("lookup", "probe_set") for row in kept(tenant)["rows"][table] if bank in row]


async def test_reply_of_a_probe_is_made_anew_once_something_was_forgotten(tenant):
    taught = await teach(tenant.client, PIN, "the secret")
    headers = {"Idempotency-Key": "once"}
    first = await tenant.client.post("/v1/memory/probe", json={"inputs": [PIN]}, headers=headers)
    assert first.json()["rows"][0][0]["value"] == "the secret"
    await tenant.client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "suppress"})
    again = await tenant.client.post("/v1/memory/probe", json={"inputs": [PIN]}, headers=headers)
    assert (again.status_code, "secret" in again.text) == (200, False)
