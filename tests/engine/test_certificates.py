"""Forgetting is previewed, confirmed and certified: what is told before is what then happens, and what is told after is so (I3)."""

import contextlib
import json
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach

FRANCE = "What is the capital of France?"


async def forget(client, expect=202, **body):
    response = await client.post("/v1/forget", json=body)
    assert response.status_code == expect, response.text
    return response.json()


async def certificate(client, forgotten):
    if forgotten["job_id"] is not None:
        assert (await finished(client, forgotten["job_id"]))["status"] == "succeeded"
    response = await client.get(f"/v1/forget/{forgotten['id']}")
    assert response.status_code == 200, response.text
    return response.json()


async def answer(client, text):
    said = await ask(client, text)
    return said["answers"][0]["value"] if said["answers"] else None


async def test_dry_run_changes_nothing_and_tells_what_then_happens(client):
    await teach(client, PIN, "change_pin")
    newer = await teach(client, PIN, "ask_the_branch")
    gone = await teach(client, SPAIN, "transfer_time")
    before = await digest(client), [await answer(client, text) for text in (PIN, SPAIN)]
    wanted = {"corrections": [newer["id"], gone["id"]], "mode": "suppress"}
    seen = await forget(client, expect=200, dry_run=True, **wanted)
    assert (seen["id"], seen["job_id"], seen["dry_run"], seen["effective_now"]) == (None, None, True, False)
    assert (await digest(client), [await answer(client, text) for text in (PIN, SPAIN)]) == before
    assert (await client.get("/v1/memory")).json()["forgotten"] == 0
    told = {flip["input"]: flip["after"]["value"] for flip in seen["flips"]}
    assert {PIN, SPAIN} >= told.keys() >= {SPAIN}
    assert {flip["before"]["value"] for flip in seen["flips"] if flip["input"] == SPAIN} == {"transfer_time"}
    assert seen["probes"] == 3
    await forget(client, confirm_token=seen["confirm_token"], **wanted)
    for text, said in ((PIN, before[1][0]), (SPAIN, before[1][1])):
        assert await answer(client, text) == told.get(text, said)


async def test_token_is_for_just_these_corrections_this_mode_and_this_bank(client):
    one, two = await teach(client, PIN, "change_pin"), await teach(client, SPAIN, "transfer_time")
    await client.post("/v1/banks", json={"name": "other"})
    elsewhere = await teach(client, PIN, "change_pin", bank="other")
    token = (await forget(client, expect=200, corrections=[one["id"]], mode="suppress", dry_run=True))["confirm_token"]
    for body in (
        {"corrections": [one["id"], two["id"]], "mode": "suppress"},
        {"corrections": [two["id"]], "mode": "suppress"},
        {"corrections": [one["id"]], "mode": "rebuild"},
        {"corrections": [elsewhere["id"]], "mode": "suppress", "bank": "other"},
    ):
        assert (await forget(client, expect=409, confirm_token=token, **body))["code"] == "conflict"
    for other in ("", token + "0", token.replace(".", "1."), "99999999999.00", "x"):
        assert (await client.post("/v1/forget", json={"corrections": [one["id"]], "mode": "suppress", "confirm_token": other})).is_error
    assert (await client.get("/v1/memory")).json()["forgotten"] == 0
    await forget(client, corrections=[one["id"]], mode="suppress", confirm_token=token)


async def test_session_is_forgotten_and_nothing_else(client):
    await teach(client, PIN, "change_pin", session_id="good")
    bad = [await teach(client, text, "nonsense", session_id="bad") for text in (SPAIN, FRANCE)]
    source = {"session_id": "bad"}
    seen = await forget(client, expect=200, source=source, mode="rebuild", dry_run=True)
    assert seen["corrections"] == [each["id"] for each in bad]
    later = await teach(client, "And where is my card?", "nonsense", session_id="bad")
    said = await forget(client, expect=409, source=source, mode="rebuild", confirm_token=seen["confirm_token"])
    assert said["code"] == "conflict", "the session has taught more since"
    done = await forget(client, source=source, mode="rebuild")
    assert done["corrections"] == [*(each["id"] for each in bad), later["id"]]
    assert (await certificate(client, done))["passed"] is True
    assert await answer(client, PIN) == "change_pin"
    assert await answer(client, SPAIN) != "nonsense"
    assert (await forget(client, expect=404, source={"session_id": "nobody"}, mode="rebuild"))["code"] == "not-found"


async def test_key_is_forgotten_and_nothing_else(client):
    minted = (await client.post("/v1/keys", json={"name": "bot", "scopes": ["corrections:write"]})).json()
    await teach(client, PIN, "change_pin")
    told = {"Authorization": f"Bearer {minted['key']}"}
    bad = await client.post("/v1/corrections", json={"input": SPAIN, "right": "nonsense"}, headers=told)
    done = await forget(client, source={"key_id": minted["id"]}, mode="suppress")
    assert done["corrections"] == [bad.json()["id"]]
    assert await answer(client, PIN) == "change_pin"


