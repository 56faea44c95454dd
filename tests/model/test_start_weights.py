"""S1-S4 of `model.start.weights`: what is refused, by name, and what a start does to the encoder that it is added to."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load, save

from model.encoder import PINNED, Encoder, EncoderRefused, find_weights
from model.encoder_weights import read_weights, shapes
from model.start.shipped import FORMER, SHIPPED, SHIPPED_SHA256, STARTS, name_of
from model.start.weights import MAPS, digest_with, merged, read_start, shipped_start, way_to, write_start

TENSOR = "encoder.layer.3.attention.self.value"


def changed(path: Path, change) -> str:
    """Write the shipped start with something changed; its digest."""
    raw = SHIPPED.read_bytes()
    metadata = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    tensors = load(raw)
    change(tensors, metadata)
    path.write_bytes(save(tensors, metadata=metadata))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def small(rank: int, seed: int = 0):
    draw, sizes = np.random.default_rng(seed), shapes()
    made = {}
    for name in MAPS:
        rows, columns = sizes[f"{name}.weight"]
        made[name] = (draw.normal(size=(rank, columns), scale=0.05).astype("f4"), draw.normal(size=(rows, rank), scale=0.05).astype("f4"))
    return made


def test_the_package_carries_the_pinned_start_small_and_for_the_pinned_encoder():
    start = shipped_start()
    assert (start.sha256, start.base, tuple(start.changes)) == (SHIPPED_SHA256, PINNED, MAPS)
    assert SHIPPED.stat().st_size < 1_500_000


def test_the_record_beside_it_is_of_this_file_and_says_what_it_was_made_of():
    record = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert (record["start_sha256"], record["base_sha256"]) == (SHIPPED_SHA256, PINNED)
    assert record["left_out"] == []
    assert record["recipe"]["rank"] == shipped_start().rank
    assert {"torch", "transformers"} <= set(record["versions"])


def test_no_start_that_was_ever_shipped_leaves_the_package():
    """A bank that was taught with one is read with no other. Who ships another one adds its digest here."""
    ever = {
        "039eb08498366ee711d95863f2c3c6ed8e8271c5ed1f0b1dadc58bb7103522be",
        "82adf308efa73010faea8beab514910d258368c5fd155c0f106ab95fa3e1bdfa",
        "ea437fcc2085f5ac72dcc3a8820ed7ef8c336540a038cdfb02b86b390258903e",
    }
    assert {SHIPPED_SHA256, *FORMER} == {sha256 for _, sha256 in STARTS.values()} == ever
    assert list(STARTS) == ["shipped", *map(name_of, FORMER)]


@pytest.mark.parametrize("name", STARTS)
def test_every_start_of_the_package_is_what_its_name_says_with_a_record_and_the_way_to_it(name):
    path, sha256 = STARTS[name]
    start, record = read_start(path, sha256), json.loads(path.with_suffix(".json").read_text())
    assert (start.sha256, start.base) == (record["start_sha256"], record["base_sha256"]) == (sha256, PINNED)
    assert name == "shipped" or (name.endswith(path.stem) and sha256.startswith(path.stem))
    assert way_to(digest_with(PINNED, sha256)) == f"PALIMPSEST_ENCODER_START={name} is that encoder"
    with pytest.raises(EncoderRefused, match="install the package again"):
        read_start(path, "0" * 64)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors, _: tensors.pop(f"{TENSOR}.up"), f"no tensor {TENSOR}.up"),
        (lambda tensors, _: tensors.update(extra=np.zeros((1, 1), "f4")), "a tensor extra that no start has"),
        (lambda tensors, _: tensors.update({f"{TENSOR}.up": tensors[f"{TENSOR}.up"][:-1]}), f"{TENSOR}.up has shape"),
        (lambda tensors, _: tensors.update({f"{TENSOR}.down": tensors[f"{TENSOR}.down"][:-1]}), f"{TENSOR}.down has shape"),
        (lambda tensors, _: tensors.update({f"{TENSOR}.up": tensors[f"{TENSOR}.up"].astype("f2")}), f"{TENSOR}.up that is no matrix"),
        (
            lambda tensors, _: tensors.update({f"{TENSOR}.up": tensors[f"{TENSOR}.up"] * np.float32("nan")}),
            f"{TENSOR}.up that is no matrix",
        ),
        (lambda _, metadata: metadata.update(base_sha256="f" * 64), "learned for the encoder ffffffffffff"),
        (lambda _, metadata: metadata.pop("base_sha256"), "does not say for which encoder"),
    ],
    ids=["missing", "extra", "rows", "rank", "type", "not a number", "another encoder", "no encoder"],
)
def test_a_start_that_is_none_is_refused_with_the_name_of_what_is_wrong(tmp_path, change, said):
    path = tmp_path / "own.safetensors"
    digest = changed(path, change)
    with pytest.raises(EncoderRefused, match=said):
        Encoder.load(find_weights(None), start=read_start(path, digest))


def test_another_file_is_refused_with_both_digests_and_one_that_is_no_start_by_its_kind(tmp_path):
    path = tmp_path / "own.safetensors"
    digest = changed(path, lambda tensors, _: tensors.update({f"{TENSOR}.up": tensors[f"{TENSOR}.up"] * 2}))
    with pytest.raises(EncoderRefused, match=digest) as refusal:
        read_start(path, SHIPPED_SHA256)
    assert SHIPPED_SHA256 in str(refusal.value)
    assert read_start(path, digest.upper()).sha256 == digest
    path.write_bytes(b"\x80\x04pickled")
    with pytest.raises(EncoderRefused, match="not a readable safetensors file"):
        read_start(path, hashlib.sha256(b"\x80\x04pickled").hexdigest())
    with pytest.raises(EncoderRefused, match=f"{os.sep}nowhere cannot be read"):
        read_start(Path("/nowhere"), digest)


def test_the_same_changes_are_the_same_bytes(tmp_path):
    first, second = (write_start(tmp_path / name, small(2), PINNED) for name in ("a", "b"))
    assert first.sha256 == second.sha256
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_weights_with_a_start_are_the_sum_rounded_once_and_all_others_stay(tmp_path):
    weights, start = read_weights(find_weights(None)), write_start(tmp_path / "a", small(4), PINNED)
    found = merged(weights, start)
    assert {name for name in weights if not np.array_equal(weights[name], found[name])} == {f"{name}.weight" for name in MAPS}
    for name in (MAPS[0], MAPS[-1]):
        down, up = start.changes[name]
        exact = weights[f"{name}.weight"].astype("f8") + up.astype("f8") @ down.astype("f8")
        assert np.abs(found[f"{name}.weight"] - exact).max() <= np.abs(exact).max() * 2.0**-24
    assert found[f"{MAPS[0]}.weight"].dtype == np.float32


def test_an_encoder_with_a_start_has_a_digest_of_its_own_and_vectors_that_are_the_same_in_every_instance():
    start, directory = shipped_start(), find_weights(None)
    one, other, plain = Encoder.load(directory, start=start), Encoder.load(directory, start=start, threads=2), Encoder.load(directory)
    texts = ["My card was declined", "please set an alarm for seven", "What is the mother tongue of Danielle Darrieux?"]
    assert one.digest == digest_with(PINNED, SHIPPED_SHA256) != plain.digest == PINNED
    assert one.encode(texts).vectors.tobytes() == other.encode(texts).vectors.tobytes()
    likeness = (one.encode(texts).vectors * plain.encode(texts).vectors).sum(axis=1)
    assert (likeness < 1 - 1e-4).all()  # it changes something
    assert (likeness > 0.9).all()  # and keeps near what the encoder knows


def test_backends_agree_with_a_start():
    start = shipped_start()
    vectors = [
        Encoder.load(find_weights(None), start=start, backend=backend).encode(["a late parcel"]).vectors for backend in ("onnx", "torch")
    ]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-5
