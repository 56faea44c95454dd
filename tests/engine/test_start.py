"""A bank belongs to the encoder and the start that it was taught with, and says so; the settings name either."""

import hashlib

import httpx
import pytest
from fixtures_service import client_of, finished, serving
from waiting import until

from model.encoder import PINNED
from model.start.shipped import SHIPPED, SHIPPED_SHA256, STARTS
from model.start.weights import digest_with
from service.embedded import load_encoder
from service.processes.parts import encoder_digest
from service.settings import Settings, SettingsRefused

PIN, RIGHT = "Where do I change my PIN?", "In the app"
ASKED_FOR = Settings(encoder_start="shipped")


@pytest.fixture(scope="module")
def plain(encoder):
    return encoder


@pytest.fixture(scope="module")
def started():
    return load_encoder(ASKED_FOR)


async def ask(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/v1/recall", json={"input": PIN})


def test_a_start_is_what_the_settings_name_and_every_process_names_one_digest(started, plain, tmp_path):
    assert started.digest == encoder_digest(ASKED_FOR) == digest_with(PINNED, SHIPPED_SHA256)
    assert plain.digest == encoder_digest(Settings()) == PINNED
    own = tmp_path / "own.safetensors"
    own.write_bytes(SHIPPED.read_bytes())
    named = Settings(encoder_start=str(own), encoder_start_sha256=hashlib.sha256(own.read_bytes()).hexdigest().upper())
    assert load_encoder(named).digest == encoder_digest(named) == started.digest
    with pytest.raises(SettingsRefused, match="PALIMPSEST_ENCODER_START_SHA256") as refused:
        load_encoder(Settings(encoder_start="shipped-00000000"))
    assert ", ".join(("none", "auto", *STARTS)) in str(refused.value)
    with pytest.raises(SettingsRefused, match="PALIMPSEST_ENCODER_START_SHA256"):
        load_encoder(Settings(encoder_start=str(own)))


async def until_told(capsys, words):
    """It is looked for beside the start, which does not wait."""
    told = ""

    async def heard() -> bool:
        nonlocal told
        said = capsys.readouterr()
        told += said.out + said.err
        return words in told

    await until(heard, f"somebody tells of {words}")


async def test_a_bank_of_the_plain_encoder_is_refused_by_a_service_with_the_start_which_says_what_to_do(tmp_path, started, plain, capsys):
    async with serving(tmp_path / "var", plain) as service, client_of(service) as client:
        assert (await client.post("/v1/corrections", json={"input": PIN, "right": RIGHT})).status_code == 201
        assert (await client.get("/v1/memory")).json()["encoder_digest"] == PINNED
    capsys.readouterr()
    async with serving(tmp_path / "var", started) as service, client_of(service) as client:
        await until_told(capsys, "banks of another encoder")
        refused = await ask(client)
        assert (refused.status_code, refused.json()["code"]) == (409, "other-encoder")
        assert "PALIMPSEST_ENCODER_START=none" in refused.json()["detail"]
        made = (await client.post("/v1/banks", json={"name": "new"})).json()
        assert made["encoder_digest"] == started.digest
    async with serving(tmp_path / "var", plain) as service, client_of(service) as client:
        assert (await ask(client)).json()["answers"][0]["value"] == RIGHT


async def test_what_is_forgotten_of_a_refused_bank_stays_hidden_and_its_job_ends_and_says_why(tmp_path, started, plain):
    async with serving(tmp_path / "var", plain) as service, client_of(service) as client:
        taught = (await client.post("/v1/corrections", json={"input": PIN, "right": RIGHT})).json()
    async with serving(tmp_path / "var", started) as service, client_of(service) as client:
        asked = await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})
        assert asked.status_code == 202
        job = await finished(client, asked.json()["job_id"])
        assert (job["status"], job["error"]["code"]) == ("failed", "other-encoder")
    async with serving(tmp_path / "var", plain) as service, client_of(service) as client:
        assert (await ask(client)).json()["answers"] == []
        again = await client.post("/v1/forget", json={"corrections": [taught["id"]], "mode": "erase"})
        assert (await finished(client, again.json()["job_id"]))["status"] == "succeeded"


async def test_the_corrections_of_a_plain_bank_are_taught_again_as_the_runbook_says(tmp_path, started, plain):
    async with serving(tmp_path / "old", plain) as service, client_of(service) as client:
        await client.post("/v1/corrections", json={"input": PIN, "right": "by phone"})
        await client.post("/v1/corrections", json={"input": PIN, "right": RIGHT})
        listed = (await client.get("/v1/corrections")).json()["items"]
    kept = [{"input": item["input"], "right": item["right"]} for item in listed if item["status"] in ("active", "superseded")]
    async with serving(tmp_path / "new", started) as service, client_of(service) as client:
        assert (await client.post("/v1/corrections/batch", json={"items": kept})).status_code == 201
        assert (await ask(client)).json()["answers"][0]["value"] == RIGHT
        assert (await client.get("/v1/memory")).json()["encoder_digest"] == started.digest
