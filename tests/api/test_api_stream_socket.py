"""The change feed over a socket, as people's programs meet it."""

import contextlib
import json

import httpx
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from saying import PIN, teach
from waiting import PATIENCE_S


def test_stream_over_a_socket_tells_at_once_and_ends_when_the_process_does(tmp_path_factory, encoder, monkeypatch):
    monkeypatch.setattr("service.api.stream.QUIET_S", 3_600)  # however long this takes, it does not say that it is still there
    lab = Lab(tmp_path_factory.mktemp("stream") / "var", encoder)
    try:
        with listening(lab) as url, contextlib.closing(httpx.Client(base_url=url, timeout=PATIENCE_S)) as client:
            client.headers["Authorization"] = f"Bearer {ADMIN_KEY}"
            with client.stream("GET", "/v1/stream") as response:
                parts = response.iter_text()
                assert next(parts).startswith(":")
                taught = lab.run(teach(lab.client, PIN, "change_pin"))
                told = ""
                while "\n\n" not in told:
                    told += next(parts)
                data = next(line.removeprefix("data: ") for line in told.split("\n") if line.startswith("data: "))
                assert json.loads(data)["data"]["corrections"] == [taught["id"]]
                lab.service.app.end()
                assert list(parts) == []
    finally:
        lab.close()
