"""The change feed: everything once and in order, taken up where it was left, and no burden for those who ask the memory."""

import asyncio
import json
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from fixtures_service import serving_app
from saying import PIN, SPAIN, ask, snapshot, teach
from tenancy import deps_of, refused
from waiting import PATIENCE_S, until

from service.api.app import build_app
from service.api.limits import STREAMS
from service.store import changes

pytestmark = pytest.mark.asyncio(loop_scope="module")


def events(text: str) -> list[dict]:
    """The events of a stream's text; comments are left out."""
    parsed = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.split("\n") if line and not line.startswith(":"))
        if "data" in fields:
            parsed.append({**fields, "data": json.loads(fields["data"])})
    return parsed


async def read(client, since: str | None = None, **params) -> list[dict]:
    """What the feed has behind an id, now."""
    headers = {} if since is None else {"Last-Event-ID": since}
    response = await client.get("/v1/stream", params={"wait_s": 0, **params}, headers=headers)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    return events(response.text)


async def test_feed_is_taken_up_where_it_was_left_without_loss_or_repetition(tenant):
    taught = [await teach(tenant.client, f"{PIN} {number}", f"answer {number}") for number in range(7)]
    told, since = [], "0"
    while page := await read(tenant.client, since):
        told += page[:2]
        since = page[:2][-1]["id"]
    assert [event["data"]["data"]["corrections"] for event in told] == [[each["id"]] for each in taught]
    assert {event["event"] for event in told} == {"correction.created"}
    assert [int(event["id"]) for event in told] == sorted({int(event["id"]) for event in told})


async def test_feed_begins_with_what_happens_next(tenant):
    await teach(tenant.client, PIN, "change_pin")
    assert await read(tenant.client) == []


async def test_feed_tells_its_place_also_where_it_has_nothing_to_tell(tenant):
    await teach(tenant.client, PIN, "change_pin")
    silent = (await tenant.client.get("/v1/stream", params={"wait_s": 0})).text
    comment, place = silent.strip().split("\n")
    assert comment.startswith(":")
    mine = await teach(tenant.client, SPAIN, "transfer_time")
    assert [event["data"]["data"]["corrections"] for event in await read(tenant.client, place.removeprefix("id: "))] == [[mine["id"]]]


async def test_feed_tells_no_texts_and_only_the_wanted_events(tenant):
    await teach(tenant.client, PIN, "change_pin")
    saved = await snapshot(tenant.client)
    told = await read(tenant.client, "0", events="snapshot.created,rollback.done")
    assert [(event["event"], event["data"]["data"]["snapshot"]) for event in told] == [("snapshot.created", saved["id"])]
    assert "change_pin" not in str(await read(tenant.client, "0"))
    refused(await tenant.client.get("/v1/stream", params={"events": "snapshot.created,nothing"}), 400, "validation", "events")
    refused(await tenant.client.get("/v1/stream", headers={"Last-Event-ID": "x"}), 400, "validation", "Last-Event-ID")


async def test_pinned_key_is_told_of_its_banks_alone_and_nobody_of_another_tenant(tenant, other):
    await tenant.client.post("/v1/banks", json={"name": "second"})
    bank = (await tenant.client.get("/v1/banks/second")).json()["id"]
    await teach(tenant.client, PIN, "change_pin")
    mine = await teach(tenant.client, SPAIN, "transfer_time", bank="second")
    await teach(other.client, PIN, "theirs")
    pinned = await tenant.client_with("memory:inspect", banks=(bank,))
    told = await read(pinned, "0", events="correction.created")
    assert [event["data"]["data"]["corrections"] for event in told] == [[mine["id"]]]
    assert {event["data"]["bank"] for event in await read(tenant.client, "0", bank="second")} == {bank}
    assert (await pinned.get("/v1/stream", params={"bank": "default", "wait_s": 0})).status_code == 404


async def test_feed_says_so_when_something_is_not_kept_any_more(tenant):
    await teach(tenant.client, PIN, "change_pin")
    await read(tenant.client, "0")
    async with tenant.service.database.write(tenant.id) as conn:
        await changes.purge(conn, tenant.id, datetime.now(UTC) + timedelta(days=1))
    (missed,) = await read(tenant.client, "0")
    assert missed["event"] == "missed"
    await teach(tenant.client, SPAIN, "transfer_time")
    assert [event["event"] for event in await read(tenant.client, "0")] == ["missed", "correction.created"]
    assert [event["event"] for event in await read(tenant.client, missed["id"])] == ["correction.created"]


async def opened(app, tenant, number: int) -> None:
    """So many streams of the tenant have their places among streams, and none among requests any more."""

    async def so() -> bool:
        return app._leave.__self__._streams[tenant.id] == number and not app._in_flight

    await until(so, f"{number} streams are open")


async def test_streams_take_no_place_of_requests_and_are_few(tenant):
    """With one place for requests: as many streams as there may be are open, and the memory answers."""
    await teach(tenant.client, PIN, "change_pin")
    settings = msgspec.structs.replace(tenant.service.settings, tenant_in_flight=1, max_in_flight=1)
    app, streams = build_app(deps_of(tenant.service, settings=settings)), []
    async with serving_app(app, await tenant.key("admin")) as client:
        for number in range(STREAMS):
            streams.append(asyncio.ensure_future(client.get("/v1/stream", params={"wait_s": 600})))
            await opened(app, tenant, number + 1)
        refused(await client.get("/v1/stream", params={"wait_s": 0}), 429, "quota")
        assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"
        app.end()
        for response in await asyncio.gather(*streams):
            assert response.status_code == 200, response.text
        assert (await client.get("/v1/stream", params={"wait_s": 0})).status_code == 200, "their places are free again"


async def test_stream_ends_with_its_key(tenant):
    client = await tenant.client_with("memory:inspect")
    me = (await client.get("/v1/whoami")).json()["key_id"]
    stream = asyncio.ensure_future(client.get("/v1/stream", params={"wait_s": 600}))
    await opened(tenant.service.app, tenant, 1)
    assert (await tenant.client.delete(f"/v1/keys/{me}")).status_code == 200
    assert (await asyncio.wait_for(stream, PATIENCE_S)).status_code == 200
