"""The whole service on PostgreSQL: the same statements, the same story, the same digests, and two services that contend for one bank."""

import asyncio
import contextlib
import io
import itertools
from datetime import UTC, datetime

import psycopg
import pytest
from fixtures_service import client_of, finished, serving
from fixtures_store import fresh_url
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import PATIENCE_S, until

from model import RecallConfig
from model.slots import bytes_of_slot
from service import wire
from service.cluster.engine import Actor
from service.doctor import examine
from service.errors import NotFound
from service.store import banks, turns
from workers import teaching, warm
from workers.replay import lineage

BY = Actor(key_id="key_1", request_id="test")


@pytest.fixture
def url(tmp_path, request):
    with fresh_url("postgresql", tmp_path, request) as fresh:
        yield fresh


async def test_every_step_of_the_story_holds(tmp_path, encoder, url):
    out = io.StringIO()
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        assert await examine(client, out) is True, out.getvalue()


async def test_weights_and_answers_are_those_of_the_same_ledger_on_sqlite_and_survive_a_restart(tmp_path, encoder, url):
    story = [(PIN, "change_pin"), (SPAIN, "transfer_time"), (PIN, "ask_the_branch")]
    digests = []
    for name, database in (("lite", ""), ("post", url), ("post", url)):
        async with serving(tmp_path / name, encoder, database=database) as service, client_of(service) as client:
            if (await client.get("/v1/memory")).json()["events"] == 0:
                for text, right in story:
                    await teach(client, text, right)
            digests.append(await digest(client))
            assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"
    assert len(set(digests)) == 1


async def until_taught(client, text):
    async def taught() -> tuple[int, str] | None:
        response = await client.post("/v1/corrections", json={"input": text, "right": text})
        if response.status_code == 201:
            return response.json()["seq"], text
        assert response.json()["code"] == "writer-busy", response.text
        return None

    return await until(taught, "the other service lets go")


async def test_two_services_on_one_database_never_lose_an_acknowledged_correction(tmp_path, encoder, url):
    """Each takes the bank from the other: whoever was fenced folds the ledger again before it answers."""
    shared = {"database": url, "key_pepper": "one pepper for all services of a database"}
    async with (
        serving(tmp_path / "one", encoder, **shared) as one,
        serving(tmp_path / "two", encoder, **shared) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):

        async def write(client, name):
            return [await until_taught(client, f"{name} {number}") for number in range(12)]

        acked = [*itertools.chain(*await asyncio.gather(write(first, "first"), write(second, "second")))]
        rows = (await first.get("/v1/events", params={"limit": 200})).json()["items"]
        assert sorted(acked) == [(row["seq"], row["right"]) for row in rows]
        assert [row["seq"] for row in rows] == list(range(1, 25))
        await teach(second, PIN, "change_pin")
        await teach(first, SPAIN, "transfer_time")
        lived = await digest(first)
        saved = await snapshot(first)
        job = await finished(first, (await first.post("/v1/consolidations", json={})).json()["job_id"])
        assert job["result"]["digest"] == lived == saved["digest"]


