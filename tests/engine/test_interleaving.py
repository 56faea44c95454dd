"""Things that happen between two steps of something else: each test forces the moment that a busy service meets by chance."""

import asyncio
import contextlib
import sqlite3

from fixtures_service import ADMIN_KEY, client_of, finished
from saying import PIN, SPAIN, ask, digest, teach

from model import RecallConfig
from service.embedded import run_embedded
from service.errors import Capacity
from service.settings import Settings
from service.store import banks, history


def after_the_first(function, happens):
    """`function`, with `happens` awaited once, right after the first call has its result."""
    done = []

    async def wrapped(*args, **kwargs):
        result = await function(*args, **kwargs)
        if not done:
            done.append(True)
            await happens()
        return result

    return wrapped


async def support(client, text):
    return (await ask(client, text, min_confidence=0))["answers"][0]["support"]


async def looked_up(service, client, text):
    """What supports the answer, read from the ledger and not from beside the warm bank."""
    service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default")).supports.clear()
    return await support(client, text)


async def test_support_names_a_correction_that_was_taught_while_the_older_ones_were_looked_up(service, client, monkeypatch):
    first = await teach(client, PIN, "change_pin")
    taught = []

    async def teaches():
        taught.append(await teach(client, f"{PIN} Please!", "change_pin"))

    monkeypatch.setattr(history, "newest_of", after_the_first(history.newest_of, teaches))
    await looked_up(service, client, PIN)
    assert set(await support(client, PIN)) == {first["id"], taught[0]["id"]}


async def test_support_never_names_a_correction_that_was_forgotten_while_it_was_looked_up(service, client, monkeypatch):
    kept, gone = await teach(client, PIN, "change_pin"), await teach(client, f"{PIN} Please!", "change_pin")

    async def forgets():
        said = await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})
        assert said.status_code == 202

    monkeypatch.setattr(history, "newest_of", after_the_first(history.newest_of, forgets))
    assert await looked_up(service, client, PIN) == [kept["id"]]
    assert await support(client, PIN) == [kept["id"]]


async def test_support_kept_while_the_bank_is_taught_is_what_the_ledger_says(service, client):
    """Beside a warm bank corrections are added as they come; more of one answer than are looked at push out the oldest."""
    for number in range(20):
        await teach(client, f"{PIN} For the {number}th time!", "change_pin" if number % 4 else "ask_the_branch")
        kept = await support(client, PIN)
        assert kept == await looked_up(service, client, PIN)


async def test_batch_of_questions_is_answered_at_one_state_while_somebody_teaches(client):
    await teach(client, PIN, "answer 0")
    number = meanwhile = 0
    while meanwhile < 2:  # on a machine that stands still now and then all may be answered before a second one is taught
        asking, before = asyncio.ensure_future(client.post("/v1/recall/batch", json={"inputs": [PIN] * 300})), number
        while not asking.done():
            number += 1
            await teach(client, PIN, f"answer {number}")
        said, meanwhile = (await asking).json(), number - before
        assert len({result["answers"][0]["value"] for result in said["results"]}) == 1
        assert said["results"][0]["answers"][0]["value"] == f"answer {said['state']['seq'] - 1}", (
            "the state that is told is the one that answered"
        )


async def test_snapshot_that_retention_collects_while_it_is_read_is_not_found_and_nothing_is_called_damaged(client, service, monkeypatch):
    """Another process may collect: it does not wait for the lock of this one."""
    bank, blobs = await service.engine.banks.id_of(service.tenant, "default"), service.engine.replay.blobs
    await teach(client, PIN, "change_pin")
    for method, body in (("rollback", {}), ("recall", {"input": PIN}), ("memory/probe", {"inputs": [PIN]})):
        await teach(client, SPAIN, method)
        await service.engine.settle(0)
        saved = (await client.get("/v1/snapshots")).json()["items"][0]
        lived, get = await digest(client), blobs.get

        async def collected(tenant, sha256, get=get):
            monkeypatch.setattr(blobs, "get", get)
            await service.engine.versions.thin(service.tenant, bank, 0)
            return await get(tenant, sha256)

        monkeypatch.setattr(blobs, "get", collected)
        at = {"rollback": {"to": saved["id"]}, "recall": {"at": saved["id"]}}.get(method, {"at": [saved["id"]]})
        refused = await client.post(f"/v1/{method}", json=body | at)
        assert (refused.status_code, refused.json()["code"]) == (404, "not-found"), refused.text
        service.engine.banks.drop(bank)
        assert await digest(client) == lived
    assert "palimpsest_snapshots_refused_total 0.0" in (await counted_by(service))


