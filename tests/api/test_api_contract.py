"""The contract that clients and checks from outside rely on: paths, statuses, every field of every reply, and the headers."""

import pytest
import shapes
from fixtures_service import client_of, finished
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from shapes import check, page_of
from tenancy import kept, refused

from service.api.app import routes_only
from service.api.openapi import document

pytestmark = pytest.mark.asyncio(loop_scope="module")

FRANCE = "What is the capital of France?"
STRANGE = [FRANCE, "Play some jazz in the kitchen.", "The mitochondrion is the powerhouse of the cell.", "xq zzv 81 blorp"]


async def said(response_of, status, shape):
    response = await response_of
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    check(response.json(), shape)
    return response


def state_header(reply: dict) -> str:
    return f"{reply['state']['snapshot_id']}:{reply['state']['seq']}"


async def test_every_route_of_the_contract_answers_with_its_status_and_its_fields(tenant):
    """One life of a bank, every route in turn; the calls that were made are compared with the routes that there are."""
    client, called = tenant.client, set()

    async def call(method, path, status, shape, *, template=None, body=None):
        called.add((method, template or path))
        return (await said(client.request(method, path, json=body), status, shape)).json()

    taught = await call("POST", "/v1/corrections", 201, shapes.TAUGHT, body={"input": PIN, "right": "change_pin"})
    batch = {"items": [{"input": SPAIN, "right": "transfer_time", "wrong": "card_fee", "session_id": "ses:1", "metadata": {"a": [1]}}]}
    await call("POST", "/v1/corrections/batch", 201, shapes.TAUGHT_BATCH, body=batch)
    recalled = await call("POST", "/v1/recall", 200, shapes.RECALLED, body={"input": PIN, "explain": True})
    assert recalled["answers"][0]["support"] == [taught["id"]]
    await call("POST", "/v1/recall/batch", 200, shapes.RECALLED_BATCH, body={"inputs": [PIN, FRANCE], "top_k": 3})
    for path, shape in (("/v1/corrections", shapes.CORRECTION), ("/v1/events", shapes.EVENT)):
        listed = await call("GET", path, 200, page_of(shape))
        assert [row["seq"] for row in listed["items"]] == [1, 2]
    await call("GET", f"/v1/corrections/{taught['id']}", 200, shapes.CORRECTION, template="/v1/corrections/{correction_id}")
    await call("GET", "/v1/memory", 200, shapes.MEMORY)
    await call("GET", "/v1/memory/levels", 200, shapes.LEVELS)
    trace = "/v1/memory/corrections/{correction_id}/trace"
    await call("GET", trace.format(correction_id=taught["id"]), 200, shapes.TRACE, template=trace)
    await call("POST", "/v1/memory/probe", 200, shapes.PROBED, body={"inputs": [PIN, FRANCE]})
    await call("POST", "/v1/memory/explain", 200, shapes.EXPLAINED, body={"input": PIN})
    found = await call("GET", "/v1/memory/search?q=pin", 200, page_of(shapes.CORRECTION), template="/v1/memory/search")
    assert [row["id"] for row in found["items"]] == [taught["id"]]
    await call("GET", "/v1/stats", 200, shapes.STATS)
    probes = {"name": "saved", "probes": [{"input": PIN, "expected": "change_pin"}, {"input": FRANCE, "expected": "Paris"}]}
    probe_set, one = await call("POST", "/v1/probe-sets", 201, shapes.PROBE_SET, body=probes), "/v1/probe-sets/{probe_set_id}"
    assert (await call("GET", f"/v1/probe-sets/{probe_set['id']}", 200, shapes.PROBE_SET, template=one)) == probe_set
    await call("GET", "/v1/probe-sets", 200, page_of(shapes.PROBE_SET))
    other = {"probes": [{"input": FRANCE, "expected": None}, *probes["probes"]]}
    changed = await call("PUT", f"/v1/probe-sets/{probe_set['id']}", 200, shapes.PROBE_SET, template=one, body=other)
    assert (changed["name"], changed["size"], changed["probes"]) == ("saved", 3, other["probes"])
    await call("PUT", f"/v1/probe-sets/{probe_set['id']}", 200, shapes.PROBE_SET, template=one, body={"probes": probes["probes"]})
    ran = await call("POST", f"/v1/probe-sets/{probe_set['id']}/run", 200, shapes.RAN, template=f"{one}/run", body={})
    assert [(version["passed"], version["failed"]) for version in ran["versions"]] == [(1, 1)]
    response = await client.delete(f"/v1/probe-sets/{probe_set['id']}")
    assert (response.status_code, response.content) == (204, b"")
    called.add(("DELETE", one))
    saved = await call("POST", "/v1/snapshots", 201, shapes.SNAPSHOT, body={"label": "before", "note": "a note", "pin": True})
    assert (saved["kind"], saved["label"], saved["note"], saved["pinned"], saved["is_head"]) == ("manual", "before", "a note", True, False)
    assert (await call("GET", f"/v1/snapshots/{saved['id']}", 200, shapes.SNAPSHOT, template="/v1/snapshots/{snapshot_id}")) == saved
    listed = await call("GET", "/v1/snapshots", 200, page_of(shapes.SNAPSHOT))
    assert [row["kind"] for row in listed["items"]] == ["manual", "genesis"]
    named = {"template": "/v1/snapshots/{snapshot_id}"}
    await call("PATCH", f"/v1/snapshots/{saved['id']}", 200, shapes.SNAPSHOT, **named, body={"label": None, "pinned": False})
    diff = {"template": "/v1/snapshots/{snapshot_id}/diff/{other_id}"}
    await call("GET", f"/v1/snapshots/{listed['items'][1]['id']}/diff/{saved['id']}", 200, shapes.SNAPSHOT_DIFF, **diff)
    verified = {"template": "/v1/snapshots/{snapshot_id}/verify"}
    await call("POST", f"/v1/snapshots/{saved['id']}/verify", 200, shapes.VERIFIED, **verified)
    exporting = {"template": "/v1/snapshots/{snapshot_id}/export", "body": {"ledger": True}}
    started = await call("POST", f"/v1/snapshots/{saved['id']}/export", 202, shapes.JOB_STARTED, **exporting)
    exported = (await finished(client, started["job_id"]))["result"]["export"]
    bundle = await client.get(f"/v1/exports/{exported}")
    assert (bundle.status_code, bundle.headers["cache-control"]) == (200, "no-store")
    called.add(("GET", "/v1/exports/{export_id}"))
    await said(client.post("/v1/imports", content=bundle.content), 201, shapes.IMPORTED)
    called.add(("POST", "/v1/imports"))
    started = await call("POST", "/v1/memory/bisect", 202, shapes.JOB_STARTED, body={"input": PIN})
    await finished(client, started["job_id"])
    response = await client.delete(f"/v1/snapshots/{(await snapshot(client))['id']}")
    assert (response.status_code, response.content) == (204, b"")
    called.add(("DELETE", "/v1/snapshots/{snapshot_id}"))
    await call("POST", "/v1/rollback", 200, shapes.ROLLED_BACK, body={"to": saved["id"], "keep": "none", "reason": "why not"})
    forgotten = await call("POST", "/v1/forget", 202, shapes.FORGOTTEN, body={"corrections": [taught["id"]], "mode": "rebuild"})
    await finished(client, forgotten["job_id"])
    seen = {"corrections": [taught["id"]], "mode": "erase", "dry_run": True}
    await said(client.post("/v1/forget", json=seen), 200, shapes.FORGOTTEN)
    await call("GET", "/v1/forget", 200, page_of(shapes.CERTIFICATE))
    await call("GET", f"/v1/forget/{forgotten['id']}", 200, shapes.CERTIFICATE, template="/v1/forget/{forget_id}")
    held = await call("POST", "/v1/quarantine", 202, shapes.QUARANTINE, body={"source": {"session_id": "ses:9"}, "reason": "why not"})
    await call("GET", "/v1/quarantine", 200, page_of(shapes.QUARANTINE))
    await call("DELETE", f"/v1/quarantine/{held['id']}", 202, shapes.QUARANTINE, template="/v1/quarantine/{quarantine_id}")
    started = await call("POST", "/v1/consolidations", 202, shapes.JOB_STARTED, body={})
    await finished(client, started["job_id"])
    await call("GET", f"/v1/jobs/{started['job_id']}", 200, shapes.JOB, template="/v1/jobs/{job_id}")
    await call("GET", "/v1/jobs", 200, page_of(shapes.JOB))
    refused(await client.post(f"/v1/jobs/{started['job_id']}/cancel"), 409, "conflict")
    called.add(("POST", "/v1/jobs/{job_id}/cancel"))
    bank = await call("POST", "/v1/banks", 201, shapes.BANK, body={"name": "second"})
    assert (await call("GET", f"/v1/banks/{bank['id']}", 200, shapes.BANK, template="/v1/banks/{bank_id}")) == bank
    await call("GET", "/v1/banks", 200, page_of(shapes.BANK))
    key = await call("POST", "/v1/keys", 201, shapes.MINTED_KEY, body={"name": "k", "scopes": ["recall:read"], "banks": ["second"]})
    await call("GET", "/v1/keys", 200, page_of(shapes.KEY))
    template = "/v1/keys/{key_id}/rotate"
    await call("POST", f"/v1/keys/{key['id']}/rotate", 201, shapes.ROTATED_KEY, template=template, body={"overlap_s": 0})
    await call("DELETE", f"/v1/keys/{key['id']}", 200, shapes.KEY, template="/v1/keys/{key_id}")
    await call("GET", "/v1/whoami", 200, shapes.WHO_AM_I)
    await call("GET", "/v1/audit", 200, page_of(shapes.AUDIT_ENTRY))
    assert (await call("GET", "/v1/audit/verify", 200, shapes.AUDIT_VERIFIED))["ok"] is True
    hook = {"url": "http://127.0.0.1:9/", "events": ["rollback.done", "correction.created"]}
    made = await call("POST", "/v1/webhooks", 201, shapes.MADE_WEBHOOK, body=hook)
    await call("GET", "/v1/webhooks", 200, page_of(shapes.WEBHOOK))
    await teach(client, FRANCE, "Paris")
    await client.get("/v1/stream", params={"wait_s": 0})
    called.add(("GET", "/v1/stream"))  # its own test
    template = "/v1/webhooks/{webhook_id}/deliveries"
    path = f"/v1/webhooks/{made['id']}/deliveries"
    sent = (await call("GET", path, 200, page_of(shapes.DELIVERY), template=template))["items"][0]
    template += "/{delivery_id}/redeliver"
    await call("POST", f"{path}/{sent['id']}/redeliver", 202, shapes.DELIVERY, template=template)
    assert (await client.delete(f"/v1/webhooks/{made['id']}")).status_code == 204
    called.add(("DELETE", "/v1/webhooks/{webhook_id}"))
    opened = await call("POST", "/v1/sessions", 201, shapes.OPENED_SESSION, body={"id": "ses:2"})
    await call("POST", "/v1/sessions/ses:2/warm", 200, shapes.WARMTH, template="/v1/sessions/{session_id}/warm")
    seen = await call("GET", "/v1/sessions/ses:2", 200, shapes.SESSION, template="/v1/sessions/{session_id}")
    assert seen["created_at"] == opened["created_at"] < seen["last_used_at"]
    listed = await call("GET", "/v1/sessions", 200, page_of(shapes.SESSION))
    assert [row["id"] for row in listed["items"]] == ["ses:1", "ses:2"], "the first was opened by a correction"
    response = await client.delete("/v1/sessions/ses:2")
    assert (response.status_code, response.content) == (204, b"")
    called.add(("DELETE", "/v1/sessions/{session_id}"))
    for ending in ("promoted", "deleted"):
        branch = await call("POST", "/v1/branches", 201, shapes.BRANCH, body={"name": ending, "bank": bank["id"]})
        assert (await said(client.get("/v1/branches", params={"bank": "second"}), 200, page_of(shapes.BRANCH))).json()["items"] == [branch]
        await teach(client, PIN, "change_pin", bank=branch["id"])
        one = f"/v1/branches/{branch['id']}"
        await call("GET", f"{one}/diff", 200, shapes.SNAPSHOT_DIFF, template="/v1/branches/{branch_id}/diff")
        if ending == "promoted":
            await call("POST", f"{one}/promote", 200, shapes.PROMOTED, template="/v1/branches/{branch_id}/promote", body={})
    response = await client.delete(one)
    assert (response.status_code, response.content) == (204, b"")
    called |= {("GET", "/v1/branches"), ("DELETE", "/v1/branches/{branch_id}")}
    await call("GET", "/v1/models", 200, shapes.CHAT_MODELS)
    talk = [{"role": "user", "content": FRANCE}, {"role": "assistant", "content": "Lyon."}, {"role": "user", "content": "No, it's Paris."}]
    for template in ("/v1/proposals/{proposal_id}", "/v1/proposals/{proposal_id}/confirm"):
        chat = {"model": "echo+palimpsest", "messages": talk}
        made = await call("POST", "/v1/chat/completions", 200, shapes.CHAT_COMPLETION, body=chat)
        proposal = made["memory"]["proposal"]
        assert (await call("GET", "/v1/proposals", 200, page_of(shapes.PROPOSAL)))["items"] == [proposal]
        if template.endswith("confirm"):
            await call("POST", template.format(proposal_id=proposal["id"]), 201, shapes.TAUGHT, template=template, body={})
        else:
            assert (await client.delete(template.format(proposal_id=proposal["id"]))).status_code == 204
            called.add(("DELETE", template))
    response = await client.delete(f"/v1/banks/{bank['id']}")
    assert (response.status_code, response.content) == (204, b"")
    called.add(("DELETE", "/v1/banks/{bank_id}"))
    await in_the_shapes_of_mem0(call)
    for path in ("/health/live", "/health/ready"):
        response = await client.get(path)
        assert response.status_code == 200
        check(response.json(), shapes.HEALTH)
        called.add(("GET", path))
    called.add(("GET", "/metrics"))  # its own test
    paths = document(routes_only())["paths"]
    assert called == {(method.upper(), path) for path, operations in paths.items() for method in operations}


