"""Pretrained decoders become Hope-Attention without changing what they say (hope.md §5, A22, T39)."""

import json
from itertools import product

import pytest
import torch
from click.testing import CliRunner
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from model.hope.convert import from_decoder, main, state_bytes, whole_folder
from model.hope.lm import HopeLM

SIZES = {
    "vocab_size": 50,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
KINDS = {
    "llama": (LlamaForCausalLM, LlamaConfig, {}),
    "llama grouped": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 2, "rms_norm_eps": 1e-5}),
    "llama biased tied": (LlamaForCausalLM, LlamaConfig, {"attention_bias": True, "tie_word_embeddings": True}),
    "llama 3.1": (LlamaForCausalLM, LlamaConfig, {"num_key_value_heads": 1, "rope_parameters": {**LLAMA3, "rope_theta": 5e3}}),
    "llama linear": (LlamaForCausalLM, LlamaConfig, {"rope_parameters": {"rope_type": "linear", "factor": 4.0, "rope_theta": 1e4}}),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, {"num_key_value_heads": 2}),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {"num_key_value_heads": 2, "head_dim": 16, "tie_word_embeddings": True}),
}
FILLS = ("assign", "copies", "append")
IDS = torch.randint(3, 50, (2, 60), generator=torch.Generator().manual_seed(4))


def source_of(kind="llama grouped", **fields):
    model, config, own = KINDS[kind]
    torch.manual_seed(6)
    made = model(config(**{**SIZES, **own, **fields})).eval()
    for parameter in made.parameters():
        if parameter.ndim == 1:  # norms and biases that are not 1 and 0
            torch.nn.init.normal_(parameter, 0.6, 0.3)
    return made


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Every kind in both types; half numbers are loaded, as people get them."""
    known = {}
    for kind, (model, _, _) in KINDS.items():
        folder = tmp_path_factory.mktemp("source")
        known[kind, torch.float32] = source_of(kind)
        known[kind, torch.float32].save_pretrained(folder)
        known[kind, torch.bfloat16] = model.from_pretrained(folder, dtype=torch.bfloat16)
    return known


def streamed(model, cuts, state_name, output_name):
    """Logits of IDS, read in pieces with the carried state."""
    outputs, state, at = [], None, 0
    for cut in cuts:
        out = model(input_ids=IDS[:, at : at + cut], use_cache=True, **{state_name: state})
        outputs.append(out.logits)
        state, at = getattr(out, output_name), at + cut
    assert at == IDS.shape[1]
    return torch.cat(outputs, 1)


@torch.no_grad()
@pytest.mark.parametrize(("kind", "dtype", "fill"), [*product(KINDS, (torch.float32, torch.bfloat16), FILLS)])
def test_a_converted_model_says_what_its_source_says_bit_for_bit(sources, kind, dtype, fill):
    """T39: whole sequences, with a state, and as a stream in pieces against the source with its own cache; and greedy text."""
    source = sources[kind, dtype]
    model = from_decoder(source, fill, periods=(8, 16), rate=0.0, window=64)
    assert model.dtype == dtype
    expected = source(IDS).logits
    assert torch.equal(model(IDS).logits, expected)
    assert torch.equal(model(IDS, use_cache=True).logits, expected)
    cuts = (1, 9, 1, 1, 33, 15)
    assert torch.equal(streamed(model, cuts, "state", "state"), streamed(source, cuts, "past_key_values", "past_key_values"))
    calls = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones(2, 12, dtype=torch.int64), "pad_token_id": 0}
    assert torch.equal(model.generate(IDS[:, :12], **calls), source.generate(IDS[:, :12], **calls))


@torch.no_grad()
@pytest.mark.parametrize(("fill", "adapt"), [*product(FILLS, ("all", "down"))])
def test_rates_change_what_is_said_only_after_the_first_period(fill, adapt):
    """A22: until the first boundary the source's bits, whatever the rates; then the fast levels have moved, and the slow ones later."""
    source = source_of()
    model = from_decoder(source, fill, periods=(8, 16), rate=0.5, adapt=adapt, window=64)
    expected = source(IDS[:, :8]).logits
    logits = model(IDS[:, :30], use_cache=True).logits
    assert torch.equal(logits[:, :8], expected)
    assert float((logits[:, 8:] - source(IDS[:, :30]).logits[:, 8:]).abs().amax(-1).min()) > 1e-3
    for tokens, moved in ((8, set()), (9, {8}), (16, {8}), (17, {8, 16})):
        state = model(IDS[:, :tokens], use_cache=True).state
        learned = {
            config.period_tokens
            for layer, levels in zip(model.blocks, state.levels, strict=True)
            for config, level in zip(layer.memory.configs, levels, strict=True)
            if level is not None and any(delta.any() for delta in level.delta.values())
        }
        assert learned == moved
    names = {name for levels in state.levels for level in levels if level is not None for name in level.delta}
    assert names == ({"down_proj"} if adapt == "down" else {"gate_proj", "up_proj", "down_proj"})


