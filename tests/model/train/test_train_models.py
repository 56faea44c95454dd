"""Models by kind or configuration file."""

import json

import pytest
import torch
from train_little import same, settings, weights, windows

from model.train.checkpointing import Checkpoints
from model.train.evaluate import Scorer
from model.train.loop import train
from model.train.models import KINDS, Sizes, build, resolve
from model.train.tokens import CharTokenizer


def test_kind_and_sizes_give_a_model_that_a_seed_determines():
    config = resolve("llama", Sizes(2, 32, 4), vocabulary=65, context=16)
    one, again, other = build(config, 1), build(config, 1), build(config, 2)
    assert (one.config.num_hidden_layers, one.config.hidden_size, one.config.intermediate_size, one.config.vocab_size) == (2, 32, 96, 65)
    assert same(weights(one), weights(again))
    assert not same(weights(one), weights(other))
    assert json.loads(json.dumps(config)) == config


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_trains_resumes_and_is_read_as_a_stream(kind, tmp_path):
    config = resolve(kind, Sizes(1, 16, 2), vocabulary=97, context=8)
    whole, first, second = (build(config, seed) for seed in (1, 1, 2))
    train(whole, windows(), settings(2))
    budget = iter([False, True])
    train(first, windows(), settings(2), checkpoints=Checkpoints(tmp_path), stop=lambda: next(budget))
    history = train(second, windows(), settings(2), checkpoints=Checkpoints(tmp_path), resume=True)
    assert history.finished
    assert same(weights(second), weights(whole))
    tokenizer = CharTokenizer("".join(map(chr, range(97))))
    stream = Scorer(tokenizer).stream(second, windows()(0).inputs[0].int(), context=3)
    assert stream.tokens == 7
    assert stream.loss > 0


def test_building_leaves_the_random_state_alone():
    torch.manual_seed(4)
    expected = torch.rand(2)
    torch.manual_seed(4)
    build(resolve("llama", Sizes(1, 16, 2), vocabulary=65, context=16), 1)
    assert torch.equal(torch.rand(2), expected)


def test_configuration_file_decides_and_the_tokenizer_sets_the_vocabulary(tmp_path):
    (tmp_path / "m.json").write_text(json.dumps({"model_type": "gpt2", "n_embd": 16, "n_layer": 1, "n_head": 2, "vocab_size": 9}))
    model = build(resolve(str(tmp_path / "m.json"), Sizes(), vocabulary=65, context=16), 0)
    assert type(model).__name__ == "GPT2LMHeadModel"
    assert model.get_output_embeddings().weight.shape == (65, 16)


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"model_type": 3}'])
def test_file_that_is_no_configuration_is_refused(content, tmp_path):
    (tmp_path / "m.json").write_text(content)
    with pytest.raises(ValueError, match=r"m\.json"):
        resolve(str(tmp_path / "m.json"), Sizes(), vocabulary=65, context=16)


def test_unknown_kind_and_impossible_sizes_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"model is 'perceptron-9000', it must be one of hope, .*llama"):
        resolve("perceptron-9000", Sizes(), vocabulary=65, context=16)
    with pytest.raises(ValueError, match="the model 'perceptron-9000' cannot be built"):
        build({"model_type": "perceptron-9000"}, 0)
    with pytest.raises(ValueError, match="width 30 is not a multiple of heads 4"):
        Sizes(2, 30, 4)
    with pytest.raises(ValueError, match="layers is 0"):
        Sizes(0, 32, 4)
    with pytest.raises(ValueError, match=r"absent\.json cannot be read"):
        resolve(str(tmp_path / "absent.json"), Sizes(), vocabulary=65, context=16)