async def in_the_shapes_of_mem0(call):
    """Every route of `/compat/mem0`, in both of its path sets."""
    at = "/compat/mem0"
    await call("GET", f"{at}/v1/ping", 200, shapes.MEM0_PING)
    for add, search, one in (("/memories", "/search", "/memories"), ("/v3/memories/add", "/v3/memories/search", "/v1/memories")):
        added = await call("POST", at + add, 200, shapes.MEM0_ADDED, body={"messages": PIN, "user_id": "ana", "run_id": "ses:3"})
        found = await call("POST", at + search, 200, shapes.MEM0_FOUND, body={"query": PIN, "user_id": "ana"})
        memory_id = added["results"][0]["id"]
        assert found["results"][0]["id"] == memory_id
        path, template = f"{at}{one}/{memory_id}", f"{at}{one}/{{memory_id}}"
        await call("GET", path, 200, shapes.MEM0_MEMORY, template=template)
        await call("PUT", path, 200, shapes.MEM0_MEMORY, template=template, body={"text": "change_pin"})
        await call("GET", f"{path}/history", 200, [shapes.MEM0_PAST], template=f"{template}/history")
        await call("DELETE", path, 200, shapes.MEM0_DONE, template=template)
    await call("GET", f"{at}/memories?user_id=ana", 200, shapes.MEM0_LISTED, template=f"{at}/memories")
    listed = await call("POST", f"{at}/v3/memories", 200, shapes.MEM0_LISTED, body={"filters": {"user_id": "ana"}})
    judged = {"memory_id": listed["results"][0]["id"], "feedback": "NEGATIVE"}
    await call("POST", f"{at}/v1/feedback", 200, shapes.MEM0_DONE, body=judged)


