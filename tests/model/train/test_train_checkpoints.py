"""Checkpoints: whole or absent, strict, without pickle, readable by Hugging Face."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from train_little import llama, same, settings, weights, windows
from transformers import LlamaForCausalLM

from model.train.checkpointing import CheckpointRefused, Checkpoints, Progress, load_weights, packed, unpacked
from model.train.loop import train
from model.train.outer import Outer


@pytest.fixture
def trained(tmp_path):
    model = llama()
    train(model, windows(), settings(2), checkpoints=Checkpoints(tmp_path))
    (place,) = Checkpoints(tmp_path).all()
    return model, place


def test_checkpoint_is_a_hugging_face_model(trained):
    model, place = trained
    again = LlamaForCausalLM.from_pretrained(place)
    assert same(weights(again), weights(model))
    assert "lm_head.weight" not in load_file(place / "model.safetensors")  # tied: kept once


def test_checkpoint_holds_safetensors_and_json_only(trained):
    _, place = trained
    assert sorted(file.name for file in place.iterdir()) == ["config.json", "model.safetensors", "optimizer.safetensors", "progress.json"]
    assert json.loads((place / "progress.json").read_text())["progress"]["tokens"] == 32


def test_oldest_go_and_the_newest_stay(tmp_path):
    checkpoints, model = Checkpoints(tmp_path, keep=2), llama()
    outer = Outer(model, settings(1))
    for tokens in (5, 10, 1000, 99):
        checkpoints.save(model, outer, Progress(1, tokens, 0.5))
    assert [int(place.name[7:]) for place in checkpoints.all()] == [99, 1000]
    assert checkpoints.progress() == Progress(1, 1000, 0.5)


def test_draft_that_was_cut_off_is_no_checkpoint_and_is_written_over(tmp_path):
    draft = tmp_path / ".draft-tokens-000000000000032"
    draft.mkdir()
    (draft / "model.safetensors").write_bytes(b"half")
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.all() == []
    assert checkpoints.progress() == Progress()
    train(llama(), windows(), settings(2), checkpoints=checkpoints)
    assert [place.name for place in tmp_path.iterdir()] == ["tokens-000000000000032"]
    load_weights(llama(1), checkpoints.all()[0])


def test_weights_that_are_not_finite_are_never_kept(tmp_path):
    model = llama()
    outer = Outer(model, settings(1))
    with torch.no_grad():
        model.model.norm.weight[3] = float("inf")
    with pytest.raises(ValueError, match=r"model.norm.weight has numbers that are not finite"):
        Checkpoints(tmp_path).save(model, outer, Progress())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda tensors: tensors.pop("model.norm.weight"), "lacks the tensor model.norm.weight"),
        (lambda tensors: tensors.update(odd=torch.zeros(1)), "has the tensor odd, which this model does not know"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.zeros(3)}), r"is float32\(3,\), this model needs float32\(16,\)"),
        (lambda tensors: tensors.update({"model.norm.weight": torch.zeros(16).double()}), "is float64"),
    ],
    ids=["missing", "extra", "misshapen", "type"],
)  # fmt: skip
def test_other_tensors_are_refused_by_name_and_the_model_stays(change, says, trained):
    _, place = trained
    tensors = load_file(place / "model.safetensors")
    change(tensors)
    save_file(tensors, place / "model.safetensors")
    model = llama(1)
    before = weights(model)
    with pytest.raises(CheckpointRefused, match=says):
        load_weights(model, place)
    assert same(weights(model), before)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "progress.json"])
@pytest.mark.parametrize("damage", ["cut", "absent"])
def test_damaged_file_is_named(name, damage, trained, tmp_path):
    _, place = trained
    data = (place / name).read_bytes()
    (place / name).unlink()
    if damage == "cut":
        (place / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointRefused, match=f"{name} cannot be read"):
        train(llama(), windows(), settings(3), checkpoints=Checkpoints(tmp_path), resume=True)


@pytest.mark.parametrize("told", [{}, [], {"progress": {"odd": 1}, "optimizer": {}}, {"progress": {"step": 1}}], ids=str)
def test_progress_without_its_fields_is_no_progress(told, trained, tmp_path):
    _, place = trained
    (place / "progress.json").write_text(json.dumps(told))
    with pytest.raises(CheckpointRefused, match=r"progress.json cannot be read: it has no"):
        Checkpoints(tmp_path).progress()


def test_state_of_another_optimizer_is_refused(trained, tmp_path):
    model = llama(1)
    before = weights(model)
    with pytest.raises(ValueError, match="saved by adamw, not by muon"):
        train(model, windows(), settings(3, optimizer="muon"), checkpoints=Checkpoints(tmp_path), resume=True)
    assert same(weights(model), before)


def test_resume_without_a_checkpoint_says_so(tmp_path):
    with pytest.raises(CheckpointRefused, match="holds no checkpoint"):
        train(llama(), windows(), settings(1), checkpoints=Checkpoints(tmp_path), resume=True)


def test_tree_of_optimizer_state_comes_back_as_it_was():
    tree = {"state": {0: {"a": torch.arange(3), "step": 1.5}, 7: {}}, "groups": [{"betas": (0.9, None), "on": True, "name": "x"}]}
    tensors = {}
    told = json.loads(json.dumps(packed(tree, tensors)))
    again = unpacked(told, tensors)
    assert torch.equal(again["state"][0].pop("a"), tree["state"][0].pop("a"))
    assert again == tree
    with pytest.raises(ValueError, match="keeps a set at /odd"):
        packed({"odd": {1}}, {})
