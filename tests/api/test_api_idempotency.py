"""A request that is sent again with its Idempotency-Key has the effect of one."""

import asyncio
import sqlite3
from datetime import UTC, datetime

import pytest
from fixtures_service import client_of, finished
from saying import PIN, SPAIN, snapshot, teach
from tenancy import client_over, deps_of, kept, refused
from waiting import until

from service.errors import Capacity, StorageFull
from service.store.db import Database

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = {"input": PIN, "right": "change_pin"}
ONCE = {"Idempotency-Key": "once"}


async def events(client) -> int:
    return (await client.get("/v1/memory")).json()["events"]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/corrections", GOOD, 201),
        ("/v1/corrections/batch", {"items": [GOOD, {"input": SPAIN, "right": "transfer_time"}]}, 201),
        ("/v1/recall", {"input": PIN}, 200),
        ("/v1/recall/batch", {"inputs": [PIN]}, 200),
        ("/v1/banks", {"name": "second"}, 201),
        ("/v1/snapshots", {"label": "one"}, 201),
        ("/v1/rollback", {"to": "SNAPSHOT"}, 200),
        ("/v1/forget", {"corrections": ["CORRECTION"], "mode": "rebuild"}, 202),
        ("/v1/consolidations", {}, 202),
    ],
)
async def test_repeated_request_gets_the_same_answer_and_changes_nothing(tenant, path, body, status):
    taught = await teach(tenant.client, PIN, "first_answer")
    saved = await snapshot(tenant.client)
    if "to" in body:
        body = {"to": saved["id"]}
    if "corrections" in body:
        body = {**body, "corrections": [taught["id"]]}
    first = await tenant.client.post(path, json=body, headers=ONCE)
    assert first.status_code == status, first.text
    assert "idempotent-replayed" not in first.headers
    if first.json().get("job_id"):
        await finished(tenant.client, first.json()["job_id"])
    before = kept(tenant)
    for _ in range(2):
        again = await tenant.client.post(path, json=body, headers=ONCE)
        assert (again.status_code, again.content) == (status, first.content)
        assert again.headers["idempotent-replayed"] == "true"
        for name in ("content-type", "memory-state", "location", "cache-control"):
            assert again.headers.get(name) == first.headers.get(name), name
    assert kept(tenant) == before


@pytest.mark.parametrize(
    ("path", "body", "waited"),
    [
        ("/v1/corrections", GOOD, False),  # the append is waited for, and takes the step before it along
        ("/v1/recall", {"input": PIN}, False),
        ("/v1/banks", {"name": "waited for"}, True),  # nothing else tells that it was made
        ("/v1/keys", {"name": "waited for", "scopes": ["recall:read"]}, True),
        ("/v1/snapshots", {}, True),
    ],
)
async def test_steps_of_a_key_wait_for_the_disk_where_nothing_else_tells_what_was_done(tenant, monkeypatch, path, body, waited):
    told, send = [], Database.send

    async def watched(self, tenant, message, *, durable=True):
        if any("idempotency" in str(statement) for statement, _ in message):
            told.append(durable)
        return await send(self, tenant, message, durable=durable)

    monkeypatch.setattr(Database, "send", watched)
    answer = await tenant.client.post(path, json=body, headers=ONCE)
    assert answer.is_success, answer.text
    assert told == [waited, waited]


async def test_cancel_may_be_repeated_too(tenant):
    from service.store import jobs

    bank = (await tenant.client.get("/v1/banks/default")).json()["id"]
    async with tenant.service.database.write(tenant.id) as conn:
        what = {"kind": "consolidation", "bank": bank, "payload": {"by": "test"}, "dedupe": None}
        job, _ = await jobs.enqueue(conn, tenant.id, **what, now=datetime.now(UTC))
    first = await tenant.client.post(f"/v1/jobs/{job.id}/cancel", headers=ONCE)
    again = await tenant.client.post(f"/v1/jobs/{job.id}/cancel", headers=ONCE)
    assert first.status_code == again.status_code == 200, again.text
    assert first.content == again.content
    assert again.headers["idempotent-replayed"] == "true"