async def test_correction_takes_every_field_and_gives_it_back(tenant):
    given = {"wrong": "card_fee", "session_id": "ses:1@x", "metadata": {"source": "chat", "turn": 3, "nested": {"a": [1, None, True]}}}
    taught = await teach(tenant.client, PIN, "change_pin", paraphrases=["How can I change my PIN?", FRANCE], **given)
    assert taught["receipt"]["paraphrase"]["n"] == 2
    stored = (await tenant.client.get(f"/v1/corrections/{taught['id']}")).json()
    assert {name: stored[name] for name in given} == given
    assert (stored["input"], stored["right"], stored["seq"]) == (PIN, "change_pin", taught["seq"])


async def test_batch_of_1000_is_answered_item_by_item_in_order(tenant):
    items = [{"input": f"{number % 20}", "right": f"answer {number % 7}"} for number in range(1_000)]
    response = await tenant.client.post("/v1/corrections/batch", json={"items": items})
    assert response.status_code == 201, response.text
    said = response.json()
    check(said, shapes.TAUGHT_BATCH)
    assert [item["seq"] for item in said["items"]] == list(range(1, 1_001))
    assert [item["receipt"]["item"]["after"]["value"] for item in said["items"]] == [item["right"] for item in items]
    assert said["state"]["seq"] == 1_000
    events = (await tenant.client.get("/v1/events", params={"limit": 200})).json()["items"]
    assert [(row["input"], row["right"], row["id"]) for row in events] == [
        (item["input"], item["right"], told["id"]) for item, told in zip(items[:200], said["items"][:200], strict=True)
    ]
    inputs = [item["input"] for item in items]
    forth = (await tenant.client.post("/v1/recall/batch", json={"inputs": inputs})).json()["results"]
    back = (await tenant.client.post("/v1/recall/batch", json={"inputs": inputs[::-1]})).json()["results"]
    assert len(forth) == 1_000
    assert [result["answers"][0]["value"] for result in forth] == [result["answers"][0]["value"] for result in back[::-1]]
    assert len({result["answers"][0]["value"] for result in forth}) > 1, "the order shows"


