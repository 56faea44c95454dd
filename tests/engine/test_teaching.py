"""An acknowledged correction is durable, in the weights, and visible to the next question (I1, I2)."""

import asyncio
import gc
import warnings
from dataclasses import replace
from statistics import median

import pytest
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, teach
from sqlalchemy import text as said

from service.errors import Capacity, Invalid, StorageFull
from service.processes.parts import SYSTEM
from service.store import banks
from service.wire import NewCorrection
from workers.judging import Judge
from workers.teaching import Teacher


async def test_receipt_tells_before_and_after(client):
    first = await teach(client, PIN, "change_pin", paraphrases=["How can I change my PIN code?", "My tomato plants have yellow leaves"])
    item = first["receipt"]["item"]
    assert item["before"] == {"value": None, "confidence": item["before"]["confidence"]}
    assert item["after"]["value"] == "change_pin"
    assert first["receipt"]["paraphrase"] == {"n": 2, "fixed": 1}, "a question about tomatoes is none about cards"
    second = await teach(client, PIN, "ask_the_branch", wrong="change_pin")
    assert (second["receipt"]["item"]["before"]["value"], second["receipt"]["item"]["after"]["value"]) == (
        "change_pin",
        "ask_the_branch",
    )
    assert second["seq"] == first["seq"] + 1


async def test_recall_after_a_write_sees_it_from_every_client(client):
    async def one(number: int) -> None:
        taught = await teach(client, f"question number {number} about topic {number}", f"answer {number}")
        asked = await ask(client, f"question number {number} about topic {number}", top_k=5, min_confidence=0)
        assert asked["state"]["seq"] >= taught["seq"]
        assert taught["id"] in {name for answer in asked["answers"] for name in answer["support"]}

    await asyncio.gather(*(one(number) for number in range(12)))


async def test_concurrent_corrections_get_contiguous_seqs_and_fold_in_their_order(client, service):
    taught = await asyncio.gather(*(teach(client, f"{PIN} {number}", f"answer {number % 3}") for number in range(20)))
    assert sorted(row["seq"] for row in taught) == list(range(1, 21))
    lived = await digest(client)
    service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == lived


async def test_receipt_knows_what_was_taught_while_its_own_text_was_encoded(client):
    await teach(client, SPAIN, "transfer_time")  # the bank is warm: the ledger is asked beside the encoder
    for turn in range(4):
        text = f"{PIN} in branch {turn}"
        both = await asyncio.gather(teach(client, text, f"pin {turn}"), teach(client, text, f"branch {turn}"))
        first, second = sorted(both, key=lambda taught: taught["seq"])
        assert second["seq"] == first["seq"] + 1
        assert second["receipt"]["item"]["before"] == first["receipt"]["item"]["after"]


async def taught_meanwhile(client, service, other):
    await teach(client, f"{SPAIN} In days?", "transfer_time")


async def forgotten_meanwhile(client, service, other):
    response = await client.post("/v1/forget", json={"corrections": [other["id"]], "mode": "suppress"})
    assert response.is_success, response.text


async def quarantined_meanwhile(client, service, other):
    response = await client.post("/v1/quarantine", json={"source": {"session_id": "other"}})
    assert response.is_success, response.text
    assert (await finished(client, response.json()["job_id"]))["status"] == "succeeded"


async def rolled_back_meanwhile(client, service, other):
    before = next(row for row in (await client.get("/v1/snapshots")).json()["items"] if row["label"] == "before the other")
    response = await client.post("/v1/rollback", json={"to": before["id"]})
    assert response.is_success, response.text


async def dropped_meanwhile(client, service, other):
    service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))


async def taken_meanwhile(client, service, other):
    async with service.engine.replay.database.write(service.tenant) as conn:
        await banks.acquire(conn, service.tenant, await service.engine.banks.id_of(service.tenant, "default"), "somebody else")


CHANGES = (taught_meanwhile, forgotten_meanwhile, quarantined_meanwhile, rolled_back_meanwhile, dropped_meanwhile, taken_meanwhile)


@pytest.mark.parametrize("change", [None, *CHANGES])
async def test_what_was_looked_up_before_the_bank_changed_in_any_way_does_not_count(client, service, monkeypatch, change):
    await teach(client, PIN, "change_pin")
    await client.post("/v1/snapshots", json={"label": "before the other"})
    other, look_up, looking = await teach(client, SPAIN, "a week", session_id="other"), Teacher.look_up, Judge.looking
    known = []

    async def found_nothing(self, tenant, bank_id, item):
        monkeypatch.setattr(Teacher, "look_up", look_up)
        looked_up = await self.look_up(tenant, bank_id, item)
        assert [len(rows) for rows in looked_up.same] == [1]
        if change is not None:
            await change(client, service, other)
        return replace(looked_up, same=[[]])

    def watched(self, tenant, warm, view, asked, same):
        if asked.text == PIN:
            known.append([row.seq for row in same])
        return looking(self, tenant, warm, view, asked, same)

    monkeypatch.setattr(Teacher, "look_up", found_nothing)
    monkeypatch.setattr(Judge, "looking", watched)
    told = await teach(client, PIN, "in the app")
    assert (1 in known[-1]) is (change is not None), "the first correction of these words"
    assert told["receipt"]["item"]["before"]["value"] == "change_pin"