async def test_secret_of_a_minted_key_is_not_kept_for_the_repetition(tenant):
    body = {"name": "n", "scopes": ["recall:read"]}
    first = (await tenant.client.post("/v1/keys", json=body, headers=ONCE)).json()
    again = await tenant.client.post("/v1/keys", json=body, headers=ONCE)
    assert again.headers["idempotent-replayed"] == "true"
    assert first["key"] is not None
    assert again.json() == {**first, "key": None}
    assert first["key"] not in str(kept(tenant))
    assert [row["name"] for row in (await tenant.client.get("/v1/keys")).json()["items"]].count("n") == 1


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/corrections", {"input": PIN, "right": "ask_the_branch"}),
        ("/v1/corrections", {"right": "change_pin", "input": PIN, "wrong": "x"}),
        ("/v1/corrections/batch", {"items": [GOOD]}),
        ("/v1/recall", {"input": PIN}),
    ],
)
async def test_key_used_for_another_request_is_refused_and_nothing_happens(tenant, path, body):
    first = await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)
    before = kept(tenant)
    refused(await tenant.client.post(path, json=body, headers=ONCE), 422, "idempotency-mismatch")
    assert kept(tenant) == before
    assert (await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)).content == first.content


async def test_two_requests_at_once_teach_one_correction(tenant):
    replies = await asyncio.gather(*(tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE) for _ in range(8)))
    taught = [reply for reply in replies if reply.status_code == 201]
    assert taught
    assert len({reply.json()["id"] for reply in taught}) == 1
    for reply in replies:
        if reply not in taught:
            refused(reply, 409, "idempotency-in-flight")
            assert int(reply.headers["retry-after"]) >= 1
    assert await events(tenant.client) == 1


async def test_request_that_is_still_running_is_told_so(tenant):
    """The first request waits for the bank, so that the second surely meets it in flight."""
    await teach(tenant.client, SPAIN, "transfer_time")
    warm = tenant.service.engine.banks
    async with warm.lock(await warm.id_of(tenant.id, "default")):
        first = asyncio.ensure_future(tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE))
        while "pending" not in str(kept(tenant)["rows"]["idempotency"]):
            assert not first.done()
            await asyncio.sleep(0.005)
        other = {**GOOD, "right": "another_answer"}
        refused(await tenant.client.post("/v1/corrections", json=other, headers=ONCE), 422, "idempotency-mismatch")
        refused(await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE), 409, "idempotency-in-flight")
        assert not first.done()
    assert (await first).status_code == 201
    assert await events(tenant.client) == 2


async def test_key_of_a_request_that_takes_long_is_not_given_away_while_it_runs(tenant, monkeypatch):
    """Its lease is renewed; one that nobody renews, as of a process that died, is free soon."""
    monkeypatch.setattr("service.api.idempotency.LEASE_S", 9.0)  # renewed every three seconds: a machine may stand still for some

    async def lease() -> str | None:
        with sqlite3.connect(tenant.service.settings.var_dir / "palimpsest.db") as database:
            found = database.execute("SELECT lease_until FROM idempotency WHERE tenant = ?", (tenant.id,)).fetchone()
        return found and found[0]

    await teach(tenant.client, SPAIN, "transfer_time")
    banks = tenant.service.engine.banks
    async with banks.lock(await banks.id_of(tenant.id, "default")):
        first = asyncio.ensure_future(tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE))
        first_end = await until(lease, "the key is taken")

        async def renewed() -> bool:
            return await lease() > first_end

        await until(renewed, "its lease is renewed")
        refused(await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE), 409, "idempotency-in-flight")
    assert (await first).status_code == 201
    assert await events(tenant.client) == 2


@pytest.mark.parametrize("body", [{"input": PIN, "right": "x", "bank": "nowhere"}, {"input": PIN, "right": " "}, {"input": PIN}])
async def test_request_that_failed_frees_its_key(tenant, body):
    first = await tenant.client.post("/v1/corrections", json=body, headers=ONCE)
    assert first.status_code in (400, 404)
    again = await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)
    assert again.status_code == 201, again.text
    assert "idempotent-replayed" not in again.headers
    assert await events(tenant.client) == 1