async def test_bank_of_a_batch_may_be_named_once_or_in_every_item(tenant):
    bank = (await tenant.client.post("/v1/banks", json={"name": "batches"})).json()["id"]
    item = {"input": PIN, "right": "change_pin"}
    for body in (
        {"items": [item], "bank": "batches"},
        {"items": [{**item, "bank": bank}, item]},
        {"items": [{**item, "bank": bank}], "bank": bank},
    ):
        response = await tenant.client.post("/v1/corrections/batch", json=body)
        assert response.status_code == 201, response.text
    assert (await tenant.client.get("/v1/memory", params={"bank": bank})).json()["events"] == 4
    assert (await tenant.client.get("/v1/memory")).json()["events"] == 0


async def test_answers_are_best_first_and_at_most_top_k(tenant):
    texts = [PIN, SPAIN, FRANCE, "Please cancel my flight.", "Play some jazz.", "My parcel is late."]
    for number, text in enumerate(texts):
        await teach(tenant.client, text, f"answer {number}")
    for top_k in (1, 3, 100):
        answers = (await ask(tenant.client, FRANCE, top_k=top_k, min_confidence=0))["answers"]
        assert len(answers) == min(top_k, 6)
        assert answers[0]["value"] == "answer 2"
        assert [answer["confidence"] for answer in answers] == sorted((answer["confidence"] for answer in answers), reverse=True)
    assert len((await ask(tenant.client, FRANCE, min_confidence=0))["answers"]) == 1, "top_k is 1"