async def test_look_into_the_ledger_that_fails_keeps_nothing(client, service, monkeypatch):
    await teach(client, PIN, "change_pin")

    async def down(self, tenant, bank_id, item):
        raise Capacity("the database is busy", retry_after_s=1)

    monkeypatch.setattr(Teacher, "look_up", down)
    await teach(client, SPAIN, "transfer_time", expect=503)
    monkeypatch.undo()
    assert (await client.get("/v1/memory")).json()["events"] == 1
    assert (await teach(client, SPAIN, "transfer_time"))["seq"] == 2


async def test_batch_is_applied_in_order_and_all_or_none(client):
    items = [{"input": PIN, "right": "change_pin"}, {"input": PIN, "right": "ask_the_branch"}]
    response = await client.post("/v1/corrections/batch", json={"items": items})
    assert response.status_code == 201, response.text
    assert [item["seq"] for item in response.json()["items"]] == [1, 2]
    assert (await ask(client, PIN))["answers"][0]["value"] == "ask_the_branch"
    response = await client.post("/v1/corrections/batch", json={"items": [{"input": SPAIN, "right": "x"}, {"input": " ", "right": "y"}]})
    assert response.status_code == 400
    assert (await client.get("/v1/memory")).json()["events"] == 2


async def test_cancelled_client_leaves_a_whole_correction_or_none(client, service):
    for delay in (0.0, 0.001, 0.003, 0.006, 0.01, 0.02):
        task = asyncio.ensure_future(client.post("/v1/corrections", json={"input": f"{PIN} {delay}", "right": "change_pin"}))
        await asyncio.sleep(delay)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await teach(client, SPAIN, "transfer_time")
    lived = await digest(client)
    service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == lived


async def test_question_that_is_cancelled_at_any_moment_leaves_nothing_unasked(client, service):
    await teach(client, PIN, "change_pin")
    how = {"top_k": 1, "min_confidence": None, "at": None, "explain": False, "min_seq": None}
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for turns in range(12):
            task = asyncio.ensure_future(service.engine.recall(service.tenant, "default", [PIN], **how))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        gc.collect()
    assert [str(each.message) for each in told if "never awaited" in str(each.message)] == []
    assert (await ask(client, PIN))["answers"][0]["value"] == "change_pin"


async def test_full_disk_at_the_append_acknowledges_and_keeps_nothing(client, service):
    await teach(client, PIN, "change_pin")
    lived = await digest(client)
    database = service.engine.replay.database

    async def limit(conn) -> None:  # it belongs to a connection: to the one that corrections are written over
        pages = (await conn.execute(said("PRAGMA page_count"))).scalar()
        await conn.execute(said(f"PRAGMA max_page_count = {pages}"))

    async def lift(conn) -> None:
        await conn.execute(said("PRAGMA max_page_count = 1000000"))

    await database.at_once(service.tenant, limit)
    long = {"input": SPAIN, "right": "transfer_time", "metadata": {"filler": "x" * 7_000}}
    replies = [await client.post("/v1/corrections", json=long) for _ in range(10)]
    refused = [reply for reply in replies if reply.status_code != 201]
    assert refused, "the database had room after all"
    assert {(reply.status_code, reply.json()["code"]) for reply in refused} == {(StorageFull.status, StorageFull.code)}
    acknowledged = 1 + len(replies) - len(refused)
    await database.at_once(service.tenant, lift)
    memory = (await client.get("/v1/memory")).json()
    assert memory["events"] == acknowledged
    service.engine.banks.drop(await service.engine.banks.id_of(service.tenant, "default"))
    assert await digest(client) == memory["digest"]
    assert memory["digest"] != lived or acknowledged == 1
    await teach(client, SPAIN, "transfer_time")


