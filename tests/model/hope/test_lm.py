"""HopeLM as people use it: Hugging Face's calls, saving, generating, refusing (issue's "bad input"; hope.md §9)."""

import copy
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM

from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.hope.state import NotFinite, difference


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(2)
    config = HopeConfig(
        16,
        16,
        2,
        titans={"head_width": 8, "chunk_projections": 4, "chunk_memory": 4, "read": "token"},
        levels=[
            {"name": "middle", "period_tokens": 4, "hidden": 8, "rate": 0.5},
            {"name": "static", "period_tokens": None, "hidden": 8},
        ],
        initializer_range=0.3,
    )
    return HopeLM(config).eval()


IDS = torch.tensor([[1, 5, 3, 2, 8, 8, 1, 0, 4, 9, 3]])


def test_a_saved_model_is_loaded_by_the_auto_classes_and_says_the_same(model, tmp_path):
    model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").exists()
    again = AutoModelForCausalLM.from_pretrained(tmp_path).eval()
    assert isinstance(again, HopeLM)
    assert torch.equal(again(IDS).logits, model(IDS).logits)
    assert torch.equal(again(IDS, use_cache=True).logits, model(IDS, use_cache=True).logits)
    assert AutoConfig.from_pretrained(tmp_path).digest == model.config.digest


def test_generating_equals_reading_what_was_generated(model):
    """Greedy tokens are those of a loop over the whole text, and what was generated has been learned like read text."""
    generated = model.generate(IDS, max_new_tokens=9, do_sample=False)
    text = IDS
    with torch.no_grad():
        for _ in range(9):
            text = torch.cat([text, model(text, use_cache=True).logits[:, -1:].argmax(-1)], 1)
    assert torch.equal(generated, text)


def test_generation_goes_on_from_a_state(model):
    with torch.no_grad():
        state = model(IDS[:, :6], use_cache=True).state
        whole = model.generate(IDS, max_new_tokens=5, do_sample=False)
        rest = model.generate(IDS[:, 6:], state=state, max_new_tokens=5, do_sample=False)
    assert torch.equal(rest[:, -5:], whole[:, -5:])


def test_generating_without_writing_reads_the_whole_prompt_and_leaves_the_state(model):
    with torch.no_grad():
        state = model(IDS[:, :6], use_cache=True).state
        kept = state.clone()
        expected = model.generate(IDS[:, 6:], state=state, max_new_tokens=5, do_sample=False)
        assert torch.equal(model.generate(IDS[:, 6:], state=state, write=False, max_new_tokens=5, do_sample=False), expected)
    assert difference(state, kept) == {}


def test_levels_of_training_name_their_parameters_and_periods():
    levels = [{"name": name, "period_tokens": None, "hidden": 8} for name in ("fast", "slow")]
    built = HopeLM(HopeConfig(16, 32, 2, levels=levels, training_periods={"slow": 4096}))
    ((name, parameters, period),) = built.level_groups()
    assert (name, period) == ("slow", 4096)
    assert {id(p) for p in parameters} == {id(p) for layer in built.layers for p in layer.memory.levels[1].parameters()}
    assert HopeLM(HopeConfig(16, 32, 1, levels=levels)).level_groups() == []


def test_loss_is_the_mean_over_shifted_labels_and_ignores_masked_ones(model):
    labels = IDS.clone()
    labels[0, 3] = -100
    logits = model(IDS).logits[0, :-1]
    picked = [position for position in range(10) if position + 1 != 3]
    expected = torch.nn.functional.cross_entropy(logits[picked], IDS[0, 1:][picked])
    torch.testing.assert_close(model(IDS, labels=labels).loss, expected)


def test_only_the_last_logits_when_asked(model):
    torch.testing.assert_close(model(IDS, logits_to_keep=2).logits, model(IDS).logits[:, -2:])


def test_the_state_of_a_sequence_has_a_constant_size(model):
    sizes = {model(torch.randint(0, 16, (1, length)), use_cache=True).state.size_bytes for length in (1, 3, 17, 90)}
    assert len(sizes) == 1