def test_generation_stops_where_the_sources_does():
    source = source_of()
    free = source.generate(IDS[:1, :10], max_new_tokens=12, do_sample=False, eos_token_id=None)
    source.generation_config.eos_token_id = int(free[0, 16])
    expected = source.generate(IDS[:1, :10], max_new_tokens=12, do_sample=False, pad_token_id=0)
    assert expected.shape[1] < free.shape[1]
    model = from_decoder(source, rate=0.0)
    assert torch.equal(model.generate(IDS[:1, :10], max_new_tokens=12, do_sample=False, pad_token_id=0), expected)


@pytest.mark.parametrize(
    ("layers", "periods", "expected"),
    [
        (8, (4, 12), [None] * 4 + [12, 12, 4, 4]),
        (5, (4, 12), [None] * 3 + [12, 4]),
        (2, (4, 12), [12, 4]),
        (8, (4,), [None] * 6 + [4, 4]),
        (8, (4, 8, 12, 16), [16, 16, 12, 12, 8, 8, 4, 4]),
    ],
)
def test_assign_gives_the_last_quarter_the_first_period_and_adds_no_parameter(layers, periods, expected):
    source = source_of(num_hidden_layers=layers)
    model = from_decoder(source, periods=periods)
    assert [config.period_tokens for layer in model.blocks for config in layer.memory.configs] == expected
    assert model.num_parameters() == source.num_parameters()


@pytest.mark.parametrize(("fill", "expected"), [("copies", [4, 12, None]), ("append", [None, 4, 12])])
def test_other_fills_give_every_layer_a_level_for_each_period(fill, expected):
    model = from_decoder(source_of(), fill, periods=(4, 12))
    assert all([config.period_tokens for config in layer.memory.configs] == expected for layer in model.blocks)
    silent = [not level.down_proj.weight.any() for level in model.blocks[0].memory.levels]
    assert silent == ([False] * 3 if fill == "copies" else [False, True, True])


def test_the_model_shares_nothing_with_its_source_and_no_level_with_another():
    source = source_of("llama biased tied")
    model = from_decoder(source, "append", periods=(8,))
    expected = model(IDS).logits
    first, second = model.blocks[0].memory.levels
    with torch.no_grad():
        for parameter in source.parameters():
            parameter.zero_()
        assert torch.equal(model(IDS).logits, expected)
        second.up_proj.weight.zero_()
    assert first.up_proj.weight.any()
    assert model.lm_head.weight is model.embed_tokens.weight
    model(IDS, labels=IDS).loss.backward()
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_window_is_the_sources_context_up_to_a_bound():
    assert from_decoder(source_of()).config.attention["window"] == 256
    assert from_decoder(source_of(max_position_embeddings=10_000)).config.attention["window"] == 4096