async def test_retry_of_a_committed_correction_without_a_reply_gives_the_same_receipt_and_no_second_event(client, service):
    """The process died between the commit and the reply: only the reply of the key is missing."""
    headers = {"Idempotency-Key": "once"}
    await teach(client, PIN, "first answer")
    body = {"input": PIN, "right": "change_pin", "paraphrases": ["How can I change my PIN code?", "My tomato plants have yellow leaves"]}
    first = await client.post("/v1/corrections", json=body, headers=headers)
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE idempotency SET status = 'committed', reply = NULL, reply_status = NULL")
    again = await client.post("/v1/corrections", json=body, headers=headers)
    assert again.status_code == 201, again.text
    assert (again.json()["id"], again.json()["receipt"]) == (first.json()["id"], first.json()["receipt"])
    assert (await client.get("/v1/memory")).json()["events"] == 2


async def test_lost_reply_is_answered_after_a_rollback_and_never_with_what_was_forgotten(client, service):
    headers, body = {"Idempotency-Key": "once"}, {"input": PIN, "right": "change_pin"}
    saved = (await client.post("/v1/snapshots", json={})).json()
    first = await client.post("/v1/corrections", json=body, headers=headers)
    assert (await client.post("/v1/rollback", json={"to": saved["id"]})).status_code == 200
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE idempotency SET status = 'committed', reply = NULL, reply_status = NULL WHERE first_seq = 1")
    again = await client.post("/v1/corrections", json=body, headers=headers)
    assert (again.status_code, again.json().get("id")) == (201, first.json()["id"]), again.text
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE idempotency SET status = 'committed', reply = NULL, reply_status = NULL WHERE first_seq = 1")
    await client.post("/v1/forget", json={"corrections": [first.json()["id"]], "mode": "suppress"})
    refused = await client.post("/v1/corrections", json=body, headers=headers)
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


async def test_correction_that_reached_the_ledger_beside_the_memory_is_folded_before_the_next_one(client, service):
    """As after a commit whose outcome was unknown: the row is there under the same epoch, and the warm weights lack it."""
    from service.store import banks, ledger
    from service.store.rows import Draft

    await teach(client, PIN, "change_pin")
    (encoded,) = await service.engine._encoding.encode([SPAIN])
    draft = Draft(
        id="cor_beside",
        session_id=None,
        input=SPAIN,
        wrong=None,
        right="transfer_time",
        metadata={},
        embedding=encoded.key.tobytes(),
        tokens=encoded.tokens,
    )
    async with service.database.write(service.tenant) as conn:
        bank = await banks.find_bank(conn, service.tenant, "default")
        now = bank.created_at
        await ledger.append(conn, service.tenant, bank.id, [draft], epoch=bank.epoch, head_version=bank.head_version, now=now)
    third = await teach(client, "Can my daughter get a card of her own?", "get_card")
    assert third["seq"] == 3
    assert (await ask(client, SPAIN))["answers"][0]["value"] == "transfer_time"
    lived = await digest(client)
    service.engine.banks.drop(bank.id)
    assert await digest(client) == lived


async def test_job_row_without_its_message_is_found_by_the_sweeper(tmp_path, encoder):
    """The message is only a bell: a lost one costs a sweep (engineering trap 3)."""
    from datetime import UTC, datetime

    from service.store import jobs

    async with serving(tmp_path / "var", encoder, sweep_s=0.1) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        bank = await service.engine.banks.id_of(service.tenant, "default")
        async with service.database.write(service.tenant) as conn:
            job, _ = await jobs.enqueue(
                conn, service.tenant, kind="consolidation", bank=bank, payload={}, dedupe=None, now=datetime.now(UTC)
            )
        assert (await finished(client, job.id))["status"] == "succeeded"


async def test_bell_starts_a_job_at_once(tmp_path, encoder):
    """Not by the sweeper, which looks every minute here, nor at the second that a broker's polling takes by default (trap 4)."""
    async with serving(tmp_path / "var", encoder, sweep_s=60) as service, client_of(service) as client:
        await teach(client, PIN, "change_pin")
        waited, took = [], []
        for _ in range(9):
            begin = asyncio.get_running_loop().time()
            await teach(client, PIN, "change_pin")
            took.append(asyncio.get_running_loop().time() - begin)
            begin = asyncio.get_running_loop().time()
            job = (await client.post("/v1/consolidations", json={})).json()["job_id"]
            while (await client.get(f"/v1/jobs/{job}")).json()["status"] == "queued":  # noqa: ASYNC110 - a client can only poll
                await asyncio.sleep(0.005)
            waited.append(asyncio.get_running_loop().time() - begin)
            assert (await finished(client, job))["status"] == "succeeded"
    # a quiet machine needs 0.03, about as long as two corrections take, which a slow one says what it takes for
    assert median(waited) < max(0.3, 10 * median(took)), (waited, took)