async def test_rollback_by_a_service_that_lost_the_bank_counts_what_the_other_has_taught(tmp_path, encoder, url):
    shared = {"database": url, "key_pepper": "one pepper for all services of a database"}
    async with (
        serving(tmp_path / "one", encoder, **shared, blobs=(tmp_path / "objects").as_uri()) as one,
        serving(tmp_path / "two", encoder, **shared, blobs=(tmp_path / "objects").as_uri()) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        await teach(second, PIN, "ask_the_branch")
        await teach(second, SPAIN, "transfer_time")
        moved = await first.post("/v1/rollback", json={"to": saved["id"]})
        assert (moved.status_code, moved.json()["state"]["seq"]) == (200, 3), moved.text
        one.engine.banks.drop(await one.engine.banks.id_of(one.tenant, "default"))
        assert await digest(first) == saved["digest"], "what the other taught is rolled back as well, also after a reload"


@contextlib.asynccontextmanager
async def two_services(tmp_path, encoder, url, **more):
    """Two services on one database and one directory of blobs, and an admin's client of each; both have the default bank warm."""
    shared = {"database": url, "key_pepper": "one pepper for all services of a database", "blobs": (tmp_path / "objects").as_uri()}
    async with (
        serving(tmp_path / "one", encoder, **shared, **more) as one,
        serving(tmp_path / "two", encoder, **shared, **more) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        yield first, second


async def both_warm(first, second, text, right):
    for client in (first, second):
        assert (await ask(client, text))["answers"][0]["value"] == right


async def test_what_one_service_taught_the_other_answers_at_once(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        await teach(first, PIN, "change_pin")
        await both_warm(first, second, PIN, "change_pin")
        newer = await teach(second, PIN, "ask_the_branch")
        said = await ask(first, PIN)
        assert said["answers"][0]["value"] == "ask_the_branch"
        assert said["state"]["seq"] == newer["seq"]


@pytest.mark.parametrize("meanwhile", ["taught", "rolled back", "forgotten"])
async def test_bank_is_its_owners_until_who_takes_it_has_folded_it(tmp_path, encoder, url, monkeypatch, meanwhile):
    """What the owner does during the fold is neither refused nor lost."""
    shared = {"database": url, "key_pepper": "one pepper for all services of a database", "blobs": (tmp_path / "objects").as_uri()}
    async with (
        serving(tmp_path / "one", encoder, **shared) as one,
        serving(tmp_path / "two", encoder, **shared) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        saved = await snapshot(first)
        old = await teach(first, PIN, "change_pin")
        done = []

        async def read_then_changed(*args):
            found = await lineage(*args)
            if not done:
                done.append(meanwhile)
                if meanwhile == "taught":
                    await teach(first, SPAIN, "transfer_time")
                elif meanwhile == "rolled back":
                    assert (await first.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
                else:
                    said = await first.post("/v1/forget", json={"corrections": [old["id"]], "mode": "suppress"})
                    assert said.status_code == 202
            return found

        with monkeypatch.context() as patch:
            patch.setattr(warm, "lineage", read_then_changed)
            answers = {text: (await ask(second, text))["answers"] for text in (PIN, SPAIN)}
        assert done == [meanwhile]
        told = {text: [answer["value"] for answer in said][:1] for text, said in answers.items()}
        assert told[PIN] == (["change_pin"] if meanwhile == "taught" else [])
        assert told[SPAIN] == (["transfer_time"] if meanwhile == "taught" else told[SPAIN])
        assert await digest(second) == await digest(first)
        assert (await teach(second, SPAIN, "ask_the_branch"))["seq"] == (await teach(first, SPAIN, "transfer_time"))["seq"] - 1


async def test_fence_of_a_bank_that_another_service_took_refuses_the_warm_copy_and_so_does_an_older_one(tmp_path, encoder, url):
    """A request asks for the fence beside the encoder: what is warm afterwards may be older than the fence, or newer."""
    shared = {"database": url, "key_pepper": "one pepper for all services of a database", "blobs": (tmp_path / "objects").as_uri()}
    async with (
        serving(tmp_path / "one", encoder, **shared) as one,
        serving(tmp_path / "two", encoder, **shared) as two,
        client_of(one) as first,
        client_of(two) as second,
    ):
        await teach(first, PIN, "change_pin")
        banks, tenant = one.engine.banks, one.tenant
        bank_id = await banks.id_of(tenant, "default")
        before = await banks.fence(tenant, bank_id)

        async def found(fence):
            async with banks.using(tenant, bank_id, fence) as warm:
                return warm.view.seq, (warm.row.epoch, warm.head_version)

        assert await found(before) == (1, before)

        await teach(second, PIN, "ask_the_branch")
        after = await banks.fence(tenant, bank_id)
        assert after.epoch > before.epoch
        seq, (epoch, _) = await found(after)
        assert (seq, epoch) == (2, after.epoch + 1)

        assert (await found(before))[0] == 2
        assert (await first.delete(f"/v1/banks/{bank_id}")).is_success
        assert await banks.fence(tenant, bank_id) is None
        with pytest.raises(NotFound):
            await found(None)


async def test_bank_that_changed_hands_while_a_question_was_encoded_answers_from_the_ledger(tmp_path, encoder, url, monkeypatch):
    """The question's fence is older than the warm copy that it finds: it is not believed, and the row is read."""
    async with serving(tmp_path / "one", encoder, database=url) as service, client_of(service) as client:
        taught = await teach(client, PIN, "change_pin")
        encode, begun = service.engine._encoding.encode, []

        async def slowly(*args):
            encoded = await encode(*args)
            if not begun:
                begun.append(True)
                gone = await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "suppress"})
                assert gone.status_code == 202, gone.text
            return encoded

        monkeypatch.setattr(service.engine._encoding, "encode", slowly)
        assert (await ask(client, PIN, min_confidence=0))["answers"] == []
        assert begun


async def test_bank_that_left_the_device_answers_only_what_the_ledger_says_by_now(tmp_path, encoder, url):
    """It is packed in one service's memory while the other one teaches and forgets."""
    slot = sum(bytes_of_slot(RecallConfig.tiny(encoder_digest=encoder.digest)))
    async with two_services(tmp_path, encoder, url, warm_bytes=slot) as (first, second):
        assert (await first.post("/v1/banks", json={"name": "another"})).status_code == 201
        taught = await teach(first, PIN, "change_pin")
        await ask(first, PIN, bank="another")
        assert (await ask(first, PIN))["answers"][0]["value"] == "change_pin"
        await ask(first, PIN, bank="another")
        assert 'palimpsest_warm_hits_total{result="host"}' in (await first.get("/metrics")).text
        newer = await teach(second, SPAIN, "transfer_time")
        assert (await ask(first, SPAIN))["state"]["seq"] == newer["seq"]
        await ask(first, PIN, bank="another")
        gone = await second.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "suppress"})
        assert gone.status_code == 202
        assert "change_pin" not in [answer["value"] for answer in (await ask(first, PIN, min_confidence=0))["answers"]]


@pytest.mark.parametrize("mode", ["suppress", "rebuild", "erase"])
async def test_what_one_service_was_told_to_forget_the_other_never_answers_again(tmp_path, encoder, url, mode):
    """Not at the head, and not at a snapshot that it has in memory."""
    async with two_services(tmp_path, encoder, url) as (first, second):
        taught = await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        await both_warm(first, second, PIN, "change_pin")
        assert (await ask(second, PIN, at=saved["id"]))["answers"][0]["value"] == "change_pin"
        gone = await first.post("/v1/forget", json={"corrections": [taught["id"]], "mode": mode})
        assert gone.status_code in (200, 202), gone.text
        for body in ({}, {"at": saved["id"]}):
            said = await second.post("/v1/recall", json={"input": PIN, "min_confidence": 0.0, **body})
            assert said.status_code != 200 or said.json()["answers"] == [], said.text
        if mode != "suppress":
            assert (await finished(first, gone.json()["job_id"]))["status"] == "succeeded"
        assert (await ask(second, PIN))["answers"] == []


async def test_rollback_by_one_service_is_what_the_other_answers_from(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        await teach(first, PIN, "ask_the_branch")
        await both_warm(first, second, PIN, "ask_the_branch")
        assert (await first.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
        assert (await ask(second, PIN))["answers"][0]["value"] == "change_pin"
        assert await digest(second) == saved["digest"]


async def test_bank_that_one_service_deleted_the_other_does_not_know_any_more(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        bank = (await first.post("/v1/banks", json={"name": "other"})).json()["id"]
        await teach(first, PIN, "change_pin", bank=bank)
        assert (await ask(second, PIN, bank=bank))["answers"][0]["value"] == "change_pin"
        assert (await first.delete(f"/v1/banks/{bank}")).is_success
        for named in (bank, "other"):
            assert (await second.post("/v1/recall", json={"input": PIN, "bank": named})).status_code == 404
        again = (await first.post("/v1/banks", json={"name": "other"})).json()["id"]
        await teach(first, PIN, "another_bank", bank=again)
        assert (await ask(second, PIN, bank="other"))["answers"][0]["value"] == "another_bank"


async def test_folded_rollback_of_one_service_is_what_the_other_answers_at_once(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        await teach(first, PIN, "change_pin")
        moment = datetime.now(UTC).isoformat()
        await teach(first, PIN, "ask_the_branch", session_id="ses:bad")
        await both_warm(first, second, PIN, "ask_the_branch")
        undone = (await first.post("/v1/rollback", json={"source": {"session_id": "ses:bad"}})).json()
        await both_warm(first, second, PIN, "change_pin")
        assert (await second.post("/v1/rollback", json={"to": undone["pre_rollback"]})).status_code == 200
        await both_warm(first, second, PIN, "ask_the_branch")
        assert (await second.post("/v1/rollback", json={"to_time": moment})).status_code == 200
        await both_warm(first, second, PIN, "change_pin")
        assert await digest(first) == await digest(second)


async def test_of_two_services_that_roll_back_at_once_one_wins(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        await teach(first, SPAIN, "transfer_time")
        for _ in range(3):
            etag = {"If-Match": (await first.get("/v1/banks/default")).json()["etag"]}
            bodies = ({"to": saved["id"]}, {"to": saved["id"], "keep": "corrections_after"})
            calls = [client.post("/v1/rollback", json=body, headers=etag) for client, body in zip((first, second), bodies, strict=True)]
            answers = await asyncio.gather(*calls)
            assert sorted(answer.status_code for answer in answers)[0] == 200, [answer.text for answer in answers]
            assert sorted(answer.status_code for answer in answers)[1] in (409, 412), [answer.text for answer in answers]
            assert await digest(first) == await digest(second)


async def test_rollback_of_one_service_to_what_the_other_deletes_is_whole_or_refused(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        for number in range(4):
            await teach(first, PIN, f"answer {number}")
            saved = await snapshot(first)
            await teach(first, SPAIN, f"answer {number}")
            moved, deleted = await asyncio.gather(
                first.post("/v1/rollback", json={"to": saved["id"]}), second.delete(f"/v1/snapshots/{saved['id']}")
            )
            assert deleted.status_code == 204, deleted.text
            assert moved.status_code in (200, 404, 409), moved.text
            assert (await digest(second) == saved["digest"]) == (moved.status_code == 200)
            verified = (await first.get("/v1/snapshots")).json()["items"]
            for row in verified:
                assert (await first.post(f"/v1/snapshots/{row['id']}/verify")).json()["ok"], "no snapshot points at deleted bytes"


async def test_snapshot_that_one_service_deleted_the_other_does_not_ask_any_more(tmp_path, encoder, url):
    """It may have the state in memory still."""
    async with two_services(tmp_path, encoder, url) as (first, second):
        await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        await teach(first, PIN, "ask_the_branch")
        diff = f"/v1/snapshots/{saved['id']}/diff/head"
        for client in (first, second):
            assert (await ask(client, PIN, at=saved["id"]))["answers"][0]["value"] == "change_pin"
            assert (await client.get(diff)).json()["gained_total"] == 1
        assert (await first.delete(f"/v1/snapshots/{saved['id']}")).status_code == 204
        for client in (first, second):
            assert (await client.post("/v1/recall", json={"input": PIN, "at": saved["id"]})).status_code == 404
            assert (await client.get(diff)).status_code == 404


async def test_bundle_leaves_by_one_service_and_comes_back_by_the_other(tmp_path, encoder, url):
    async with two_services(tmp_path, encoder, url) as (first, second):
        taught = await teach(first, PIN, "change_pin")
        saved = await snapshot(first)
        job = await finished(first, (await first.post(f"/v1/snapshots/{saved['id']}/export", json={"ledger": True})).json()["job_id"])
        data = (await second.get(f"/v1/exports/{job['result']['export']}")).content
        brought = await second.post("/v1/imports", content=data)
        assert brought.status_code == 201, brought.text
        assert (brought.json()["snapshot"]["digest"], brought.json()["agreeing"]) == (saved["digest"], 1)
        found = await finished(first, (await second.post("/v1/memory/bisect", json={"input": PIN})).json()["job_id"])
        assert found["result"]["correction"] == taught["id"]
        erased = (await first.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})).json()["job_id"]
        assert (await finished(first, erased))["result"]["destroyed_exports"] == [job["result"]["export"]]
        assert (await second.get(f"/v1/exports/{job['result']['export']}")).status_code == 404
        refused = await second.post("/v1/imports", content=data)
        assert refused.status_code == 409, refused.text


@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "once"}], ids=["no key", "a key"])
async def test_append_whose_connection_breaks_is_made_again_and_counts_once(tmp_path, encoder, url, postgres, headers, monkeypatch):
    """Nobody knows whether it was kept until the bank was taken anew."""
    monkeypatch.setattr(teaching, "AGAIN_S", PATIENCE_S)  # a slow machine may need longer than a caller would wait
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        await teach(client, SPAIN, "transfer_time")
        bank = await service.engine.banks.id_of(service.tenant, "default")
        async with service.database.write(service.tenant) as conn:
            await banks.lock(conn, service.tenant, bank)
            appending = asyncio.ensure_future(client.post("/v1/corrections", json={"input": PIN, "right": "change_pin"}, headers=headers))
            postgres.kill_backend(await waiting_for_a_lock(url))
            await asyncio.sleep(0.2)
            assert not appending.done()
        reply = await appending
        assert (reply.status_code, reply.json()["seq"]) == (201, 2), reply.text
        assert (await client.get("/v1/memory")).json()["events"] == 2
        assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"
        lived = await digest(client)
        service.engine.banks.drop(bank)
        assert await digest(client) == lived


async def test_turn_whose_retry_was_quicker_at_another_worker_is_learned_once(tmp_path, encoder, url):
    """The first try waits for the bank's row while its retry, which is called otherwise after midnight, takes the bank and is appended."""
    async with serving(tmp_path / "var", encoder, database=url) as service, client_of(service) as client:
        turn = wire.NewTurn(input="The code of the gate?", right="4711")
        await service.engine.observe(service.tenant, "default", turn, actor=BY, ids=["trn_before"])
        bank = await service.engine.banks.id_of(service.tenant, "default")
        async with service.database.write(service.tenant) as conn:
            row = await banks.acquire(conn, service.tenant, bank, "another")
            names = ["trn_first", "trn_yesterday", "trn_retry"]
            first = asyncio.ensure_future(service.engine.observe(service.tenant, "default", turn, actor=BY, ids=names))
            await waiting_for_a_lock(url)
            said = turns.TurnDraft("trn_retry", None, turn.input, turn.right, 8, "key_1")
            await turns.append(conn, service.tenant, bank, said, epoch=row.epoch, head_version=row.head_version, now=datetime.now(UTC))
        taken = await first
        assert (taken.id, taken.seq) == ("trn_retry", 2)
        assert (await client.get("/v1/memory")).json()["events"] == 2


async def waiting_for_a_lock(url: str) -> int:
    """The server's process that waits for somebody's lock."""
    query = "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as connection:

        async def waiting() -> tuple[int] | None:
            return await (await connection.execute(query)).fetchone()

        return (await until(waiting, "somebody waits"))[0]