def test_an_empty_call_changes_nothing(model):
    state = model(IDS, use_cache=True).state
    out = model(IDS[:, :0], state=state)
    assert out.logits.shape == (1, 0, 16)
    assert difference(out.state, state) == {}


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: m(torch.zeros(0, 4, dtype=torch.int64)), r"input_ids is \(0, 4\)"),
        (lambda m: m(torch.zeros(4, dtype=torch.int64)), r"input_ids is \(4,\)"),
        (lambda m: m(torch.tensor([[3.0, 1.0]])), "input_ids is float32, it must be int64"),
        (lambda m: m(torch.tensor([[3, 16]])), "the vocabulary is 0 to 15"),
        (lambda m: m(torch.tensor([[-1, 2]])), "holds -1 to 2"),
        (lambda m: m(IDS, attention_mask=torch.tensor([[0] * 3 + [1] * 8])), "padding would be read and learned"),
        (lambda m: m(IDS, state=m.initial_state(2)), "the state has 2 rows, input_ids has 1"),
        (lambda m: m(IDS, state=HopeLM(HopeConfig(16, 32, 2)).initial_state(1)), r"of another model: blocks\.0\."),
        (lambda m: m(IDS, state=HopeLM(HopeConfig(16, 16, 1, titans={"head_width": 8})).initial_state(1)), "of another model: "),
        (lambda m: m(IDS[:, :1], labels=IDS[:, :1]), "labels have one token"),
    ],
    ids=["empty batch", "one dimension", "type", "outside", "negative", "padding", "rows", "width", "layers", "one label"],
)
def test_calls_that_cannot_be_answered_say_why(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"hidden_size": 0}, "hidden_size is 0"),
        ({"mixer": "rnn"}, "mixer 'rnn' is unknown"),
        ({"layer_levels": [[]]}, "layer_levels has 1 entries for 4 layers"),
        ({"variant": "odd"}, "variant is 'odd'"),
        ({"titans": {"head_width": 7}}, "width 128 is not a multiple of head_width 7"),
        ({"titans": {"chunk_memory": 0}}, "chunk_memory is 0"),
        ({"titans": {"adaptive": ["k"]}}, "adaptive must hold 'mem'"),
        ({"titans": {"weight_cap": float("nan")}}, "weight_cap is nan"),
        ({"training_periods": {"slwo": 4096}}, "training_periods names 'slwo'; the levels are middle, slow, static"),
        (
            {
                "levels": [
                    {"name": "a", "period_tokens": 8, "hidden": 4, "rate": 1.0},
                    {"name": "b", "period_tokens": 4, "hidden": 4, "rate": 1.0},
                ]
            },
            "list fast levels first",
        ),
    ],
    ids=["size", "mixer", "layers", "variant", "heads", "chunk", "adaptive", "cap", "training", "periods"],
)
def test_configurations_that_contradict_themselves_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        HopeLM(HopeConfig(**fields))


@pytest.mark.parametrize("damage", ["missing", "extra", "shape"])
def test_a_checkpoint_of_another_configuration_is_refused_by_the_tensors_name(model, tmp_path, damage):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    if damage == "missing":
        del tensors["layers.1.mixer.start.up"]
    elif damage == "extra":
        tensors["layers.7.odd"] = torch.zeros(1)
    else:
        tensors["layers.1.mixer.start.up"] = torch.zeros(1, 2, 3, 4)
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    name = {"missing": "layers.1.mixer.start.up", "extra": "layers.7.odd", "shape": "layers.1.mixer.start.up"}[damage]
    with pytest.raises((ValueError, RuntimeError), match=name):
        HopeLM.from_pretrained(tmp_path)


@pytest.mark.parametrize("number", [float("nan"), float("inf")], ids=str)
def test_numbers_that_are_not_finite_are_refused_by_the_tensors_name_and_the_state_stays(model, tmp_path, number):
    model.save_pretrained(tmp_path)
    tensors = load_file(tmp_path / "model.safetensors")
    tensors["layers.1.mixer.start.up"][0, 0, 0, 0] = number
    save_file(tensors, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NotFinite, match=r"layers.1.mixer.start.up, row 0, is not finite in the checkpoint"):
        HopeLM.from_pretrained(tmp_path)
    broken = copy.deepcopy(model)
    broken.layers[1].mixer.start["up"].data[0, 0, 0, 0] = number
    with torch.no_grad():
        state = model(IDS[:, :6], use_cache=True).state
        kept = state.clone()
        with pytest.raises(NotFinite, match=r"blocks\.1\..*row 0, is not finite after these tokens; the state that was given is unchanged"):
            broken(IDS[:, 6:], state=state)
    assert difference(state, kept) == {}


def test_a_configuration_survives_json(model, tmp_path):
    model.config.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "hope"
    assert HopeConfig.from_pretrained(tmp_path).digest == model.config.digest
