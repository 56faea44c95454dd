"""Webhooks: told of what happens, signed, at least once, again and again until it is answered well or given up; never into this network."""

import asyncio
import contextlib
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator

import httpx
import pytest
import pytest_asyncio
from fixtures_service import client_of, finished, serving
from fixtures_store import DIALECTS, fresh_url
from saying import PIN, SPAIN, snapshot, teach
from tenancy import refused
from waiting import until

from service.processes import delivering


class Listener:
    """A real HTTP server that keeps what it is sent and answers as it is told."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []  # statuses to give next; then 204
        self.url = ""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head.split("\r\n")[1:] if line)}
            body = await reader.readexactly(int(headers["content-length"]))
            self.heard.append((headers, body))
            status = self.answers.pop(0) if self.answers else 204
            writer.write(f"HTTP/1.1 {status} Said\r\nContent-Length: 0\r\n\r\n".encode())
            await writer.drain()
        writer.close()

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Listener"]:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, family=socket.AF_INET)
        async with server:
            self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/hook"
            yield self

    @property
    def events(self) -> list[str]:
        return [headers["palimpsest-event"] for headers, _ in self.heard]


@pytest_asyncio.fixture
async def listener() -> AsyncIterator[Listener]:
    async with Listener().listening() as one:
        yield one


@pytest_asyncio.fixture(params=DIALECTS)
async def client(request, tmp_path, encoder) -> AsyncIterator[httpx.AsyncClient]:
    """An admin's client of a service that may call this machine, on either database."""
    with fresh_url(request.param, tmp_path, request) as url:
        database = url if request.param == "postgresql" else ""
        settings = {"database": database, "webhook_private": True, "webhook_retry_s": 0.01}
        async with serving(tmp_path / "var", encoder, **settings) as service, client_of(service) as admin:
            yield admin


async def hook(client, url, *events):
    response = await client.post("/v1/webhooks", json={"url": url, "events": list(events)})
    assert response.status_code == 201, response.text
    return response.json()


async def deliveries(client, made):
    return (await client.get(f"/v1/webhooks/{made['id']}/deliveries")).json()["items"]


async def ended(client, made, count=1):
    return await _after(client, made, lambda row: row["status"] != "pending", count)


async def test_everything_that_happens_is_told_signed_and_without_texts(client, listener):
    kinds = ("correction.created", "snapshot.created", "consolidation.promoted", "rollback.done", "forget.completed")
    begin = int(time.time())
    made = await hook(client, listener.url, *kinds, "consolidation.gate_failed")
    taught = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
    await client.post("/v1/rollback", json={"to": saved["id"]})
    forgotten = (await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})).json()
    await finished(client, forgotten["job_id"])
    await ended(client, made, 9)
    assert set(listener.events) == set(kinds)
    assert "change_pin" not in str(listener.heard)
    assert PIN not in str(listener.heard)
    for headers, body in listener.heard:
        stamp, _, signed = headers["palimpsest-signature"].partition(",v1=")
        seconds = stamp.removeprefix("t=")
        assert signed == hmac.new(made["secret"].encode(), f"{seconds}.".encode() + body, hashlib.sha256).hexdigest()
        assert begin <= int(seconds) <= time.time()
        told = json.loads(body)
        assert told["event"] == headers["palimpsest-event"]
        assert set(told) == {"id", "event", "bank", "data", "created_at"}
    told = {json.loads(body)["event"]: json.loads(body)["data"] for _, body in listener.heard}
    assert told["correction.created"]["corrections"] == [taught["id"]]
    assert told["forget.completed"]["forget"] == forgotten["id"]


async def test_only_the_events_that_were_asked_for_are_told(client, listener):
    made = await hook(client, listener.url, "snapshot.created")
    await teach(client, PIN, "change_pin")
    await snapshot(client)
    await ended(client, made)
    await teach(client, SPAIN, "transfer_time")
    await asyncio.sleep(1.2)
    assert listener.events == ["snapshot.created"]


async def test_delivery_is_tried_again_until_it_is_answered_well(client, listener):
    listener.answers = [500, 302, 404]
    made = await hook(client, listener.url, "correction.created")
    await teach(client, PIN, "change_pin")
    (row,) = await ended(client, made)
    assert (row["status"], row["attempts"], row["answered"], row["error"], row["due_at"]) == ("delivered", 4, 204, None, None)
    assert len({headers["palimpsest-delivery"] for headers, _ in listener.heard}) == 1
    assert len({body for _, body in listener.heard}) == 1


