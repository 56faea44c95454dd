"""Bundles: a snapshot leaves as a signed file and comes back as what it was; one that is wrong is refused and changes nothing."""

import io
import json
import pickle
import tarfile

import pytest
from fixtures_service import client_of, finished, serving
from saying import PIN, SPAIN, ask, digest, snapshot, teach
from waiting import until

from service import keys
from service.bundling import BUNDLE_MAX, END, MANIFEST, PROBES, SIGNATURE, member_of, opened, packed, signature

TAR = {"content-type": "application/x-tar"}


async def exported(client, name, **body):
    response = await client.post(f"/v1/snapshots/{name}/export", json=body)
    assert response.status_code == 202, response.text
    job = await finished(client, response.json()["job_id"])
    assert job["status"] == "succeeded", job
    sent = await client.get(f"/v1/exports/{job['result']['export']}")
    assert (sent.status_code, sent.headers["content-type"]) == (200, "application/x-tar"), sent.text
    assert int(sent.headers["content-length"]) == len(sent.content)
    return job["result"]["export"], sent.content


async def bring(client, data, expect=201, **params):
    response = await client.post("/v1/imports", content=data, headers=TAR, params=params)
    assert response.status_code == expect, response.text
    return response.json()


def files(data):
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as archive:
        return {member.name: archive.extractfile(member).read() for member in archive.getmembers()}


async def kept(service):
    """All that an import could change."""
    async with service.database.read(service.tenant) as conn:
        counts = [
            (await conn.exec_driver_sql(f"SELECT count(*) FROM {table}")).scalar()
            for table in ("snapshot", "head", "blob", "bundle", "bundle_part", "event")
        ]
    return counts, sorted(await service.engine.versions.blobs.list(service.tenant))


async def test_bundle_is_a_tar_of_weights_manifest_and_answers_and_comes_back_as_the_same_state(client):
    taught = await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    saved = await snapshot(client)
    _, data = await exported(client, saved["id"])
    inside = files(data)
    assert list(inside) == [SIGNATURE, MANIFEST, *(f"levels/{level}.safetensors" for level in ("fast", "middle", "slow")), PROBES]
    manifest = json.loads(inside[MANIFEST])
    assert (manifest["snapshot"], manifest["digest"], manifest["spans"]) == (saved["id"], saved["digest"], [[0, 2]])
    answers = [json.loads(line) for line in inside[PROBES].splitlines()]
    assert [(row["input"], row["value"]) for row in answers] == [(SPAIN, "transfer_time"), (PIN, "change_pin")]
    assert answers[1]["correction"] == taught["id"]
    await teach(client, PIN, "ask_the_branch")
    lived = await digest(client)
    assert (await client.delete(f"/v1/snapshots/{saved['id']}")).status_code == 204
    told = await bring(client, data)
    row = told["snapshot"]
    assert (row["kind"], row["digest"], row["seq"], row["is_head"], row["tainted_by"]) == ("import", saved["digest"], 2, False, [])
    assert (told["probes"], told["agreeing"]) == (2, 2)
    assert (await digest(client), (await ask(client, PIN))["answers"][0]["value"]) == (lived, "ask_the_branch"), "the head stays"
    assert (await ask(client, PIN, at=row["id"]))["answers"][0]["value"] == "change_pin"
    assert (await client.post(f"/v1/snapshots/{row['id']}/verify")).json()["ok"] is True
    assert (await client.post("/v1/rollback", json={"to": row["id"]})).status_code == 200
    assert await digest(client) == saved["digest"]