@pytest.mark.parametrize(
    "body",
    [
        {"mode": "suppress"},
        {"mode": "suppress", "corrections": ["cor_1"], "source": {"session_id": "s"}},
        {"mode": "suppress", "source": {}},
        {"mode": "suppress", "source": {"session_id": "s", "key_id": "k"}},
    ],
)
async def test_forget_names_corrections_or_one_source(client, body):
    assert (await forget(client, expect=400, **body))["code"] == "validation"


async def test_certificate_of_a_rebuild_has_the_digests_of_before_and_after(client):
    old = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    before = await digest(client)
    told = await certificate(client, await forget(client, corrections=[old["id"]], mode="rebuild"))
    assert (told["complete"], told["passed"], told["corrections"]) == (True, True, [old["id"]])
    assert told["weights"]["digest_before"] == before
    assert told["weights"]["digest_after"] == await digest(client) != before
    heads = [row for row in (await client.get("/v1/snapshots")).json()["items"] if row["is_head"]]
    assert told["weights"]["snapshot"] == heads[0]["id"]
    assert told["membership"] == [{"correction": old["id"], "in_weights": False, "answered": False, "support": [], "passed": True}]
    assert told["removed"]["tombstones"] == 1
    assert told["requested_at"] <= told["completed_at"]
    assert any("texts" in place["place"] for place in told["unreached"])


async def test_answer_that_others_support_stays_and_the_certificate_says_whose_it_is(client):
    gone, kept = await teach(client, PIN, "change_pin"), await teach(client, PIN, "change_pin")
    told = await certificate(client, await forget(client, corrections=[gone["id"]], mode="rebuild"))
    assert told["membership"] == [
        {"correction": gone["id"], "in_weights": False, "answered": True, "support": [kept["id"]], "passed": True}
    ]


async def test_certificate_of_a_suppression_is_there_at_once(client):
    old = await teach(client, PIN, "change_pin")
    told = await certificate(client, await forget(client, corrections=[old["id"]], mode="suppress"))
    assert (told["complete"], told["passed"], told["weights"]) == (True, True, None)
    assert told["membership"][0]["in_weights"] is True
    assert told["membership"][0]["answered"] is False
    assert any("weights" in place["place"] for place in told["unreached"])


async def test_certificate_of_an_erasure_names_all_that_is_gone_and_tells_nothing_of_it(client):
    secret = f"the combination is {secrets.token_hex(16)}"
    old = await client.post("/v1/corrections", json={"input": secret, "right": secret + "!"}, headers={"Idempotency-Key": "one"})
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)
    before = await digest(client)
    told = await certificate(client, await forget(client, corrections=[old.json()["id"]], mode="erase", reason="because of " + secret))
    assert (told["complete"], told["passed"]) == (True, True)
    assert told["weights"]["digest_before"] == before
    assert told["weights"]["digest_after"] == await digest(client)
    removed = told["removed"]
    assert (removed["tombstones"], removed["redacted_events"], removed["responses"], removed["stored_replies"]) == (1, 1, 1, 1)
    assert saved["id"] in removed["snapshots"]
    assert {level["sha256"] for level in saved["levels"]} & set(removed["blobs"])
    assert secret not in json.dumps(told)
    assert [one["correction"] for one in told["membership"]] == [old.json()["id"]]


async def test_certificate_of_nobody_and_of_another_bank_is_not_found(client):
    assert (await client.get("/v1/forget/fgt_nothing")).status_code == 404
    old = await teach(client, PIN, "change_pin")
    done = await forget(client, corrections=[old["id"]], mode="suppress")
    await client.post("/v1/banks", json={"name": "other"})
    pinned = (await client.post("/v1/keys", json={"name": "p", "scopes": ["forget"], "banks": ["other"]})).json()["key"]
    assert (await client.get(f"/v1/forget/{done['id']}", headers={"Authorization": f"Bearer {pinned}"})).status_code == 404


async def test_certificate_outlives_its_bank_for_keys_of_the_whole_tenant(client, service):
    made = (await client.post("/v1/banks", json={"name": "short-lived"})).json()
    taught = [await teach(client, text, "an answer", bank="short-lived") for text in (PIN, SPAIN, FRANCE)]
    erased = await forget(client, corrections=[taught[0]["id"]], mode="erase", bank="short-lived", reason="Mrs Quillfeather asked")
    told = await certificate(client, erased)
    hidden = await forget(client, corrections=[taught[1]["id"]], mode="suppress", bank="short-lived")
    here = await forget(client, corrections=[(await teach(client, PIN, "change_pin"))["id"]], mode="suppress")
    pinned = (await client.post("/v1/keys", json={"name": "p", "scopes": ["forget"], "banks": ["short-lived"]})).json()["key"]
    listed = [row["id"] for row in (await client.get("/v1/forget", params={"bank": "short-lived"})).json()["items"]]
    assert sorted(listed) == sorted([hidden["id"], erased["id"]])
    assert (await client.delete(f"/v1/banks/{made['id']}")).status_code == 204
    after = await certificate(client, erased | {"job_id": None})
    assert after["bank_deleted_at"] is not None
    assert after | {"bank_deleted_at": None} == told, "it says what it said"
    other = await certificate(client, hidden)
    assert (other["complete"], other["membership"], other["passed"]) == (True, [], None), "there is nothing left to ask"
    assert [each["place"] for each in other["unreached"]] == [each["place"] for each in told["unreached"]], "no weights hold it"
    every = {row["id"]: row["bank_deleted_at"] for row in (await client.get("/v1/forget")).json()["items"]}
    assert {name for name, at in every.items() if at is not None} == {erased["id"], hidden["id"]}
    assert every[here["id"]] is None
    async with client_of(service, pinned) as stranger:
        assert (await stranger.get(f"/v1/forget/{erased['id']}")).status_code == 404
    async with service.database.read(service.tenant) as conn:
        reasons = (await conn.exec_driver_sql("SELECT reason FROM forget WHERE bank_deleted_at IS NOT NULL")).scalars().all()
    assert reasons == [None, None], "a reason may quote what was forgotten"