def test_the_size_of_a_state_is_known_before_there_is_one():
    model = from_decoder(source_of(), periods=(8, 16), window=32)
    assert state_bytes(model) == model.initial_state(1).size_bytes


# --- what is refused


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"kind": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 2}, "layer_types has 'sliding_attention'"),
        ({"attention_dropout": 0.1}, "attention_dropout is 0.1: nothing is dropped here; set it to 0"),
        ({"mlp_bias": True}, "mlp_bias is true"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu', levels use 'silu'"),
        ({"rope_parameters": {"rope_type": "yarn", "factor": 2.0, "rope_theta": 1e4}}, "rope_type is 'yarn', it must be one of default"),
    ],
    ids=["sliding", "dropout", "bias", "gelu", "yarn"],
)
def test_features_without_a_counterpart_are_refused_by_their_field(fields, message):
    with pytest.raises(ValueError, match=message):
        from_decoder(source_of(**fields))


def test_other_architectures_are_refused_by_name():
    sizes = {name: value for name, value in SIZES.items() if name != "initializer_range"}
    with pytest.raises(
        ValueError, match="GPTNeoXForCausalLM cannot be converted, only LlamaForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM"
    ):
        from_decoder(GPTNeoXForCausalLM(GPTNeoXConfig(**sizes)))
    with pytest.raises(ValueError, match="num_local_experts is 2: MixtralForCausalLM is a mixture of experts"):
        from_decoder(MixtralForCausalLM(MixtralConfig(**sizes, num_key_value_heads=2, num_local_experts=2)))
    with pytest.raises(ValueError, match="HopeLM cannot be converted"):
        from_decoder(from_decoder(source_of()))

    class Changed(LlamaForCausalLM):
        pass

    with pytest.raises(ValueError, match="Changed cannot be converted"):
        from_decoder(Changed(LlamaConfig(**SIZES)))


def test_a_source_whose_positions_were_rounded_by_a_cast_is_refused():
    with pytest.raises(
        ValueError, match=r"rounded when the whole model was cast; load it as from_pretrained\(\.\.\., dtype=torch.bfloat16\)"
    ):
        from_decoder(source_of().to(torch.bfloat16))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fill": "chain"}, "fill is 'chain', it must be one of assign, copies, append"),
        ({"periods": ()}, r"periods is \[\]"),
        ({"periods": (16, 8)}, r"periods is \[16, 8\]: give at least one number of tokens, fast levels first"),
        ({"periods": (8, 12)}, "period of 12 tokens is no multiple of the fastest one, 8"),
        ({"periods": (1, 2, 3, 4, 5)}, "periods has 5 entries, a quarter of 4 layers each: only 4 fit"),
        ({"periods": (0,)}, "period_tokens is 0"),
        ({"rate": -1.0}, "rate is -1.0"),
        ({"adapt": "up"}, "adapt is 'up'"),
        ({"window": 257}, "window is 257, but max_position_embeddings is 256"),
        ({"window": 0}, "window is 0"),
    ],
)
def test_arguments_that_do_not_fit_are_named(fields, message):
    with pytest.raises(ValueError, match=message):
        from_decoder(source_of(), **fields)


# --- folders and the command


@pytest.fixture
def folder(tmp_path):
    """A saved source with a tokenizer, as downloaded."""
    source_of("qwen3").save_pretrained(tmp_path / "source")
    words = {f"w{n}": n for n in range(49)} | {"?": 49}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="?", chat_template="{{ messages }}").save_pretrained(tmp_path / "source")
    return tmp_path