class Failing:
    """An engine that cannot teach, in one way after another."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)

    async def teach(self, *args, **kwargs):
        raise self.errors.pop(0)


async def test_request_that_the_engine_could_not_do_frees_its_key(tenant):
    engine = Failing(StorageFull(), Capacity(retry_after_s=7), RuntimeError("boom"))
    key = await tenant.key("admin")
    async with client_over(deps_of(tenant.service, engine=engine), key) as broken:
        refused(await broken.post("/v1/corrections", json=GOOD, headers=ONCE), 507, "storage-full")
        response = await broken.post("/v1/corrections", json=GOOD, headers=ONCE)
        refused(response, 503, "capacity")
        assert response.headers["retry-after"] == "7"
        refused(await broken.post("/v1/corrections", json=GOOD, headers=ONCE), 500, "internal")
    async with client_of(tenant.service, key) as well:
        assert (await well.post("/v1/corrections", json=GOOD, headers=ONCE)).status_code == 201
        assert await events(well) == 1


async def test_key_belongs_to_the_api_key_that_sent_it(tenant, other):
    colleague = await tenant.client_with("admin")
    bodies = [GOOD, {**GOOD, "right": "ask_the_branch"}, {**GOOD, "right": "call_us"}]
    replies = [
        await client.post("/v1/corrections", json=body, headers=ONCE)
        for client, body in zip((tenant.client, colleague, other.client), bodies, strict=True)
    ]
    assert [reply.status_code for reply in replies] == [201, 201, 201]
    assert (await events(tenant.client), await events(other.client)) == (2, 1)


async def test_without_a_key_every_request_is_a_new_one(tenant):
    for _ in range(2):
        await teach(tenant.client, PIN, "change_pin")
    assert await events(tenant.client) == 2


async def test_answer_that_quoted_an_erased_text_is_not_repeated(tenant):
    secret = {"input": "the safe combination of Mrs Quillfeather", "right": "twelve-forty-nine-zebra"}
    first = await tenant.client.post("/v1/corrections", json=secret, headers=ONCE)
    forget = {"corrections": [first.json()["id"]], "mode": "erase"}
    job = (await tenant.client.post("/v1/forget", json=forget)).json()["job_id"]
    assert (await finished(tenant.client, job))["status"] == "succeeded"
    said = refused(await tenant.client.post("/v1/corrections", json=secret, headers=ONCE), 409, "conflict")
    assert "erased" in said["detail"]
    assert (await tenant.client.get("/v1/memory")).json()["responses"] == 0


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_stored_answer_is_not_repeated_once_what_it_quotes_was_forgotten(tenant, mode):
    taught = await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)
    asked = {"Idempotency-Key": "asked"}
    first = await tenant.client.post("/v1/recall", json={"input": PIN}, headers=asked)
    assert first.json()["answers"][0]["value"] == "change_pin"
    said = (await tenant.client.post("/v1/forget", json={"corrections": [taught.json()["id"]], "mode": mode})).json()
    if said["job_id"] is not None:
        assert (await finished(tenant.client, said["job_id"]))["status"] == "succeeded"
    again = await tenant.client.post("/v1/recall", json={"input": PIN}, headers=asked)
    assert (again.status_code, again.json()["answers"]) == (200, []), "a question is asked anew"
    refused(await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE), 409, "conflict")
    assert await events(tenant.client) == 1


async def test_answer_that_was_under_way_during_an_erasure_is_not_kept(tenant):
    """Its reply is made before the erasure and stored after it."""
    secret = {"input": "the safe combination of Mrs Quillfeather", "right": "twelve-forty-nine-zebra"}
    taught = await teach(tenant.client, secret["input"], secret["right"])
    engine = tenant.service.engine

    class Slow:
        async def recall(self, *args, **kwargs):
            found = await engine.recall(*args, **kwargs)
            said = await tenant.client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})
            assert (await finished(tenant.client, said.json()["job_id"]))["status"] == "succeeded"
            return found

    async with client_over(deps_of(tenant.service, engine=Slow()), await tenant.key("admin")) as slow:
        assert (await slow.post("/v1/recall", json={"input": secret["input"]}, headers=ONCE)).status_code == 200
    assert "twelve-forty-nine-zebra" not in str(kept(tenant))


async def test_answer_is_still_repeated_when_nothing_was_forgotten_since(tenant):
    old = await teach(tenant.client, SPAIN, "transfer_time")
    await tenant.client.post("/v1/forget", json={"corrections": [old["id"]], "mode": "suppress"})
    first = await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)
    again = await tenant.client.post("/v1/corrections", json=GOOD, headers=ONCE)
    assert (again.status_code, again.json()["id"], again.json()["receipt"]) == (201, first.json()["id"], first.json()["receipt"])
    assert again.headers["idempotent-replayed"] == "true"
    assert await events(tenant.client) == 2