async def test_an_answers_own_words_are_found_before_any_like_situation_was_taught(client):
    await teach(client, "My phone was stolen on the train", "block_the_card")
    await teach(client, "It was swallowed by the machine in the wall", "order_a_new_card")
    assert (await ask(client, "please block my card now"))["answers"][0]["value"] == "block_the_card"
    assert (await ask(client, "I would like to order a new card"))["answers"][0]["value"] == "order_a_new_card"


async def test_policy_that_changed_is_followed_in_wordings_that_were_never_taught(client):
    pins = ["How do I change my PIN?", "I want a new PIN", "Where can I set another PIN?", "Let me pick a different PIN", "Change PIN"]
    transfers = ["How long does a transfer take?", "When will my transfer arrive?", "Transfer is slow", "How fast is a bank transfer?"]
    for text in pins:
        await teach(client, text, "change_pin")
    for text in transfers:
        await teach(client, text, "transfer_time")
    for text in pins[:3]:
        await teach(client, text, "ask_the_branch")
    for text in [*pins[:3], "can my PIN be changed", "how can I set a new PIN code"]:
        assert (await ask(client, text))["answers"][0]["value"] == "ask_the_branch", text
    for text in transfers:
        assert (await ask(client, text))["answers"][0]["value"] == "transfer_time", text
    for text in pins[3:]:
        assert (await ask(client, text))["answers"][0]["value"] == "change_pin", (
            "what was taught in so many words stays until it is corrected"
        )
    await teach(client, pins[3], "ask_the_branch")
    assert (await ask(client, pins[3]))["answers"][0]["value"] == "ask_the_branch"


async def test_forgotten_correction_does_not_speak_through_the_answer_that_replaced_its_own(client):
    pins = ["How do I change my PIN?", "I want a new PIN", "Where can I set another PIN?", "Let me pick a different PIN", "Change PIN"]
    doctor = await teach(client, "Who is the doctor of Alice Cooper?", "change_pin")
    for text in pins:
        await teach(client, text, "change_pin")
    for text in pins[:3]:
        await teach(client, text, "ask_the_branch")
    asked = "Who is the doctor that Alice Cooper has?"
    assert (await ask(client, asked))["answers"], "it is known"
    await client.post("/v1/forget", json={"corrections": [doctor["id"]], "mode": "suppress"})
    assert (await ask(client, asked))["answers"] == []
    assert (await ask(client, "can my PIN be changed"))["answers"][0]["value"] == "ask_the_branch"


async def test_answers_without_words_are_told_apart(client):
    await teach(client, "Was it good?", "\N{THUMBS UP SIGN}")
    await teach(client, "Did the tomato plants die in the frost?", "\N{THUMBS DOWN SIGN}")
    assert (await ask(client, "Was it good?"))["answers"][0]["value"] == "\N{THUMBS UP SIGN}"
    assert (await ask(client, "Did the tomato plants die in the frost?"))["answers"][0]["value"] == "\N{THUMBS DOWN SIGN}"


async def test_corrections_with_the_same_ids_are_taught_once_and_answered_alike(service):
    """A call that was lost on the way is made again, while the first is still at it or long after."""
    engine, ids = service.engine, ["cor_1", "cor_2"]
    items = [NewCorrection(input=PIN, right="change_pin"), NewCorrection(input=SPAIN, right="transfer_time")]

    async def teach_them():
        said = await engine.teach(service.tenant, "default", items, actor=SYSTEM, idempotency_key=None, ids=ids)
        return [(each.id, each.seq, each.receipt) for each in said]

    first, beside = await asyncio.gather(teach_them(), teach_them())
    await engine.teach(service.tenant, "default", [NewCorrection(input=PIN, right="ask_the_branch")], actor=SYSTEM, idempotency_key=None)
    lived = (await engine.memory(service.tenant, "default")).digest
    assert first == beside == await teach_them()
    memory = await engine.memory(service.tenant, "default")
    assert (memory.events, memory.digest) == (3, lived)


@pytest.mark.parametrize("item", [NewCorrection(input=PIN, right=" "), NewCorrection(input="", right="change_pin")])
async def test_what_says_nothing_is_refused_by_the_engine_too_and_the_bank_goes_on(service, item):
    """In the ledger it could never be folded: the model takes no lesson without an answer."""
    engine = service.engine
    with pytest.raises(Invalid, match=r"items\[1\]"):
        await engine.teach(
            service.tenant, "default", [NewCorrection(input=SPAIN, right="transfer_time"), item], actor=SYSTEM, idempotency_key=None
        )
    assert (await engine.memory(service.tenant, "default")).events == 0
    (taught,) = await engine.teach(
        service.tenant, "default", [NewCorrection(input=PIN, right="change_pin")], actor=SYSTEM, idempotency_key=None
    )
    assert taught.seq == 1