async def test_cold_start_passes_over_a_snapshot_that_retention_collects_while_it_is_read(client, service, monkeypatch):
    bank, blobs = await service.engine.banks.id_of(service.tenant, "default"), service.engine.replay.blobs
    await teach(client, PIN, "change_pin")
    await service.engine.settle(0)
    lived, get = await digest(client), blobs.get
    service.engine.banks.drop(bank)

    async def collected(tenant, sha256):
        monkeypatch.setattr(blobs, "get", get)
        await service.engine.versions.thin(service.tenant, bank, 0)
        return await get(tenant, sha256)

    monkeypatch.setattr(blobs, "get", collected)
    assert await digest(client) == lived
    assert blobs.get == get, "it was read"
    assert "palimpsest_snapshots_refused_total 0.0" in (await counted_by(service))


async def counted_by(service):
    """What the process that has the engine counts."""
    async with client_of(service) as own:
        return (await own.get("/metrics")).text


async def test_erasure_is_not_done_while_a_reader_keeps_the_erased_text_in_the_write_ahead_log(client, service, tmp_path):
    secret = "the safe combination of Mrs Quillfeather"
    old = await teach(client, secret, "twelve-forty-nine-zebra")
    log = tmp_path / "var" / "palimpsest.db-wal"
    with contextlib.closing(sqlite3.connect(tmp_path / "var" / "palimpsest.db", isolation_level=None)) as backup:
        backup.execute("BEGIN")
        backup.execute("SELECT count(*) FROM event").fetchone()
        said = await client.post("/v1/forget", json={"corrections": [old["id"]], "mode": "erase"})
        job = f"/v1/jobs/{said.json()['job_id']}"
        await asyncio.sleep(1)
        assert (await client.get(job)).json()["status"] in ("queued", "running")
        backup.execute("COMMIT")
    assert (await finished(client, said.json()["job_id"]))["status"] == "succeeded"
    assert secret.encode() not in log.read_bytes()


async def test_full_bank_takes_what_it_knows_and_refuses_what_is_new(tmp_path, encoder):
    settings = Settings(var_dir=tmp_path / "var", bootstrap_key=ADMIN_KEY, log_level="error")
    config = RecallConfig.tiny(encoder_digest=encoder.digest, max_responses=2)
    async with run_embedded(settings, encoder=encoder, config=config) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        await teach(client, SPAIN, "transfer_time")
        refused = await client.post("/v1/corrections", json={"input": PIN, "right": "a third"})
        assert (refused.status_code, refused.json()["code"]) == (429, "quota")
        assert (await teach(client, SPAIN, "change_pin"))["seq"] == 3
        lived = await digest(client)
        service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
        assert await digest(client) == lived


async def test_failure_after_the_commit_never_says_that_nothing_was_kept(client, service, monkeypatch):
    await teach(client, PIN, "change_pin")

    async def busy(*args, **kwargs):
        raise Capacity("the database is busy", retry_after_s=1)

    with monkeypatch.context() as patch:
        patch.setattr(history, "responses", busy)
        service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default")).texts.clear()
        said = await client.post("/v1/corrections", json={"input": PIN, "right": "ask_the_branch"})
    assert said.status_code == 503
    assert "in the ledger" in said.json()["detail"]
    assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"


async def test_name_that_was_looked_up_across_a_deletion_leads_to_the_new_bank(client, monkeypatch):
    first = (await client.post("/v1/banks", json={"name": "team"})).json()["id"]

    async def deleted():
        assert (await client.delete(f"/v1/banks/{first}")).status_code == 204

    with monkeypatch.context() as patch:
        patch.setattr(banks, "find_bank", after_the_first(banks.find_bank, deleted))
        await client.post("/v1/recall", json={"bank": "team", "input": PIN})
    assert (await client.post("/v1/banks", json={"name": "team"})).status_code == 201
    assert (await client.post("/v1/recall", json={"bank": "team", "input": PIN})).status_code == 200
