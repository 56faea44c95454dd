"""Sessions: opened under a chosen or a made name, kept open by use, and gone in the end; none of it touches what was taught."""

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
import shapes
from routes import furnish
from saying import PIN, SPAIN, ask, digest, teach
from shapes import check
from tenancy import client_over, deps_of, kept, refused

from service import wire
from service.errors import Capacity, StorageFull, WriterBusy

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAY = timedelta(days=1)


async def opened(client, **body) -> dict:
    response = await client.post("/v1/sessions", json=body)
    assert response.status_code == 201, response.text
    check(response.json(), shapes.OPENED_SESSION)
    return response.json()


async def names(client, **params) -> list[str]:
    return [row["id"] for row in (await client.get("/v1/sessions", params=params)).json()["items"]]


def moment(told: str) -> datetime:
    return datetime.fromisoformat(told)


class Cold:
    """An engine that refuses to load a bank; the rest is the real one's."""

    def __init__(self, engine, error: Exception) -> None:
        self.engine, self.error = engine, error

    def __getattr__(self, name):
        return getattr(self.engine, name)

    async def warm(self, tenant: str, bank: str) -> wire.Warmth:
        raise self.error


class Clock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.now = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


async def test_session_has_a_name_of_its_own_or_a_chosen_one_and_a_day_to_be_used_in(tenant):
    bank = (await tenant.client.get("/v1/banks/default")).json()
    made = await opened(tenant.client)
    assert made["id"].startswith("ses_")
    assert made["bank"] == bank["id"]
    assert made["created_at"] == made["last_used_at"]
    assert moment(made["expires_at"]) - moment(made["last_used_at"]) == DAY
    assert (await opened(tenant.client, id="chat:7@web"))["id"] == "chat:7@web"
    assert await names(tenant.client) == sorted([made["id"], "chat:7@web"])
    seen = (await tenant.client.get("/v1/sessions/chat:7@web")).json()
    check(seen, shapes.SESSION)


async def test_opening_tells_where_the_bank_stands(tenant):
    taught = await teach(tenant.client, PIN, "change_pin")
    response = await tenant.client.post("/v1/sessions", json={})
    state = response.json()["state"]
    assert state == taught["state"]
    assert response.headers["memory-state"] == f"{state['snapshot_id']}:{state['seq']}"
    asked = await tenant.client.post("/v1/recall", json={"input": PIN}, headers={"Memory-Min-State": response.headers["memory-state"]})
    assert asked.json()["answers"][0]["value"] == "change_pin"


async def test_opening_loads_the_bank(tenant):
    banks = tenant.service.engine.banks
    bank = (await tenant.client.post("/v1/banks", json={"name": "cold"})).json()["id"]
    banks.drop(bank)
    assert (await opened(tenant.client, bank="cold"))["warm"] is False, "it was not in memory"
    assert banks.peek(bank) is not None
    assert (await opened(tenant.client, bank="cold"))["warm"] is True
    name = (await opened(tenant.client, bank="cold"))["id"]
    banks.drop(bank)
    response = await tenant.client.post(f"/v1/sessions/{name}/warm", params={"bank": "cold"})
    assert response.status_code == 200
    assert response.json()["warm"] is False
    assert banks.peek(bank) is not None


@pytest.mark.parametrize(
    ("error", "eta_ms"), [(Capacity(), 1_000), (Capacity(retry_after_s=7), 7_000), (WriterBusy(retry_after_s=2), 2_000)]
)
async def test_session_is_opened_although_nobody_can_load_its_bank(tenant, error, eta_ms):
    deps = deps_of(tenant.service, engine=Cold(tenant.service.engine, error))
    async with client_over(deps, await tenant.key("admin")) as client:
        told = await opened(client, id="patient")
        assert (told["warm"], told["eta_ms"]) == (False, eta_ms)
        response = await client.post("/v1/sessions/patient/warm")
        assert (response.status_code, response.json()) == (200, {"warm": False, "eta_ms": eta_ms})
    assert await names(tenant.client) == ["patient"]


async def test_other_failures_of_loading_are_told(tenant):
    deps = deps_of(tenant.service, engine=Cold(tenant.service.engine, StorageFull()))
    async with client_over(deps, await tenant.key("admin")) as client:
        refused(await client.post("/v1/sessions", json={}), 507, "storage-full")


async def test_opening_again_is_the_same_session(tenant):
    first = await opened(tenant.client, id="same")
    again = await opened(tenant.client, id="same")
    assert again["created_at"] == first["created_at"]
    assert moment(again["last_used_at"]) > moment(first["last_used_at"])
    assert await names(tenant.client) == ["same"]


async def test_retried_opening_without_a_name_makes_one_session(tenant):
    told = [await tenant.client.post("/v1/sessions", json={}, headers={"Idempotency-Key": "once"}) for _ in range(2)]
    assert told[0].json() == told[1].json()
    assert told[1].headers["idempotent-replayed"] == "true"
    assert await names(tenant.client) == [told[0].json()["id"]]