async def test_abstention_has_no_answers_unless_min_confidence_is_zero(tenant):
    client = tenant.client
    empty = await ask(client, PIN, min_confidence=0)
    assert (empty["answers"], empty["abstained"]) == ([], True), "nothing was ever taught"
    await teach(client, PIN, "change_pin")
    guesses = {text: await ask(client, text, min_confidence=0) for text in STRANGE}
    text, curious = min(guesses.items(), key=lambda pair: pair[1]["answers"][0]["confidence"])
    assert ([answer["value"] for answer in curious["answers"]], curious["abstained"]) == (["change_pin"], True)
    silent = await ask(client, text)
    assert (silent["answers"], silent["abstained"]) == ([], True)
    both = await client.post("/v1/recall/batch", json={"inputs": [PIN, text], "min_confidence": 0.5})
    assert [(bool(item["answers"]), item["abstained"]) for item in both.json()["results"]] == [(True, False), (False, True)]
    guess = curious["answers"][0]["confidence"]
    for threshold, abstained in ((guess, False), (guess + 1e-6, True)):
        asked = await ask(client, text, min_confidence=threshold)
        assert (bool(asked["answers"]), asked["abstained"]) == (not abstained, abstained), "the client's threshold is the one that counts"


async def test_recall_at_a_snapshot_answers_as_it_was_and_head_means_now(tenant):
    await teach(tenant.client, PIN, "change_pin")
    saved = await snapshot(tenant.client)
    await teach(tenant.client, PIN, "ask_the_branch")
    then = await ask(tenant.client, PIN, at=saved["id"])
    assert (then["answers"][0]["value"], then["state"]) == ("change_pin", {"snapshot_id": saved["id"], "seq": 1})
    batch = await tenant.client.post("/v1/recall/batch", json={"inputs": [PIN], "at": saved["id"]})
    assert batch.json()["results"][0]["answers"][0]["value"] == "change_pin"
    for now in ({}, {"at": "head"}, {"at": None}):
        assert (await ask(tenant.client, PIN, **now))["answers"][0]["value"] == "ask_the_branch"