def command(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


@torch.no_grad()
@pytest.mark.parametrize("fill", FILLS)
def test_the_command_turns_a_folder_into_one_that_the_auto_classes_load(folder, fill):
    """T39 along the way people go: files in, files out."""
    source, target = folder / "source", folder / "made" / "target"
    result = command(source, target, "--fill", fill, "--periods", "8,16", "--rate", "0.25", "--adapt", "down", "--window", "64")
    assert result.exit_code == 0, result.output
    model = AutoModelForCausalLM.from_pretrained(target)
    assert isinstance(model, HopeLM)
    assert f"a sequence carries {model.initial_state(1).size_bytes:,} bytes" in result.output
    original = AutoModelForCausalLM.from_pretrained(source)
    assert torch.equal(model(IDS).logits, original(IDS).logits)
    state = model(IDS, use_cache=True).state
    assert any(level is not None and level.delta["down_proj"].any() for levels in state.levels for level in levels)
    assert AutoTokenizer.from_pretrained(target)("w3 w7 what").input_ids == [3, 7, 49]
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        assert (target / name).read_bytes() == (source / name).read_bytes()
    assert sorted(path.name for path in target.parent.iterdir()) == ["target"]
    assert target.stat().st_mode == source.stat().st_mode


@torch.no_grad()
def test_a_folder_keeps_its_type(folder):
    half = folder / "half"
    AutoModelForCausalLM.from_pretrained(folder / "source", dtype=torch.bfloat16).save_pretrained(half)
    assert command(half, folder / "target").exit_code == 0
    model, original = (AutoModelForCausalLM.from_pretrained(path) for path in (folder / "target", half))
    assert model.dtype == torch.bfloat16
    assert torch.equal(model(IDS).logits, original(IDS).logits)


def damaged(folder, damage):
    """The source with one fault."""
    weights, config = folder / "source" / "model.safetensors", folder / "source" / "config.json"
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "no weights":
        weights.unlink()
    else:
        told = json.loads(config.read_text())
        changes = {"another head": {"architectures": ["Qwen3ForSequenceClassification"]}, "another size": {"intermediate_size": 47}}
        config.write_text(json.dumps({**told, **changes.get(damage, {"num_hidden_layers": 5, "layer_types": ["full_attention"] * 5})}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("truncated", "Error while deserializing"),
        ("no weights", "model.safetensors"),
        ("another head", "Qwen3ForSequenceClassification cannot be converted"),
        ("another size", "has another shape for the tensor model.layers.0.mlp"),
        ("another layer", "lacks the tensor model.layers.4."),
    ],
)
def test_a_damaged_source_is_an_error_in_one_line_and_leaves_nothing(folder, damage, message):
    damaged(folder, damage)
    result = command(folder / "source", folder / "target")
    assert result.exit_code == 1
    assert message in result.output
    assert "Traceback" not in result.output
    assert [path.name for path in folder.iterdir()] == ["source"]


def test_wrong_arguments_of_the_command_are_told(folder):
    kept = folder / "kept"
    kept.mkdir()
    (kept / "mine.txt").write_text("precious")
    for arguments, message in (
        ((folder / "nowhere", folder / "target"), "there is no config.json in"),
        ((folder / "source", kept), "is there already: give a new folder, or an empty one"),
        ((folder / "source", kept / "mine.txt"), "is a file"),
        ((folder / "source", folder / "target", "--periods", "8,x"), "'8,x' is not a list of numbers of tokens such as 512,8192"),
        ((folder / "source", folder / "target", "--window", "9999"), "max_position_embeddings is 256"),
    ):
        result = command(*arguments)
        assert result.exit_code in (1, 2)
        assert message in " ".join(result.output.split())
    assert (kept / "mine.txt").read_text() == "precious"
    assert sorted(path.name for path in folder.iterdir()) == ["kept", "source"]


def test_a_failure_half_way_leaves_nothing_and_an_empty_target_is_taken(tmp_path):
    target = tmp_path / "target"

    def fail():
        with whole_folder(target) as growing:
            (growing / "model.safetensors").write_bytes(b"half")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []
    target.mkdir()
    with whole_folder(target) as growing:
        (growing / "config.json").write_text("{}")
        assert list(target.iterdir()) == []
    assert [path.name for path in target.iterdir()] == ["config.json"]