async def test_corrections_keep_their_session_open_and_outlive_it(tenant):
    first = await opened(tenant.client, id="chat")
    await teach(tenant.client, PIN, "change_pin", session_id="chat")
    await teach(tenant.client, SPAIN, "transfer_time", session_id="never-opened")
    assert await names(tenant.client) == ["chat", "never-opened"]
    used = (await tenant.client.get("/v1/sessions/chat")).json()
    assert used["created_at"] == first["created_at"]
    assert moment(used["last_used_at"]) > moment(first["last_used_at"])
    before = await digest(tenant.client)
    assert (await tenant.client.delete("/v1/sessions/chat")).status_code == 204
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/warm")):
        refused(await tenant.client.request(method, f"/v1/sessions/chat{path}"), 404, "not-found")
    events = (await tenant.client.get("/v1/events")).json()["items"]
    assert [row["session_id"] for row in events] == ["chat", "never-opened"]
    assert await digest(tenant.client) == before
    assert (await ask(tenant.client, PIN))["answers"][0]["value"] == "change_pin"


async def test_session_ends_when_it_was_not_used_and_use_puts_its_end_off(tenant):
    clock = Clock()
    settings = msgspec.structs.replace(tenant.service.settings, session_ttl_s=60)
    async with client_over(deps_of(tenant.service, now=clock, settings=settings), await tenant.key("admin")) as client:
        first = await opened(client, id="chat")
        assert moment(first["expires_at"]) == clock.now + timedelta(seconds=60)
        clock.now += timedelta(seconds=59)
        assert (await client.post("/v1/sessions/chat/warm")).status_code == 200
        clock.now += timedelta(seconds=60)
        looked = (await client.get("/v1/sessions/chat")).json()
        assert moment(looked["expires_at"]) == clock.now, "to look is not to use"
        assert await names(client) == ["chat"]
        clock.now += timedelta(microseconds=1)
        assert await names(client) == []
        for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/warm")):
            refused(await client.request(method, f"/v1/sessions/chat{path}"), 404, "not-found")
        anew = await opened(client, id="chat")
        assert moment(anew["created_at"]) == clock.now


async def test_opening_a_session_clears_away_expired_ones_of_its_tenant_only(tenant, other):
    clock = Clock()
    settings = msgspec.structs.replace(tenant.service.settings, session_ttl_s=60)
    deps = deps_of(tenant.service, now=clock, settings=settings)

    def rows() -> list[str]:
        return sorted(str(row) for row in kept(tenant)["rows"]["session"] if tenant.id in str(row) or other.id in str(row))

    async with client_over(deps, await tenant.key("admin")) as client, client_over(deps, await other.key("admin")) as neighbour:
        await client.post("/v1/banks", json={"name": "second"})
        await opened(client, id="mine-1")
        await opened(client, id="mine-2", bank="second")
        await opened(neighbour, id="theirs")
        clock.now += timedelta(seconds=61)
        await opened(client, id="new")
    assert [name for name in ("mine-1", "mine-2", "theirs", "new") if name in str(rows())] == ["theirs", "new"]


async def test_sessions_of_one_name_in_two_banks_or_tenants_are_apart(tenant, other):
    await tenant.client.post("/v1/banks", json={"name": "second"})
    for client, body in ((tenant.client, {}), (tenant.client, {"bank": "second"}), (other.client, {})):
        await opened(client, id="same", **body)
    assert (await tenant.client.delete("/v1/sessions/same")).status_code == 204
    assert await names(tenant.client) == []
    assert await names(tenant.client, bank="second") == await names(other.client) == ["same"]


async def test_session_goes_with_its_bank(tenant):
    await tenant.client.post("/v1/banks", json={"name": "second"})
    await opened(tenant.client, id="chat", bank="second")
    assert (await tenant.client.delete("/v1/banks/second")).status_code == 204
    refused(await tenant.client.get("/v1/sessions/chat", params={"bank": "second"}), 404, "not-found")


async def test_key_that_may_only_ask_opens_and_closes_but_does_not_list(tenant):
    await furnish(tenant)
    reader = await tenant.client_with("recall:read")
    name = (await opened(reader))["id"]
    refused(await reader.get("/v1/sessions"), 403, "forbidden")
    assert (await reader.get(f"/v1/sessions/{name}")).status_code == 200
    assert (await reader.delete(f"/v1/sessions/{name}")).status_code == 204
    writer = await tenant.client_with("corrections:write")
    refused(await writer.post("/v1/sessions", json={}), 403, "forbidden")


@pytest.mark.parametrize("name", ["x" * 129, "%00", "é", "with space", "'; DROP TABLE session; --"])
async def test_name_that_no_session_can_have_is_not_found(taught, name):
    before = kept(taught)
    for method, path in (("GET", ""), ("DELETE", ""), ("POST", "/warm")):
        refused(await taught.client.request(method, f"/v1/sessions/{name}{path}"), 404, "not-found")
    assert kept(taught) == before