async def test_explain_tells_why_and_is_silent_unless_asked(tenant):
    taught = await teach(tenant.client, PIN, "change_pin")
    assert (await ask(tenant.client, PIN))["answers"][0]["why"] is None
    why = (await ask(tenant.client, PIN, explain=True))["answers"][0]["why"]
    assert why["nearest"][0]["correction"] == taught["id"]


async def test_same_ledger_means_the_same_digest_whatever_the_names(tenant, other):
    lessons = [(PIN, "change_pin"), (SPAIN, "transfer_time"), (PIN, "ask_the_branch")]
    for text, right in lessons:
        await teach(tenant.client, text, right)
    bank = (await tenant.client.post("/v1/banks", json={"name": "twin"})).json()["id"]
    items = [
        {"input": text, "right": right, "session_id": f"ses_{place}", "metadata": {"n": place}, "wrong": "w", "paraphrases": [FRANCE]}
        for place, (text, right) in enumerate(lessons)
    ]
    await tenant.client.post("/v1/corrections/batch", json={"items": items, "bank": bank})
    for text, right in lessons:
        await teach(other.client, text, right)
    twin = (await tenant.client.get("/v1/memory", params={"bank": bank})).json()
    assert await digest(tenant.client) == twin["digest"] == await digest(other.client)
    await teach(other.client, SPAIN, "transfer_time")
    assert await digest(other.client) != twin["digest"]
    backwards = (await tenant.client.post("/v1/banks", json={"name": "backwards"})).json()["id"]
    for text, right in reversed(lessons):
        await teach(tenant.client, text, right, bank=backwards)
    assert (await tenant.client.get("/v1/memory", params={"bank": backwards})).json()["digest"] != twin["digest"]


async def test_memory_counts_what_there_is(tenant):
    fresh = (await tenant.client.get("/v1/memory")).json()
    assert (fresh["events"], fresh["corrections"], fresh["responses"], fresh["forgotten"]) == (0, 0, 0, 0)
    one = await teach(tenant.client, PIN, "change_pin")
    two = await teach(tenant.client, SPAIN, "change_pin")
    job = (await tenant.client.post("/v1/forget", json={"corrections": [one["id"]], "mode": "suppress"})).json()
    assert job["job_id"] is None
    now = (await tenant.client.get("/v1/memory")).json()
    assert (now["events"], now["corrections"], now["responses"], now["forgotten"]) == (2, 2, 1, 1)
    assert now["bytes"] == sum(level["bytes"] for level in now["levels"])
    assert 0 < now["bytes"] - fresh["bytes"] <= 44 * now["responses"], "the memory has a fixed size but for a row with each answer"
    assert now["clock_tokens"] == one["usage"]["tokens_in"] + two["usage"]["tokens_in"] > 0


async def test_events_are_a_hash_chain(tenant):
    for number in range(3):
        await teach(tenant.client, f"{PIN} {number}", "change_pin")
    rows = (await tenant.client.get("/v1/events")).json()["items"]
    assert [row["prev_hash"] for row in rows[1:]] == [row["hash"] for row in rows[:-1]]
    assert len({row["hash"] for row in rows}) == 3


async def test_status_of_a_correction_follows_its_life(tenant):
    client = tenant.client

    async def statuses():
        return [row["status"] for row in (await client.get("/v1/corrections")).json()["items"]]

    old = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    assert await statuses() == ["active"]
    await teach(client, PIN, "ask_the_branch")
    assert await statuses() == ["superseded", "active"]
    await teach(client, PIN, "ask_the_branch")
    assert await statuses() == ["superseded", "active", "active"], "saying it again supersedes nothing"
    undone = (await client.post("/v1/rollback", json={"to": saved["id"]})).json()
    assert await statuses() == ["active", "rolled_back", "rolled_back"]
    await client.post("/v1/rollback", json={"to": undone["pre_rollback"]})
    assert await statuses() == ["superseded", "active", "active"]
    job = (await client.post("/v1/forget", json={"corrections": [old["id"]], "mode": "erase"})).json()
    assert await statuses() == ["forgotten", "active", "active"]
    await finished(client, job["job_id"])
    erased = (await client.get(f"/v1/corrections/{old['id']}")).json()
    assert (erased["status"], erased["input"], erased["right"], erased["metadata"]) == ("forgotten", None, None, {})