async def test_ledger_goes_along_where_it_is_asked_for_without_what_was_forgotten(client):
    gone = await teach(client, PIN, "a secret answer")
    await teach(client, SPAIN, "transfer_time", session_id="ses:1", metadata={"n": 1})
    await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})
    job = (await client.post("/v1/consolidations", json={})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    saved = await snapshot(client)
    _, data = await exported(client, saved["id"], ledger=True)
    assert b"a secret answer" not in data
    rows = [json.loads(line) for line in files(data)["ledger.jsonl"].splitlines()]
    assert [row["seq"] for row in rows] == [1, 2]
    assert "input" not in rows[0]
    assert rows[0]["hash"] == rows[1]["prev_hash"]
    assert (rows[1]["input"], rows[1]["right"], rows[1]["session_id"], rows[1]["metadata"]) == (SPAIN, "transfer_time", "ses:1", {"n": 1})
    assert (await bring(client, data))["agreeing"] == 1


async def test_snapshot_that_holds_something_forgotten_does_not_leave(client):
    gone = await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    export, data = await exported(client, saved["id"])
    await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "suppress"})
    job = await finished(client, (await client.post(f"/v1/snapshots/{saved['id']}/export", json={})).json()["job_id"])
    assert (job["status"], job["error"]["code"]) == ("failed", "tainted-snapshot")
    refused = await client.get(f"/v1/exports/{export}")
    assert (refused.status_code, refused.json()["code"]) == (409, "tainted-snapshot"), "made before it was forgotten"
    job = (await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "rebuild"})).json()["job_id"]
    assert (await finished(client, job))["status"] == "succeeded"
    assert (await bring(client, data, 409))["code"] == "tainted-snapshot", "it does not come back from outside either"


async def test_erasure_destroys_the_exports_that_hold_what_it_erases_and_no_others(client, service):
    gone = await teach(client, PIN, "the answer with high entropy 8f1c77")
    before = await snapshot(client)
    held, _ = await exported(client, before["id"], ledger=True)
    genesis = (await client.get("/v1/snapshots")).json()["items"][-1]["id"]
    other, _ = await exported(client, genesis)
    job = await finished(client, (await client.post("/v1/forget", json={"corrections": [gone["id"]], "mode": "erase"})).json()["job_id"])
    assert (job["status"], job["result"]["destroyed_exports"]) == ("succeeded", [held])
    assert (await client.get(f"/v1/exports/{held}")).status_code == 404
    assert (await client.get(f"/v1/exports/{other}")).status_code == 200
    for path in service.settings.var_dir.rglob("*"):
        assert not path.is_file() or b"8f1c77" not in path.read_bytes(), path


async def test_export_is_gone_after_a_day(client, service):
    await teach(client, PIN, "change_pin")
    export, _ = await exported(client, (await snapshot(client))["id"])
    async with service.database.write(service.tenant) as conn:
        await conn.exec_driver_sql("UPDATE bundle SET created_at = '2001-01-01 00:00:00.000000'")
    assert (await client.get(f"/v1/exports/{export}")).status_code == 404

    async def taken() -> bool:
        async with service.database.read(service.tenant) as conn:
            return (await conn.exec_driver_sql("SELECT count(*) FROM bundle_part")).scalar() == 0

    await until(taken, "the sweeper has taken its bytes")


def forged(service, data, change):
    """A bundle that was changed and signed again, as only one with the service's pepper could."""
    inside = files(data)
    del inside[SIGNATURE]
    manifest = json.loads(inside.pop(MANIFEST))
    change(manifest, inside)
    manifest["members"] = {name: {"sha256": member_of(each).sha256, "bytes": len(each)} for name, each in inside.items()}
    raw = json.dumps(manifest).encode()
    pepper = keys.load_pepper(service.settings)
    return packed({SIGNATURE: signature(pepper, raw), MANIFEST: raw, **inside}) + END


def with_pickle(manifest, inside):
    inside["levels/fast.safetensors"] = pickle.dumps({"keys": [1.0]})


def with_file(manifest, inside):
    inside["weights.pkl"] = pickle.dumps({})


def with_other_weights(manifest, inside):
    changed = bytearray(inside["levels/fast.safetensors"])
    changed[-9] ^= 1
    inside["levels/fast.safetensors"] = bytes(changed)


