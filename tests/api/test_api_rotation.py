"""Keys that get a successor: the same rights, both good for a while, then one; and keys with a rate of their own."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from fixtures_service import client_of
from tenancy import client_over, deps_of, kept, refused

from service.cluster.coord import MemoryCoord

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def mint(tenant, **more):
    response = await tenant.client.post("/v1/keys", json={"name": "bot", "scopes": ["recall:read"], **more})
    assert response.status_code == 201, response.text
    return response.json()


async def rotate(tenant, key, expect=201, **body):
    response = await tenant.client.post(f"/v1/keys/{key['id']}/rotate", json=body)
    assert response.status_code == expect, response.text
    return response.json()


async def works(house, secret) -> bool:
    async with client_of(house, secret) as client:
        return (await client.get("/v1/whoami")).status_code == 200


async def test_successor_has_the_same_rights_and_both_work_meanwhile(tenant, house):
    until = datetime(2100, 1, 1, tzinfo=UTC).isoformat()
    old = await mint(tenant, scopes=["recall:read", "forget"], banks=["default"], rate=7.5, expires_at=until)
    begin = datetime.now(UTC)
    new = await rotate(tenant, old, overlap_s=600)
    assert [new[name] for name in ("scopes", "banks", "rate", "expires_at")] == [
        old[name] for name in ("scopes", "banks", "rate", "expires_at")
    ]
    assert (new["replaces"], new["id"] != old["id"], new["key"] != old["key"]) == (old["id"], True, True)
    ends = datetime.fromisoformat(new["replaced_until"]) - timedelta(seconds=600)
    assert begin <= ends <= datetime.now(UTC)
    assert await works(house, old["key"])
    assert await works(house, new["key"])


async def test_old_key_ends_with_the_overlap(tenant):
    old = await mint(tenant)
    new = await rotate(tenant, old, overlap_s=60)
    later = deps_of(tenant.service, now=lambda: datetime.now(UTC) + timedelta(seconds=61))
    for key, status in ((old, 401), (new, 200)):
        async with client_over(later, key["key"]) as client:
            assert (await client.get("/v1/whoami")).status_code == status


async def test_without_an_overlap_the_old_key_ends_at_once(tenant, house):
    old = await mint(tenant)
    assert await works(house, old["key"])
    new = await rotate(tenant, old, overlap_s=0)
    assert not await works(house, old["key"])
    assert await works(house, new["key"])


async def test_overlap_does_not_prolong_a_key(tenant):
    soon = (datetime.now(UTC) + timedelta(seconds=30)).isoformat()
    new = await rotate(tenant, await mint(tenant, expires_at=soon), overlap_s=3_600)
    assert datetime.fromisoformat(new["replaced_until"]) == datetime.fromisoformat(soon)


async def test_key_that_has_ended_has_no_successor(tenant):
    old = await mint(tenant)
    await tenant.client.delete(f"/v1/keys/{old['id']}")
    ended = await mint(tenant)
    await rotate(tenant, ended, overlap_s=0)
    before = kept(tenant)
    for key in (old, ended):
        refused(await tenant.client.post(f"/v1/keys/{key['id']}/rotate", json={}), 409, "conflict")
    refused(await tenant.client.post("/v1/keys/key_nothing/rotate", json={}), 404, "not-found")
    refused(await tenant.client.post(f"/v1/keys/{old['id']}/rotate", json={"overlap_s": -1}), 400, "validation", "overlap_s")
    assert kept(tenant) == before


async def test_rotation_is_audited_and_its_secret_shown_once(tenant):
    old = await mint(tenant)
    path, headers = f"/v1/keys/{old['id']}/rotate", {"Idempotency-Key": "one"}
    first, again = [await tenant.client.post(path, json={"overlap_s": 60}, headers=headers) for _ in range(2)]
    assert re.fullmatch(r"pal_\w{8}_\w{43}", first.json()["key"])
    assert again.json() == first.json() | {"key": None}
    entry = (await tenant.client.get("/v1/audit", params={"limit": 1})).json()["items"][0]
    assert (entry["action"], entry["target"], entry["detail"]["successor"]) == ("key.rotate", old["id"], first.json()["id"])
    assert entry["detail"]["before"] == {"expires_at": None}
    assert entry["detail"]["after"]["expires_at"] is not None


class Clock:
    """Seconds that a test moves."""

    def __init__(self) -> None:
        self.now = 1_024.0

    def __call__(self) -> float:
        return self.now


async def test_key_is_held_to_its_own_rate_and_others_are_not(tenant):
    clock = Clock()
    deps = deps_of(tenant.service, coord=MemoryCoord(clock))
    slow, quick = await mint(tenant, rate=2), await mint(tenant)
    async with client_over(deps, slow["key"]) as client, client_over(deps, quick["key"]) as free:
        assert [(await client.get("/v1/whoami")).status_code for _ in range(3)] == [200, 200, 429]
        response = await client.get("/v1/whoami")
        refused(response, 429, "quota")
        assert "this key" in response.json()["detail"]
        assert (response.headers["retry-after"], response.headers["ratelimit-limit"]) == ("1", "2")
        assert [(await free.get("/v1/whoami")).status_code for _ in range(9)] == [200] * 9
        clock.now += 0.5
        assert [(await client.get("/v1/whoami")).status_code for _ in range(2)] == [200, 429]
        assert 'palimpsest_limited_total{reason="key-rate"} 3.0' in (await free.get("/metrics")).text


async def test_rate_of_a_key_is_a_number_above_zero_and_is_listed(tenant):
    for rate in (0, -1, "2", 1e9):
        response = await tenant.client.post("/v1/keys", json={"name": "x", "scopes": ["recall:read"], "rate": rate})
        refused(response, 400, "validation", "rate")
    minted = await mint(tenant, rate=0.25)
    listed = {row["id"]: row["rate"] for row in (await tenant.client.get("/v1/keys", params={"limit": 200})).json()["items"]}
    assert listed[minted["id"]] == 0.25
    assert None in listed.values()