async def test_delivery_is_given_up_after_six_attempts_and_can_be_made_again(client, listener, monkeypatch):
    monkeypatch.setattr(delivering, "TIMES", 1)  # or it would take its time
    listener.answers = [503] * delivering.ATTEMPTS
    made = await hook(client, listener.url, "correction.created")
    await teach(client, PIN, "change_pin")
    (row,) = await _after(client, made, lambda row: row["status"] == "failed")
    assert (row["attempts"], row["answered"]) == (6, 503)
    assert len(listener.heard) == 6
    response = await client.post(f"/v1/webhooks/{made['id']}/deliveries/{row['id']}/redeliver")
    assert (response.status_code, response.json()["status"], response.json()["attempts"]) == (202, "pending", 0)
    (row,) = await ended(client, made)
    assert (row["status"], row["attempts"], len(listener.heard)) == ("delivered", 1, 7)


async def _after(client, made, so, count=1):
    async def found():
        rows = await deliveries(client, made)
        return rows if len(rows) >= count and all(so(row) for row in rows) else None

    return await until(found, "all deliveries have come so far")


async def test_nobody_listening_is_told_in_the_log_of_deliveries(client):
    with socket.socket() as taken:  # a port that is nobody else's and at which nobody listens
        taken.bind(("127.0.0.1", 0))
        made = await hook(client, f"http://127.0.0.1:{taken.getsockname()[1]}/", "correction.created")
        await teach(client, PIN, "change_pin")
        (row,) = await _after(client, made, lambda row: row["attempts"] >= 1 and row["error"])
    assert (row["answered"], row["error"]) == (None, "no connection")


async def test_deleted_webhook_is_told_nothing_more(client, listener):
    made = await hook(client, listener.url, "correction.created")
    assert (await client.delete(f"/v1/webhooks/{made['id']}")).status_code == 204
    await teach(client, PIN, "change_pin")
    await asyncio.sleep(1.2)
    assert listener.heard == []
    assert (await client.get("/v1/webhooks")).json()["items"] == []
    assert (await client.get(f"/v1/webhooks/{made['id']}/deliveries")).status_code == 404


async def test_secret_is_shown_once_and_is_in_no_row(client, listener):
    given = {"url": listener.url, "events": ["correction.created"]}
    first, again = [await client.post("/v1/webhooks", json=given, headers={"Idempotency-Key": "one"}) for _ in range(2)]
    assert first.json()["secret"].startswith("whsec_")
    assert again.json() == first.json() | {"secret": None}
    assert first.json()["secret"] not in (await client.get("/v1/webhooks")).text
    assert len((await client.get("/v1/webhooks")).json()["items"]) == 1


async def test_delivery_survives_a_restart(tmp_path, encoder, listener):
    """It was taken up by a process that died: it is made again when that time is over, or, as here, was not taken up at all."""
    settings = {"webhook_private": True, "webhook_retry_s": 0.01}
    async with serving(tmp_path / "var", encoder, **settings) as service, client_of(service) as client:
        made = await hook(client, listener.url, "correction.created")
        listener.answers = [500] * 2
        await teach(client, PIN, "change_pin")
    async with serving(tmp_path / "var", encoder, **settings) as service, client_of(service) as client:
        (row,) = await ended(client, made)
        assert row["status"] == "delivered"


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/",
        "https://127.0.0.1/",
        "https://localhost/x",
        "https://[::1]/",
        "https://10.1.2.3/",
        "https://169.254.169.254/latest/meta-data/",
        "https://user:pw@8.8.8.8/",
        "not a url",
    ],
)
async def test_address_inside_is_refused_when_the_webhook_is_made(tmp_path, encoder, url):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        response = await client.post("/v1/webhooks", json={"url": url, "events": ["correction.created"]})
        refused(response, 400, "validation", "url")
        assert (await client.get("/v1/webhooks")).json()["items"] == []


async def test_address_that_was_allowed_is_not_called_once_it_is_not(tmp_path, encoder, listener):
    """The operator takes the permission back: what is there already is refused at the connection."""
    async with serving(tmp_path / "var", encoder, webhook_private=True) as service, client_of(service) as client:
        made = await hook(client, listener.url, "correction.created")
    async with serving(tmp_path / "var", encoder, webhook_retry_s=0.01) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        (row,) = await _after(client, made, lambda row: row["error"])
        assert "not public" in row["error"]
    assert listener.heard == []