async def test_rollback_tells_the_new_head_the_way_back_and_the_flips(tenant):
    client = tenant.client
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    newer = await teach(client, PIN, "ask_the_branch")
    before = kept(tenant)
    preview = (await client.post("/v1/rollback", json={"to": saved["id"], "dry_run": True})).json()
    check(preview, shapes.ROLLED_BACK)
    assert (preview["head"], preview["pre_rollback"], preview["dry_run"], preview["probes"]) == (None, None, True, 2)
    assert kept(tenant) == before
    done = await said(client.post("/v1/rollback", json={"to": saved["id"], "reason": "too new"}), 200, shapes.ROLLED_BACK)
    moved = done.json()
    assert moved["flips"] == preview["flips"]
    assert {flip["correction"] for flip in moved["flips"]} >= {newer["id"]}
    assert moved["state"]["snapshot_id"] == moved["head"]
    assert done.headers["memory-state"] == state_header(moved)
    listed = {row["id"]: row for row in (await client.get("/v1/snapshots")).json()["items"]}
    head, way_back = listed[moved["head"]], listed[moved["pre_rollback"]]
    assert (head["kind"], head["is_head"], head["parent"], head["note"]) == ("rollback", True, way_back["id"], "too new")
    assert (way_back["kind"], way_back["is_head"]) == ("pre_rollback", False)


async def test_if_match_with_the_etag_moves_the_head_once(tenant):
    client = tenant.client
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    bank = await client.get("/v1/banks/default")
    etag = bank.headers["etag"]
    assert etag == bank.json()["etag"] == f'"{bank.json()["head"]}"'
    first = await client.post("/v1/rollback", json={"to": saved["id"]}, headers={"If-Match": etag})
    assert first.status_code == 200
    before = kept(tenant)
    for dry_run in (False, True):
        again = await client.post("/v1/rollback", json={"to": saved["id"], "dry_run": dry_run}, headers={"If-Match": etag})
        refused(again, 412, "head-moved")
    assert kept(tenant) == before
    assert (await client.get("/v1/banks/default")).headers["etag"] == f'"{first.json()["head"]}"'
    assert (await client.post("/v1/rollback", json={"to": saved["id"]}, headers={"If-Match": "*"})).status_code == 200


async def test_memory_state_of_a_write_is_what_reads_of_it_need(tenant, house):
    written = await said(tenant.client.post("/v1/corrections", json={"input": PIN, "right": "change_pin"}), 201, shapes.TAUGHT)
    state = written.headers["memory-state"]
    assert state == state_header(written.json())
    async with client_of(house, await tenant.key("admin")) as reader:
        asked = await reader.post("/v1/recall", json={"input": PIN}, headers={"Memory-Min-State": state})
        assert asked.json()["answers"][0]["support"] == [written.json()["id"]]
        assert asked.headers["memory-state"] == state
        batch = await reader.post("/v1/recall/batch", json={"inputs": [PIN]}, headers={"Memory-Min-State": state})
        memory = await reader.get("/v1/memory", headers={"Memory-Min-State": state})
        assert batch.headers["memory-state"] == memory.headers["memory-state"] == state
    snapshot_id, _, seq = state.partition(":")
    unseen = {"Memory-Min-State": f"{snapshot_id}:{int(seq) + 1}"}
    for response in (
        await tenant.client.post("/v1/recall", json={"input": PIN}, headers=unseen),
        await tenant.client.post("/v1/recall/batch", json={"inputs": [PIN]}, headers=unseen),
        await tenant.client.get("/v1/memory", headers=unseen),
    ):
        refused(response, 409, "state-unavailable")
        assert int(response.headers["retry-after"]) >= 1


async def test_state_of_a_bank_that_was_made_anew_under_its_name_is_told_from_one_that_is_not_reached_yet(tenant):
    client = tenant.client
    made = (await client.post("/v1/banks", json={"name": "again"})).json()
    for number in range(3):
        written = await client.post("/v1/corrections", json={"input": f"{PIN} {number}", "right": "change_pin", "bank": "again"})
    seen = {"Memory-Min-State": written.headers["memory-state"]}
    assert (await client.delete(f"/v1/banks/{made['id']}")).status_code == 204
    await client.post("/v1/banks", json={"name": "again"})
    for response in (
        await client.post("/v1/recall", json={"input": PIN, "bank": "again"}, headers=seen),
        await client.post("/v1/recall/batch", json={"inputs": [PIN], "bank": "again"}, headers=seen),
        await client.get("/v1/memory", params={"bank": "again"}, headers=seen),
    ):
        refused(response, 409, "state-unknown")
        assert "drop it" in response.json()["detail"]