FORGED = {
    "pickle for weights": (with_pickle, "cannot be read"),
    "pickle as one more file": (with_file, "weights.pkl"),
    "other weights": (with_other_weights, "weights"),
    "no level": (lambda manifest, inside: inside.pop("levels/middle.safetensors"), "levels"),
    "no answers": (lambda manifest, inside: inside.pop(PROBES), "probes.jsonl"),
    "answers that are none": (lambda manifest, inside: inside.update({PROBES: b"[1]\n"}), "probes.jsonl"),
    "another encoder": (lambda manifest, inside: manifest.update(encoder_digest="f" * 64), "encoder"),
    "another configuration": (lambda manifest, inside: manifest.update(config_hash="f" * 64), "configuration"),
    "another bank": (lambda manifest, inside: manifest.update(bank="bank_01ARZ3NDEKTSV4RRFFQ69G5FAV"), "bank_01ARZ"),
    "another ledger": (lambda manifest, inside: manifest.update(chain="f" * 64), "ledger"),
    "a longer ledger": (lambda manifest, inside: manifest.update(seq=99), "ledger"),
    "events out of order": (lambda manifest, inside: manifest.update(spans=[[1, 2], [0, 1]]), "order"),
    "events after its position": (lambda manifest, inside: manifest.update(spans=[[0, 99]]), "order"),
    "another format": (lambda manifest, inside: manifest.update(format="palimpsest-bundle-9"), "version"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_bundle_that_is_signed_and_wrong_is_refused_with_its_reason_and_nothing_changes(client, service, name):
    change, why = FORGED[name]
    await teach(client, PIN, "change_pin")
    await teach(client, SPAIN, "transfer_time")
    _, data = await exported(client, (await snapshot(client))["id"])
    before = await kept(service)
    refused = await bring(client, forged(service, data, change), 422)
    assert (refused["code"], why in refused["detail"]) == ("bundle-refused", True), refused["detail"]
    assert await kept(service) == before
    assert opened(forged(service, data, lambda manifest, inside: None), keys.load_pepper(service.settings)).manifest.seq == 2


async def test_changed_cut_off_foreign_and_oversized_bundles_are_refused_and_nothing_changes(client, service, tmp_path, encoder):
    await teach(client, PIN, "change_pin")
    _, data = await exported(client, (await snapshot(client))["id"])
    before = await kept(service)
    for place in (0, 600, 1_200, 1_800, len(data) // 2, len(data) - 1_500, len(data) - 1):
        changed = bytearray(data)
        changed[place] ^= 1
        assert (await bring(client, bytes(changed), 422))["code"] == "bundle-refused", place
    for odd in (data[:-1], data[:-1_024], data[: len(data) // 2], data[:512], b"", b"{}", data + b"\0", data + data, b"\0" * 1_024):
        assert (await bring(client, odd, 422))["code"] == "bundle-refused", len(odd)
    assert (await bring(client, bytes(BUNDLE_MAX + 1), 413))["code"] == "too-large"
    unsigned = files(data) | {SIGNATURE: b"0" * 64}
    assert "signature" in (await bring(client, packed(unsigned) + END, 422))["detail"]
    async with serving(tmp_path / "other", encoder) as other, client_of(other) as stranger:
        refused = await bring(stranger, data, 422)
        assert "signature" in refused["detail"], "each service has a pepper of its own"
        assert "Traceback" not in refused["detail"]
    assert await kept(service) == before


async def test_what_a_key_may_not_see_it_may_not_carry(client, service):
    await teach(client, PIN, "change_pin")
    saved = await snapshot(client)
    export, data = await exported(client, saved["id"])
    other = (await client.post("/v1/banks", json={"name": "other"})).json()["id"]
    assert "bank" in (await bring(client, data, 422, bank=other))["detail"]
    pinned = (await client.post("/v1/keys", json={"name": "p", "scopes": ["admin"], "banks": [other]})).json()["key"]
    async with client_of(service, pinned) as stranger:
        assert (await stranger.get(f"/v1/exports/{export}")).status_code == 404
        assert (await stranger.post(f"/v1/snapshots/{saved['id']}/export", json={})).status_code == 404
    reader = (await client.post("/v1/keys", json={"name": "r", "scopes": ["memory:inspect", "snapshots:read"]})).json()["key"]
    async with client_of(service, reader) as weak:
        assert (await weak.get(f"/v1/exports/{export}")).status_code == 403
