"""Which folders can be the language model: a HOPE model, a decoder that is converted; and what the others are told."""

import json
import shutil

import pytest
from small_language import hope_in, llama_in

from model.language import LanguageRefused, exchange, opened
from model.language.opening import SMALL
from model.language.sleep import PASSES, begun, dreamt, ended


@pytest.mark.parametrize("make", [hope_in, llama_in])
def test_folder_of_a_model_learns_what_is_said(tmp_path, make):
    speaker = opened(make(tmp_path / "lm"))
    text = exchange("What is the gate code?", "The gate code is nine, as it always was and as it will be.")
    state, nats = speaker.initial(), []
    for _ in range(12):
        learned = speaker.learned(state, text)
        state, nats = learned.state, [*nats, learned.surprise]
    assert nats[-1] < nats[0]
    assert speaker.load(speaker.save(state, "")).position.tolist() == state.position.tolist()


def test_model_that_is_shipped_is_small_and_trained():
    speaker = opened()
    assert (
        speaker.learned(speaker.initial(), "It was the best of times, it was the worst of times, and she had nothing to say.").surprise
        < 4.5
    )
    assert sum(file.stat().st_size for file in SMALL.iterdir()) < 8 * 2**20
    assert speaker.state_bytes < 16 * 2**20


@pytest.mark.parametrize("make", [hope_in, llama_in])
def test_sleep_makes_what_was_said_less_surprising_without_fast_levels(tmp_path, make):
    speaker = opened(make(tmp_path / "lm"))
    said = [(f"What is the code of gate {n}?", f"The code of gate {n} is {n * 7}.") for n in range(4)]
    before = sum(speaker.unforeseen(speaker.initial(), *pair) for pair in said)
    levels = begun(speaker, speaker.initial())
    for _ in range(PASSES):
        levels = dreamt(speaker, levels, said)
    state = ended(speaker, speaker.initial(), levels)
    assert sum(speaker.unforeseen(state, *pair) for pair in said) < before
    again = begun(speaker, speaker.initial())
    for _ in range(PASSES):
        for pair in said:
            again = dreamt(speaker, again, [pair])
    assert speaker.save(ended(speaker, speaker.initial(), again), "") == speaker.save(state, "")


def test_folder_that_cannot_be_the_model_is_refused_with_a_reason(tmp_path):
    folder = hope_in(tmp_path / "lm")
    for broken, why in (
        (lambda copy: (copy / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda copy: (copy / "tokenizer.json").write_text("{}"), "tokenizer.json"),
        (lambda copy: (copy / "model.safetensors").write_bytes(b"nothing"), "cannot be the language model"),
        (lambda copy: (copy / "config.json").write_text('{"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"]}'), "GPT2LMHeadModel"),
        (lambda copy: (copy / "config.json").unlink(), "config.json"),
        (lambda copy: (copy / "model.safetensors").rename(copy / "pytorch_model.bin"), "cannot be the language model"),
    ):
        copy = shutil.copytree(folder, tmp_path / "copy")
        broken(copy)
        with pytest.raises(LanguageRefused, match=why):
            opened(copy)
        shutil.rmtree(copy)


def test_tokenizer_of_another_model_is_refused(tmp_path):
    folder = hope_in(tmp_path / "lm")
    told = json.loads((SMALL / "tokenizer.json").read_text())
    (folder / "tokenizer.json").write_text(json.dumps(told))
    with pytest.raises(LanguageRefused, match="tokens"):
        opened(folder)
