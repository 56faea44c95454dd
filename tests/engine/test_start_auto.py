"""`auto`: a process asks the database which encoder its banks were taught with, takes that one, and says which and why."""

import asyncio

import pytest
from fixtures_service import ADMIN_KEY, client_of
from sqlalchemy import Engine, event
from waiting import until

from model import RecallConfig
from model.encoder import PINNED
from model.start.shipped import FORMER, SHIPPED_SHA256, name_of
from model.start.weights import digest_with
from service.embedded import load_encoder, run_embedded, utc_now
from service.ids import new_id
from service.processes.encoders import for_new_banks, settled
from service.processes.parts import encoder_digest
from service.settings import Settings, SettingsRefused
from service.store import banks, tenants

AUTO = Settings(encoder_start="auto")
STARTED = digest_with(PINNED, SHIPPED_SHA256)
OTHER = "f" * 64
FORMERLY = {name_of(sha256): digest_with(PINNED, sha256) for sha256 in FORMER}


async def hold(database, *digests: str) -> None:
    """A tenant of its own for each bank."""
    for digest in digests:
        tenant = await tenants.ensure_tenant(database, new_id("ten"), utc_now())
        async with database.write(tenant) as conn:
            await banks.create_bank(conn, tenant, "main", id=new_id("bnk"), config_hash="c", encoder_digest=digest, now=utc_now())


CHOSEN = {"none yet": ((), "shipped"), "plain": ((PINNED, PINNED), "none"), "start": ((STARTED, STARTED), "shipped")}
CHOSEN |= {name: ((digest, digest), name) for name, digest in FORMERLY.items()}


@pytest.mark.parametrize("case", CHOSEN)
async def test_the_start_is_that_of_the_banks_of_all_tenants_and_of_a_database_without_banks_the_newest_one(database, case):
    taught, chosen = CHOSEN[case]
    await hold(database, *taught)
    found = await settled(AUTO, database)
    assert found.encoder_start == chosen
    assert encoder_digest(found) == {"shipped": STARTED, "none": PINNED, **FORMERLY}[chosen]
    assert await settled(found, database) is found  # what is decided is not asked again


MIXED = {"of both": (PINNED, STARTED, STARTED), "of another": (OTHER,), "of two starts": (STARTED, *FORMERLY.values())}


@pytest.mark.parametrize("taught", MIXED.values(), ids=MIXED)
async def test_banks_that_no_one_encoder_serves_stop_the_process_with_what_to_set(database, taught):
    await hold(database, *taught)
    with pytest.raises(SettingsRefused, match="PALIMPSEST_ENCODER_START=auto takes the encoder that all banks") as refused:
        await settled(AUTO, database)
    for digest in taught:
        assert f"{taught.count(digest)} of {digest[:12]} (" in str(refused.value)
    ways = {digest: f"PALIMPSEST_ENCODER_START={name}" for name, digest in {"none": PINNED, "shipped": STARTED, **FORMERLY}.items()}
    assert {ways[digest] for digest in taught if digest in ways} <= set(str(refused.value).replace("(", " ").split())


async def test_an_encoder_of_ones_own_has_no_shipped_start(database):
    own = Settings(encoder_start="auto", encoder_sha256=OTHER.upper())
    assert (await settled(own, database)).encoder_start == "none"
    await hold(database, OTHER)
    assert encoder_digest(await settled(own, database)) == OTHER


async def test_of_an_encoder_of_ones_own_among_others_it_is_said_that_no_start_is_how_these_settings_have_it(database):
    await hold(database, OTHER, PINNED, STARTED)
    with pytest.raises(SettingsRefused) as refused:
        await settled(Settings(encoder_start="auto", encoder_sha256=OTHER), database)
    assert f"1 of {OTHER[:12]} (PALIMPSEST_ENCODER_START=none is that encoder)" in str(refused.value)
    for name, digest in (("none", PINNED), ("shipped", STARTED)):  # with these settings none of them would be the package's
        assert f"1 of {digest[:12]} (PALIMPSEST_ENCODER_START={name}, with the encoder of the package, is that encoder)" in str(
            refused.value
        )


@pytest.mark.parametrize("start", ["none", "auto"])
async def test_each_tenant_is_asked_once_at_the_start(tmp_path, start):
    settings = Settings(var_dir=tmp_path / "var", bootstrap_key=ADMIN_KEY, log_level="error", encoder_start=start)
    config = RecallConfig.tiny(encoder_digest=encoder_digest(for_new_banks(settings)))
    async with run_embedded(settings, config=config):
        pass  # the first start makes tenant and bank
    asked: list[str] = []

    def note(connection, cursor, statement, *rest):
        if "encoder_digest, count" in statement:
            asked.append(statement)

    event.listen(Engine, "before_cursor_execute", note)
    try:
        async with run_embedded(settings, config=config):

            async def told() -> bool:
                return bool(asked)

            await until(told, "the tenant is asked")  # with `none` it is asked beside the start, which does not wait
            await asyncio.sleep(0.2)
    finally:
        event.remove(Engine, "before_cursor_execute", note)
    assert len(asked) == 1


TAUGHT = {"none": PINNED, "auto": STARTED, **FORMERLY}


@pytest.mark.parametrize(("first", "digest"), TAUGHT.items(), ids=TAUGHT)
async def test_a_service_that_is_started_again_with_auto_goes_on_with_its_banks_and_says_why(tmp_path, capsys, first, digest):
    said = ""
    for start in (first, "auto"):
        settings = Settings(var_dir=tmp_path / "var", bootstrap_key=ADMIN_KEY, log_level="info", encoder_start=start)
        async with (
            run_embedded(settings, config=RecallConfig.tiny(encoder_digest=digest)) as service,
            client_of(service) as client,
        ):
            assert (await client.get("/v1/memory")).json()["encoder_digest"] == digest
            if start == first:
                assert (await client.post("/v1/corrections", json={"input": "Where is my PIN?", "right": "In the app"})).status_code == 201
            assert (await client.post("/v1/recall", json={"input": "Where is my PIN?"})).json()["answers"][0]["value"] == "In the app"
        told = capsys.readouterr()
        said = told.out + told.err
    assert "encoder chosen" in said
    assert "all banks were taught with it" in said


def test_where_there_is_no_database_auto_is_refused_and_says_what_to_set():
    with pytest.raises(SettingsRefused, match="set none or shipped"):
        load_encoder(AUTO)
    with pytest.raises(SettingsRefused, match="leave it out"):
        encoder_digest(Settings(encoder_start="auto", encoder_start_sha256=OTHER))
