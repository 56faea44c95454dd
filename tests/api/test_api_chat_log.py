"""Whatever goes wrong with an upstream, its key is in no log and no answer."""

import logging

import msgspec
import pytest
from completing import ERRORS, KEY, MODELS, STREAMS, completing
from fixtures_service import serving_app
from saying import PIN
from tenancy import deps_of

from service.api.app import build_app
from service.settings import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def test_key_of_an_upstream_is_in_no_log_and_no_answer(resident, house, capsys, caplog):
    caplog.set_level(logging.DEBUG)
    with completing() as upstream:
        named = Upstream(url=upstream.url, key=KEY, models=MODELS)
        settings = msgspec.structs.replace(house.settings, upstreams=(named,), upstream_silence_s=2.0)
        app, said = build_app(deps_of(house, settings=settings)), []
        async with serving_app(app, await resident.key("admin")) as client:
            for model in ("echo", "silent", *ERRORS, *STREAMS):
                for stream in (False, True):
                    body = {"model": f"{model}+palimpsest", "messages": [{"role": "user", "content": PIN}], "stream": stream}
                    response = await client.post("/v1/chat/completions", json=body)
                    said.append(response.text + str(response.headers))
            said.append((await client.get("/v1/models")).text)
            said.append((await client.get("/metrics")).text)
        await app.close()
        assert len(upstream.asked) == len(said) - 2
        assert {headers["authorization"] for headers in upstream.headers} == {f"Bearer {KEY}"}
    captured = capsys.readouterr()
    for told in (*said, captured.out, captured.err, caplog.text):
        assert KEY not in told
    assert PIN not in captured.out + captured.err
