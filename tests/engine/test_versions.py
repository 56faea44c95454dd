"""Rollback is exact, undone exactly, and reaches the warm copy; snapshots survive damage of their blobs."""

import pytest
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import until

from workers.consolidate import Consolidation


async def test_recall_after_a_rollback_is_bit_equal_to_the_snapshots_own_answers(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    await teach(client, SPAIN, "transfer_time")
    at_snapshot = [(await ask(client, text, at=saved["id"], top_k=5, min_confidence=0))["answers"] for text in (PIN, SPAIN)]
    response = await client.post("/v1/rollback", json={"to": saved["id"]})
    assert response.status_code == 200, response.text
    now = [(await ask(client, text, top_k=5, min_confidence=0))["answers"] for text in (PIN, SPAIN)]
    assert now == at_snapshot
    assert await digest(client) == saved["digest"]


async def test_redo_gives_the_same_digest(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    before = await digest(client)
    undone = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    assert await digest(client) != before
    assert (await client.post("/v1/rollback", json={"to": undone["pre_rollback"]})).status_code == 200
    assert await digest(client) == before
    assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"


async def test_dry_run_names_the_flips_and_changes_nothing(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    before = await digest(client)
    preview = (await client.post("/v1/rollback", json={"to": saved["id"], "dry_run": True})).json()
    assert preview["head"] is None
    assert {(flip["before"]["value"], flip["after"]["value"]) for flip in preview["flips"]} == {("ask_the_branch", "change_pin")}
    assert await digest(client) == before
    assert [row["kind"] for row in (await client.get("/v1/snapshots")).json()["items"]] == ["manual", "genesis"]


async def test_rollback_with_the_wrong_head_in_if_match_changes_nothing(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    response = await client.post("/v1/rollback", json={"to": saved["id"]}, headers={"If-Match": '"snap_other"'})
    assert (response.status_code, response.json()["code"]) == (412, "head-moved")
    bank = (await client.get("/v1/banks")).json()["items"][0]
    response = await client.post("/v1/rollback", json={"to": saved["id"]}, headers={"If-Match": bank["etag"]})
    assert response.status_code == 200


async def test_learning_goes_on_after_a_rollback_and_survives_a_restart(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        saved = await snapshot(client)
        await teach(client, PIN, "wrong_lesson")
        await client.post("/v1/rollback", json={"to": saved["id"]})
        await teach(client, SPAIN, "transfer_time")
        lived = await digest(client)
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert await digest(client) == lived
        assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"
        assert (await ask(client, SPAIN))["answers"][0]["value"] == "transfer_time"


async def test_bank_of_an_older_build_is_folded_anew_from_its_ledger(tmp_path, encoder):
    async with serving(tmp_path / "var", encoder, memory={"neighbours": 2}) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        saved = await snapshot(client)
        await teach(client, SPAIN, "transfer_time")
        old = await digest(client)
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert [(await ask(client, text))["answers"][0]["value"] for text in (PIN, SPAIN)] == ["change_pin", "transfer_time"]
        assert await digest(client) != old
        await teach(client, PIN, "ask_the_branch")
        assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"
        refused = await client.post("/v1/recall", json={"input": PIN, "at": saved["id"]})
        assert refused.status_code == 409, "the older build's weights cannot be read by this one"
        assert "configuration" in refused.json()["detail"], refused.text


async def test_bank_of_another_encoder_is_refused_and_left_as_it_is(tmp_path, encoder):
    class Other:
        digest, width, words = "f" * 64, encoder.width, encoder.words

        def encode(self, texts):
            return encoder.encode(texts)

    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
    async with serving(tmp_path / "var", Other()) as service, client_of(service) as client:
        for path, body in (("recall", {"input": PIN}), ("corrections", {"input": PIN, "right": "another"})):
            refused = await client.post(f"/v1/{path}", json=body)
            assert refused.status_code == 409, refused.text
            assert "was taught with the encoder" in refused.json()["detail"]
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"
        assert len((await client.get("/v1/events")).json()["items"]) == 1


async def saved(client, seq):
    """An automatic snapshot of so many events is made beside the teaching, some time."""

    async def there() -> bool:
        return any(row["kind"] == "auto" and row["seq"] == seq for row in (await client.get("/v1/snapshots")).json()["items"])

    await until(there, f"an automatic snapshot of {seq} events")


async def test_cold_start_begins_at_the_newest_automatic_snapshot(tmp_path, encoder):
    async with (
        serving(tmp_path / "var", encoder, snapshot_every=8, auto_snapshots=2) as service,
        client_of(service) as client,
    ):
        for number in range(40):
            await teach(client, f"{PIN} variant {number}", f"answer {number % 5}")
            if number % 8 == 7:
                await saved(client, number + 1)
        lived = await digest(client)
    async with serving(tmp_path / "var", encoder, snapshot_every=8) as service, client_of(service) as client:
        assert await digest(client) == lived
        kinds = [row["kind"] for row in (await client.get("/v1/snapshots")).json()["items"]]
        assert kinds.count("auto") == 2, "retention keeps the newest automatic snapshots"
        warm = service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default"))
        assert warm.saved_seq >= 32, "the fold of the tail is bounded"


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove"])
async def test_corrupted_blob_is_refused_by_name_and_an_older_snapshot_used(tmp_path, encoder, damage, capsys):
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        await snapshot(client)
        await teach(client, SPAIN, "transfer_time")
        newest = await snapshot(client)
        lived = await digest(client)
    sha = newest["levels"][0]["sha256"]
    (blob,) = (path for path in (tmp_path / "var" / "objects").rglob(sha))
    data = bytearray(blob.read_bytes())
    data[len(data) // 2] ^= 1
    blob.chmod(0o600)
    match damage:
        case "flip":
            blob.write_bytes(data)
        case "truncate":
            blob.write_bytes(data[:100])
        case "remove":
            blob.unlink()
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        assert await digest(client) == lived, "nothing is lost"
        warm = service.engine.banks.peek(await service.engine.banks.id_of(service.tenant, "default"))
        assert warm.base_snapshot != newest["id"]
        for refused in (
            await client.post("/v1/recall", json={"input": PIN, "at": newest["id"]}),
            await client.post("/v1/rollback", json={"to": newest["id"]}),
        ):
            assert (refused.status_code, refused.json()["code"]) == (422, "checksum-mismatch")
            assert sha in refused.json()["detail"]
        assert await digest(client) == lived


async def test_consolidation_gates_snapshots_and_moves_the_head(client):
    for number in range(6):
        await teach(client, f"{PIN} ({number})", "change_pin")
    lived = await digest(client)
    job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
    assert job["status"] == "succeeded", job
    figures = {"probes": 6, "head_right": 6, "candidate_right": 6, "flipped": 0, "replaced": 0, "let_go": 0}
    assert job["result"]["gate"] == figures | {"passed": True}
    assert job["result"]["digest"] == lived, "replay equals the lived state (I8)"
    head = next(row for row in (await client.get("/v1/snapshots")).json()["items"] if row["is_head"])
    assert (head["id"], head["kind"]) == (job["result"]["snapshot"], "consolidation")
    await teach(client, SPAIN, "transfer_time")
    assert (await ask(client, SPAIN))["answers"][0]["value"] == "transfer_time"


async def test_blobs_left_by_a_dead_process_are_deleted_at_the_next_start_and_needed_ones_kept(tmp_path, encoder):
    """It died after destroying a snapshot but before deleting its bytes, or after writing bytes that no snapshot came to need."""
    from datetime import UTC, datetime, timedelta

    from service.store import blob_rows, snapshots

    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        gone = await snapshot(client)
        await teach(client, SPAIN, "transfer_time")
        kept = await snapshot(client)
        bank = await service.engine.banks.id_of(service.tenant, "default")
        blobs = service.engine.versions.blobs
        orphan, fresh = [await blobs.put(service.tenant, data) for data in (b"orphan", b"fresh")]
        now = datetime.now(UTC)
        async with service.database.write(service.tenant) as conn:
            await snapshots.destroy_snapshots(conn, service.tenant, bank, [gone["id"]], now)
            await blob_rows.stage(conn, service.tenant, [(orphan, 6)], now - timedelta(hours=2))
            await blob_rows.stage(conn, service.tenant, [(fresh, 5)], now)
    async with serving(tmp_path / "var", encoder) as service, client_of(service) as client:
        needed = {level["sha256"] for level in kept["levels"]}

        async def tidied() -> set[str] | None:
            there = set(await service.engine.versions.blobs.list(service.tenant))
            return there if len(there) == len(needed) + 1 else None

        left = await until(tidied, "only what is needed is left, and what is fresh")
        assert needed < left
        assert {level["sha256"] for level in gone["levels"]} - needed
        assert not left & ({level["sha256"] for level in gone["levels"]} - needed)
        assert (await client.post("/v1/rollback", json={"to": kept["id"]})).status_code == 200


class Amnesia(Consolidation):
    """A consolidation whose candidate has lost everything, as a training that went wrong would leave it."""

    async def _candidate(self, tenant, bank_id, progress):
        made = await super()._candidate(tenant, bank_id, progress)
        made.view.state = self.replay.recall.initial()
        return made


async def test_candidate_that_answers_worse_is_kept_aside_and_never_becomes_head_nor_the_base_of_a_cold_start(client, service):
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    lived, engine = await digest(client), service.engine
    good = service.maintenance.consolidation
    service.maintenance.consolidation = Amnesia(good.replay, good.reader, good.versions, good.thread, good.changed)
    job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "consolidation-gate-failed")
    listed = (await client.get("/v1/snapshots")).json()["items"]
    assert [(row["kind"], row["is_head"]) for row in listed] == [("consolidation", False), ("genesis", True)]
    engine.banks.drop(await engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == lived
    assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"


async def test_response_first_taught_while_a_job_folds_is_remembered(client, service):
    """The candidate was begun before the response was known; it has to come to know it from the tail."""
    engine = service.engine
    await teach(client, PIN, "change_pin")
    good = service.maintenance.consolidation
    candidate = good._candidate

    async def slow(self, tenant, bank_id, progress):
        begun = await candidate(tenant, bank_id, progress)
        await teach(client, SPAIN, "transfer_time")
        return begun

    service.maintenance.consolidation = type("Slow", (Consolidation,), {"_candidate": slow})(
        good.replay, good.reader, good.versions, good.thread, good.changed
    )
    job = await finished(client, (await client.post("/v1/consolidations", json={})).json()["job_id"])
    assert job["status"] == "succeeded", job
    assert (await ask(client, SPAIN))["answers"][0]["value"] == "transfer_time"
    later = await teach(client, "Can my daughter get a card?", "get_card")
    assert later["receipt"]["item"]["after"]["value"] == "get_card"
    lived = await digest(client)
    engine.banks.drop(await engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == lived


async def test_snapshot_of_another_bank_is_not_found_even_after_it_was_asked(client):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    other = (await client.post("/v1/banks", json={"name": "other"})).json()["id"]
    await teach(client, PIN, "theirs", bank=other)
    assert (await ask(client, PIN, at=saved["id"]))["answers"][0]["value"] == "change_pin"
    response = await client.post("/v1/recall", json={"bank": other, "input": PIN, "at": saved["id"]})
    assert (response.status_code, response.json()["code"]) == (404, "not-found")


async def test_rollback_whose_reply_was_lost_is_not_done_again_over_what_was_taught_since(client, service):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    await teach(client, PIN, "ask_the_branch")
    headers, body = {"Idempotency-Key": "once"}, {"to": saved["id"]}
    first = (await client.post("/v1/rollback", json=body, headers=headers)).json()
    await teach(client, SPAIN, "transfer_time")
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE idempotency SET status = 'committed', reply = NULL, reply_status = NULL")
    again = await client.post("/v1/rollback", json=body, headers=headers)
    assert again.status_code == 200, again.text
    assert again.headers["idempotent-replayed"] == "true"
    assert {name: again.json()[name] for name in ("head", "pre_rollback", "state")} == {
        name: first[name] for name in ("head", "pre_rollback", "state")
    }
    assert [(flip["before"]["value"], flip["after"]["value"]) for flip in again.json()["flips"] if flip["input"] == PIN] == [
        ("ask_the_branch", "change_pin")
    ] * 2
    assert (await ask(client, SPAIN))["answers"][0]["value"] == "transfer_time"
