"""Lists are walked by cursor: every row once, also while rows come and go, and only with a cursor of that list."""

import base64
import json

import pytest
from saying import PIN, snapshot, teach
from tenancy import refused

pytestmark = pytest.mark.asyncio(loop_scope="module")

LISTS = ["/v1/corrections", "/v1/events", "/v1/snapshots", "/v1/jobs", "/v1/banks", "/v1/keys", "/v1/audit", "/v1/sessions"]


async def walk(client, path, limit, between=None):
    """The ids of all pages, and the sizes of the pages."""
    ids, sizes, cursor = [], [], None
    while True:
        params = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        page = (await client.get(path, params=params)).json()
        ids += [row["id"] for row in page["items"]]
        sizes.append(len(page["items"]))
        cursor = page["next_cursor"]
        if cursor is None:
            return ids, sizes
        if between is not None:
            await between(len(sizes))


async def fill(tenant, number):
    from datetime import UTC, datetime

    from service.store import jobs

    for place in range(number):
        await teach(tenant.client, f"{PIN} {place}", "change_pin")
        await snapshot(tenant.client)
        await tenant.client.post("/v1/banks", json={"name": f"bank {place}"})
        await tenant.key("recall:read")
        await tenant.client.post("/v1/sessions", json={})
        async with tenant.service.database.write(tenant.id) as conn:
            what = {"kind": "consolidation", "bank": None, "payload": {}, "dedupe": None}
            await jobs.enqueue(conn, tenant.id, **what, now=datetime.now(UTC))


async def test_walk_sees_every_row_once_in_one_order_whatever_the_limit(tenant):
    await fill(tenant, 5)
    for path in LISTS:
        whole, sizes = await walk(tenant.client, path, 200)
        assert len(sizes) == 1
        assert len(whole) == len(set(whole)) >= 5
        for limit in (1, 2, len(whole) - 1, len(whole)):
            ids, sizes = await walk(tenant.client, path, limit)
            assert ids == whole, path
            assert all(size == limit for size in sizes[:-1])
            assert sizes[-1] > 0, "no empty page at the end"
    newest_first = ("/v1/snapshots", "/v1/audit", "/v1/jobs")
    for path in LISTS:
        ids, _ = await walk(tenant.client, path, 200)
        in_order = [name for name in ids if not name.startswith("cor_")]  # corrections are in the order of their seqs
        if path not in newest_first:
            assert in_order == sorted(in_order)


@pytest.mark.parametrize("path", ["/v1/corrections", "/v1/jobs"])
async def test_list_is_walked_from_its_newest_row_too_and_a_cursor_belongs_to_one_order(tenant, path):
    await fill(tenant, 5)
    oldest_first, _ = await walk(tenant.client, path, 200)
    newest_first = [(await tenant.client.get(path, params={"order": "newest", "limit": 2})).json()]
    while (cursor := newest_first[-1]["next_cursor"]) is not None:
        refused(await tenant.client.get(path, params={"cursor": cursor}), 400, "validation", "cursor")
        newest_first.append((await tenant.client.get(path, params={"order": "newest", "limit": 2, "cursor": cursor})).json())
    assert [row["id"] for page in newest_first for row in page["items"]] == oldest_first[::-1]
    refused(await tenant.client.get(path, params={"order": "random"}), 400, "validation", "order")


async def test_walk_is_stable_while_rows_come_and_go(tenant):
    await fill(tenant, 6)
    client = tenant.client
    corrections, _ = await walk(client, "/v1/corrections", 200)
    snapshots, _ = await walk(client, "/v1/snapshots", 200)
    banks, _ = await walk(client, "/v1/banks", 200)

    async def more(_):
        await teach(client, PIN, "another")
        await snapshot(client)

    ids, _ = await walk(client, "/v1/corrections", 2, more)
    assert ids[:6] == corrections
    assert len(ids) == len(set(ids)) > 6, "what came meanwhile comes at the end"
    ids, _ = await walk(client, "/v1/snapshots", 2, more)
    assert [name for name in ids if name in snapshots] == snapshots
    assert len(ids) == len(set(ids))
    gone = iter(banks[1:])

    async def less(_):
        await client.delete(f"/v1/banks/{next(gone)}")

    ids, _ = await walk(client, "/v1/banks", 2, less)
    assert ids[0] == banks[0]
    assert ids == sorted(set(ids))
    assert banks[-1] in ids, "what was there all the time is seen"


def cursor_of(*parts) -> str:
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")


async def test_garbled_or_foreign_cursor_is_refused(tenant):
    await fill(tenant, 2)
    bank = (await tenant.client.get("/v1/banks/default")).json()["id"]
    second = (await tenant.client.get("/v1/banks/bank 0")).json()["id"]
    cursors = {path: (await tenant.client.get(path, params={"limit": 1})).json()["next_cursor"] for path in LISTS}
    names = {"/v1/corrections": f"corrections:{bank}", "/v1/events": f"events:{bank}", "/v1/snapshots": f"snapshots:{bank}"}
    names |= {"/v1/sessions": f"sessions:{bank}", "/v1/jobs": "jobs:None", "/v1/banks": "banks", "/v1/keys": "keys", "/v1/audit": "audit"}
    for path in LISTS:
        good = cursors[path]
        assert (await tenant.client.get(path, params={"cursor": good})).status_code == 200
        foreign = [cursor for other, cursor in cursors.items() if other != path]
        garbled = ["", "x", "====", "é", "a b", "null", good[:-3], good[1:], good + "AAAA", good.swapcase(), "A" * 512]
        keys = (
            [None, True, 1.5, [], {}, -1, 2**63, 10**30]
            if path in ("/v1/corrections", "/v1/events", "/v1/audit")
            else [None, 1, [], "\x00", "é"]
        )
        forged = [cursor_of(names[path], key) for key in keys] + [cursor_of(names[path]), cursor_of(names[path], "x", "y"), cursor_of(1, 2)]
        for cursor in (*foreign, *garbled, *forged):
            refused(await tenant.client.get(path, params={"cursor": cursor}), 400, "validation", "cursor")
        refused(await tenant.client.get(path, params={"cursor": "x" * 513}), 400, "validation", "cursor")
    for path in ("/v1/corrections", "/v1/events", "/v1/snapshots", "/v1/sessions"):
        response = await tenant.client.get(path, params={"cursor": cursors[path], "bank": second})
        refused(response, 400, "validation", "cursor")


@pytest.mark.parametrize("path", LISTS)
async def test_limit_is_from_1_to_200(resident, path):
    for limit in ("0", "-1", "201", "9" * 40, "1.5", "x", "", "true"):
        refused(await resident.client.get(path, params={"limit": limit}), 400, "validation", "limit")
    for limit in (1, 200):
        assert (await resident.client.get(path, params={"limit": limit})).status_code == 200


async def test_page_without_a_limit_holds_50(tenant):
    items = [{"input": "a", "right": "b"}] * 51
    assert (await tenant.client.post("/v1/corrections/batch", json={"items": items})).status_code == 201
    page = (await tenant.client.get("/v1/events")).json()
    assert len(page["items"]) == 50
    rest = (await tenant.client.get("/v1/events", params={"cursor": page["next_cursor"]})).json()
    assert ([row["seq"] for row in rest["items"]], rest["next_cursor"]) == ([51], None)
