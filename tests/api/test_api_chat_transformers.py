"""Conversations through an upstream that others wrote: `transformers serve` with a tiny model, asked by the official `openai` package."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest
from fixtures_service import ADMIN_KEY, Lab
from listening import listening
from saying import PIN
from waiting import PATIENCE_S

from service import settings
from service.ids import new_id

pytestmark = pytest.mark.timeout(900)  # it loads PyTorch once more
MODEL = "tiny+palimpsest"
ASK = [{"role": "user", "content": PIN}]
TEMPLATE = "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}assistant:"


def make_model(directory: Path) -> None:
    """A decoder of two layers with random weights, and a tokenizer of bytes."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    made = Tokenizer(models.BPE(vocab={sign: number for number, sign in enumerate(["<end>", *alphabet])}, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, eos_token="<end>", pad_token="<end>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(directory)
    torch.manual_seed(0)
    sizes = {"vocab_size": 257, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, max_position_embeddings=4_096, eos_token_id=0, pad_token_id=0)).save_pretrained(directory)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory) -> Iterator[str]:
    """Where `transformers serve` listens."""
    directory = tmp_path_factory.mktemp("upstream")
    make_model(directory / "tiny")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", "tiny", "--device", "cpu"]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    with (directory / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], cwd=directory, env=environ, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        until = time.monotonic() + 3 * PATIENCE_S
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=10).raise_for_status()
                break
            except httpx.HTTPError:
                assert server.poll() is None, (directory / "log").read_text()
                assert time.monotonic() < until, (directory / "log").read_text()
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def lab(tmp_path_factory, encoder, upstream) -> Iterator[Lab]:
    named = settings.Upstream(url=upstream, models=("tiny",))
    made = Lab(tmp_path_factory.mktemp("lab") / "var", encoder, upstreams=(named,))
    yield made
    made.close()


@pytest.fixture(scope="module")
def url(lab) -> Iterator[str]:
    with listening(lab) as base:
        yield base


@pytest.fixture(scope="module")
def client(url) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0, timeout=PATIENCE_S) as made:
        yield made


@pytest.fixture
def bank(lab) -> str:
    """A bank that has been corrected."""
    name = lab.call("POST", "/v1/banks", {"name": new_id("name")}, expect=201)["name"]
    lab.call("POST", "/v1/corrections", {"input": PIN, "right": "in the app", "bank": name}, expect=201)
    return name


def ask(client, bank, **more):
    return client.chat.completions.create(model=MODEL, messages=ASK, max_tokens=12, extra_body={"memory": {"bank": bank}}, **more)


def test_answer_of_the_model_comes_back_and_it_has_read_what_is_remembered(client, bank):
    told, untold = ask(client, bank), ask(client, "default")
    assert told.choices[0].message.role == "assistant"
    assert told.choices[0].finish_reason in ("stop", "length")
    assert (len(told.memory["used"]), untold.memory["used"]) == (1, [])
    assert told.usage.prompt_tokens > untold.usage.prompt_tokens + 100, "its bytes are tokens: the note is among them"


def test_stream_is_made_of_the_models_words_and_ends(client, url, bank):
    chunks = list(ask(client, bank, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert len(chunks[0].memory["used"]) == 1
    assert chunks[-1].choices[0].finish_reason in ("stop", "length")
    body = {"model": MODEL, "messages": ASK, "max_tokens": 3, "stream": True}
    raw = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=PATIENCE_S).text
    assert raw.endswith("data: [DONE]\n\n"), "which this upstream leaves out"


def test_stream_of_the_asynchronous_client(url, bank):
    import asyncio

    async def talk() -> int:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=ADMIN_KEY, max_retries=0) as client:
            stream = await ask(client, bank, stream=True)
            return len([chunk async for chunk in stream])

    assert asyncio.run(talk()) > 1


def test_what_the_upstream_does_not_take_is_told_in_its_words(client, bank):
    with pytest.raises(openai.BadRequestError) as raised:
        client.chat.completions.create(model=MODEL, messages=ASK, extra_body={"memory": {"bank": bank}, "mood": "good"})
    assert raised.value.code == "upstream-refused"
    assert "mood" in raised.value.message.rpartition("refused it: ")[2]


def test_conversation_goes_on_after_a_client_left_in_the_middle(client, bank):
    with ask(client, bank, stream=True) as left:
        next(left)
    assert ask(client, bank).choices
