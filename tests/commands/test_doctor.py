"""The doctor says what holds and what does not, and its exit code can be relied on."""

import io
import json

import httpx
import pytest
from fixtures_service import ADMIN_KEY, client_of

from service.doctor import examine

STEPS = ["learn", "recall", "reword", "supersede", "consolidate", "roll back", "forget"]


async def banks(client):
    return [bank["name"] for bank in (await client.get("/v1/banks")).json()["items"]]


async def test_healthy_service_passes_every_step_with_its_time_and_keeps_no_scratch_bank(client):
    out = io.StringIO()
    assert await examine(client, out) is True
    lines = out.getvalue().splitlines()
    assert [line.split(maxsplit=1)[1].rsplit(maxsplit=2)[0].strip() for line in lines[:-1]] == STEPS
    assert all(line.startswith("ok ") and line.endswith(" ms") for line in lines[:-1])
    assert lines[-1].startswith("healthy, ")
    assert await banks(client) == ["default"]


class Forgetful(httpx.ASGITransport):
    """A network that replaces what a recall answers, as a service with a broken memory would."""

    async def handle_async_request(self, request):
        response = await super().handle_async_request(request)
        if request.url.path != "/v1/recall":
            return response
        said = json.loads(await response.aread()) | {"answers": []}
        return httpx.Response(200, json=said, request=request)


async def test_service_that_does_not_recall_fails_by_name_and_the_scratch_bank_is_deleted(service, client):
    out = io.StringIO()
    transport, headers = Forgetful(service.app), {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://palimpsest", headers=headers, timeout=30) as broken:
        assert await examine(broken, out) is False
    failed = [line for line in out.getvalue().splitlines() if line.startswith("FAILED")]
    assert "recall" in failed[0]
    assert "is answered with None" in failed[0]
    assert "steps failed" in out.getvalue().splitlines()[-1]
    assert await banks(client) == ["default"]


@pytest.mark.parametrize("scopes", [["recall:read"], ["admin"]])
async def test_key_decides_whether_the_service_can_be_examined_at_all(service, client, scopes):
    minted = (await client.post("/v1/keys", json={"name": "other", "scopes": scopes})).json()["key"]
    out = io.StringIO()
    async with client_of(service, minted) as other:
        assert await examine(other, out) is (scopes == ["admin"])
    assert ("cannot examine" in out.getvalue()) is (scopes != ["admin"])