async def test_bank_is_named_by_name_or_id_on_every_route_and_its_name_is_unique(tenant):
    client = tenant.client
    bank = (await client.post("/v1/banks", json={"name": "Ärzte & Kunden 🏦"})).json()
    refused(await client.post("/v1/banks", json={"name": bank["name"]}), 409, "conflict")
    for name in (bank["name"], bank["id"]):
        await teach(client, PIN, "change_pin", bank=name)
        assert (await client.get("/v1/memory", params={"bank": name})).json()["bank"] == bank["id"]
        assert (await client.get(f"/v1/banks/{name}")).json()["id"] == bank["id"]
    assert (await client.delete(f"/v1/banks/{bank['name']}")).status_code == 204
    for name in (bank["name"], bank["id"]):
        refused(await client.get(f"/v1/banks/{name}"), 404, "not-found")
        refused(await client.post("/v1/recall", json={"input": PIN, "bank": name}), 404, "not-found")
        refused(await client.delete(f"/v1/banks/{name}"), 404, "not-found")
    again = (await client.post("/v1/banks", json={"name": bank["name"]})).json()
    assert (again["id"] != bank["id"], again["seq"]) == (True, 0)


async def test_job_of_a_forget_or_a_consolidation_is_told_in_location(tenant):
    client = tenant.client
    taught = [await teach(client, f"{PIN} {number}", "change_pin") for number in range(3)]
    for mode in ("rebuild", "erase"):
        response = await client.post("/v1/forget", json={"corrections": [taught.pop()["id"]], "mode": mode})
        assert response.status_code == 202
        assert response.headers["location"] == f"/v1/jobs/{response.json()['job_id']}"
        job = await finished(client, response.json()["job_id"])
        assert (job["kind"], job["status"], job["progress"], job["error"]) == (mode, "succeeded", 1.0, None)
    response = await client.post("/v1/forget", json={"corrections": [taught[0]["id"]] * 3, "mode": "suppress"})
    assert (response.status_code, response.json()["corrections"], "location" in response.headers) == (202, [taught[0]["id"]], False)
    response = await client.post("/v1/consolidations", json={})
    assert response.headers["location"] == f"/v1/jobs/{response.json()['job_id']}"
    assert (await client.get(response.headers["location"])).status_code == 200


async def test_queued_consolidation_is_found_again_and_can_be_canceled_once(tenant):
    from datetime import UTC, datetime

    from service.store import jobs

    client = tenant.client
    bank = (await client.get("/v1/banks/default")).json()["id"]
    async with tenant.service.database.write(tenant.id) as conn:  # without a bell: it stays queued
        what = {"kind": "consolidation", "bank": bank, "payload": {"by": "test"}, "dedupe": f"consolidation:{bank}"}
        job, _ = await jobs.enqueue(conn, tenant.id, **what, now=datetime.now(UTC))
    for number in range(2):
        canceled = await said(client.post(f"/v1/jobs/{job.id}/cancel"), 200, shapes.JOB)
        assert canceled.json()["status"] == "canceled", number
    assert (await client.get(f"/v1/jobs/{job.id}")).json()["status"] == "canceled"
    started = (await client.post("/v1/consolidations", json={})).json()
    assert started["job_id"] != job.id
    assert started["deduplicated"] is False


async def test_job_that_keeps_a_promise_to_forget_cannot_be_canceled(tenant):
    taught = await teach(tenant.client, PIN, "change_pin")
    job = (await tenant.client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "rebuild"})).json()["job_id"]
    refused(await tenant.client.post(f"/v1/jobs/{job}/cancel"), 409, "conflict")
    assert (await finished(tenant.client, job))["status"] == "succeeded"


async def test_audit_names_who_changed_what_in_which_request_and_no_text(tenant):
    me = (await tenant.client.get("/v1/whoami")).json()["key_id"]
    await teach(tenant.client, PIN, "change_pin")
    saved = await snapshot(tenant.client)
    await tenant.client.post("/v1/rollback", json={"to": saved["id"]}, headers={"X-Request-ID": "the-rollback"})
    entries = (await tenant.client.get("/v1/audit")).json()["items"]
    assert [entry["action"] for entry in entries] == ["rollback", "snapshot", "bank.create"]
    assert (entries[0]["actor"], entries[0]["request_id"]) == (me, "the-rollback")
    assert PIN not in str(entries)
    assert "change_pin" not in str(entries)