async def test_high_entropy_response_that_was_erased_is_in_no_stored_byte_and_no_log(tmp_path, encoder, capfd):
    """Database file, its log, blobs, whatever is beside them, and everything that was logged; copies in branches, probes and bundles.

    Nor in what the service keeps in memory to answer from.
    """
    secret, question = secrets.token_hex(24), f"What is the code of vault {secrets.token_hex(24)}?"
    async with serving(tmp_path / "var", encoder, log_level="debug", snapshot_every=8) as service, client_of(service) as client:
        for number in range(10):
            await teach(client, f"{SPAIN} {number}", f"answer {number}")
        old = await client.post(
            "/v1/corrections", json={"input": question, "right": secret, "session_id": "s"}, headers={"Idempotency-Key": "k"}
        )
        assert (await client.post("/v1/recall", json={"input": question}, headers={"Idempotency-Key": "q"})).json()["answers"]
        saved = await snapshot(client)
        assert (await client.post("/v1/recall", json={"input": question, "at": saved["id"]})).json()["answers"]
        await client.post("/v1/branches", json={"name": "first"})
        await client.post("/v1/branches", json={"name": "second", "bank": "first"})
        await client.post("/v1/probe-sets", json={"name": "mine", "probes": [{"input": question, "expected": secret}]})
        exported = await client.post(f"/v1/snapshots/{saved['id']}/export", json={"ledger": True})
        bisected = await client.post("/v1/memory/bisect", json={"input": question})
        for job in (exported, bisected):
            assert (await finished(client, job.json()["job_id"]))["status"] == "succeeded"
        genesis = (await client.get("/v1/snapshots")).json()["items"][-1]["id"]
        undone = {"to": genesis, "dry_run": True}
        assert secret in (await client.post("/v1/rollback", json=undone, headers={"Idempotency-Key": "r"})).text
        assert secret in (await client.get(f"/v1/snapshots/{genesis}/diff/head")).text
        await client.get("/v1/memory/levels")
        assert secret in _in_memory(service.engine), "else this shows nothing"
        stored = b"".join(data for _, data in files(tmp_path / "var"))
        assert secret.encode() in stored, "else this shows nothing"
        await forget(client, corrections=[old.json()["id"]], mode="suppress", dry_run=True, expect=200)
        told = await certificate(client, await forget(client, corrections=[old.json()["id"]], mode="erase"))
        assert told["passed"] is True
        for job in (await client.get("/v1/jobs", params={"limit": 200})).json()["items"]:
            assert (await finished(client, job["id"]))["status"] == "succeeded"
        assert not (await client.get("/v1/memory/search", params={"q": question})).json()["items"]
        _without(_in_memory(service.engine).encode(), secret, question, "memory")
        for path, data in files(tmp_path / "var"):
            _without(data, secret, question, path)
        assert secret not in (await client.get("/v1/audit")).text
        assert secret not in (await client.get("/v1/stream", params={"wait_s": 0}, headers={"Last-Event-ID": "0"})).text
    for path, data in files(tmp_path / "var"):
        _without(data, secret, question, path)
    out, err = capfd.readouterr()
    _without((out + err).encode(), secret, question, "log")


def files(folder: Path) -> Iterator[tuple[Path, bytes]]:
    """What is stored; a service that runs beside this deletes files."""
    for path in folder.rglob("*"):
        with contextlib.suppress(FileNotFoundError, IsADirectoryError):
            yield path, path.read_bytes()


def _in_memory(engine) -> str:
    """The texts that an engine keeps beside its weights: of responses and corrections, and what was found by looking."""
    banks = engine.banks.all()
    kept = [(list(bank.texts.values()), list(bank.supports._rows.values())) for bank in banks]
    return repr((kept, list(engine._old._told.values())))


def _without(data: bytes, secret: str, question: str, where) -> None:
    for text in (secret, secret[:16], secret[-16:], question[-30:]):
        for form in (text.encode(), text.encode("utf-16-le"), text.encode().hex().encode()):
            assert form not in data, where
