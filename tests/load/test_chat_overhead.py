"""What a conversation through the service costs above its upstream alone, in the same run; a busy machine does not fail."""

import time
from statistics import median

import httpx
import pytest
from completing import KEY, completing
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from saying import PIN
from waiting import PATIENCE_S

from service.settings import Upstream

ROUNDS = 40


def seconds(client: httpx.Client, url: str, model: str, *, stream: bool) -> float:
    body = {"model": model, "messages": [{"role": "user", "content": PIN}], "stream": stream}
    begin = time.perf_counter()
    response = client.post(f"{url}/chat/completions", json=body, headers={"Authorization": f"Bearer {ADMIN_KEY}"})
    taken = time.perf_counter() - begin
    assert response.status_code == 200, response.text
    return taken


@pytest.mark.serial
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_memory_adds_little_to_a_conversation(tmp_path, encoder, stream):
    with completing() as upstream:
        lab = Lab(tmp_path / "var", encoder, upstreams=(Upstream(url=upstream.url, key=KEY, models=("echo",)),))
        try:
            lab.call("POST", "/v1/corrections", {"input": PIN, "right": "in the app"}, expect=201)
            with listening(lab) as url, httpx.Client(timeout=PATIENCE_S) as client:
                alone, through, encoding = [], [], []
                for _ in range(ROUNDS):
                    alone.append(seconds(client, upstream.url, "echo", stream=stream))
                    through.append(seconds(client, f"{url}/v1", "echo+palimpsest", stream=stream))
                    begin = time.perf_counter()
                    encoder.encode([PIN])
                    encoding.append(time.perf_counter() - begin)
        finally:
            lab.close()
    adds, encoder_s = median(through) - median(alone), median(encoding)  # the latter says how slow this machine is
    assert adds < max(0.03, 3 * encoder_s), (median(alone), median(through), encoder_s)
