"""A pretrained Hugging Face decoder becomes Hope-Attention: its attention mixes, its MLPs learn (Nested Learning §7.3, §8.3; hope.md §5).

    model = from_decoder("llama-3.2-1b", periods=(512, 8192), rate=0.05, window=4096)      # or a loaded model
    python -m model.hope.convert llama-3.2-1b llama-3.2-1b-hope --periods 512,8192 --rate 0.05 --window 4096

The paper does not say how levels are filled from one MLP a layer. Three ways keep the function (`fill`):
- assign: one level a layer, and layers differ in their periods: the last quarter has the first period, the quarter before it the second,
  and so on; the rest is static. No new parameter.
- copies: in every layer a copy for each period and a static one, side by side, with weights that add up to 1.
- append: in every layer the MLP, static, and after it a level for each period that is silent until it has learned.

I1  While nothing was learned online (rate 0, or before the first period ends), up to `window` tokens, logits are the source's bit for bit:
    of the same type, with PyTorch's scaled dot product attention (Hugging Face's default).
I2  What would be another function is refused, by the field that says so.
"""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeAlias, cast

import click
import torch
from safetensors import SafetensorError
from torch import Tensor
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from model.hope.cms_pretrained import levels_from_mlp
from model.hope.lm import HopeLM, check_loaded
from model.hope.lm_config import HopeConfig
from model.hope.rotary import KINDS, frequencies

Fill = Literal["assign", "copies", "append"]
Adapt = Literal["all", "down"]
Decoder: TypeAlias = Any  # of Hugging Face: its parts have no types
SourceConfig: TypeAlias = Any

SOURCES = ("LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")  # how configurations call the size of a mixture
KEPT = ("hidden_size", "num_hidden_layers", "rms_norm_eps", "initializer_range", "tie_word_embeddings")  # fields that both have
MARKS = ("bos_token_id", "eos_token_id", "pad_token_id")
PERIODS = (512, 8192)
RATE = 0.05
WINDOW = 4096  # tokens; a state holds the keys and values of that many, in every layer
TOKENIZER = ("tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt", "chat_template*", "*.model")


def from_decoder(
    source: PreTrainedModel | str | os.PathLike[str],
    fill: Fill = "assign",
    periods: Sequence[int] = PERIODS,
    rate: float = RATE,
    adapt: Adapt = "all",
    window: int | None = None,
) -> HopeLM:
    """A HopeLM with the source's function, of its type and on its device, that shares no memory with it.

    `source` is a model, or the folder of one (`save_pretrained`, safetensors). `periods` in tokens, fast to slow, `rate` and `adapt` as in
    `LevelConfig`; `window` in tokens, None: the source's context, at most `WINDOW`.

    Raises:
        ValueError: another architecture, a feature that has no counterpart, or arguments that do not fit; names it.
        OSError, SafetensorError: a folder whose files are missing or damaged.
    """
    decoder: Decoder = source if isinstance(source, PreTrainedModel) else _loaded(Path(source))
    _check_source(decoder.config, type(decoder).__name__)
    config = _configured(decoder, fill, periods, rate, adapt, window)
    _check_positions(decoder, config)
    weights = {name: tensor.detach().clone() for name, tensor in _weights(decoder, config)}
    with torch.device("meta"):  # nothing is drawn: every weight comes from the source, and `strict` sees to that
        model = HopeLM(config)
    model.load_state_dict(weights, strict=True, assign=True)
    model.tie_weights()
    model.generation_config = deepcopy(decoder.generation_config)
    model.train(False)
    return model


# --- the source


def _loaded(folder: Path) -> PreTrainedModel:
    if not (folder / "config.json").is_file():
        raise ValueError(f"there is no config.json in {folder}: give the folder of a model that save_pretrained has written")
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    _check_source(config, (config.architectures or ["a model without architectures"])[0])
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        folder, use_safetensors=True, ignore_mismatched_sizes=True, output_loading_info=True, trust_remote_code=False
    )
    check_loaded(loaded[1])
    model: PreTrainedModel = loaded[0]
    return model


def _check_source(config: SourceConfig, architecture: str) -> None:
    """What HopeLM has no counterpart for is refused, all of it in one message."""
    told = config.to_dict()  # by the names in config.json
    for field in EXPERTS:
        if count := told.get(field):
            raise ValueError(
                f"{field} is {count}: {architecture} is a mixture of experts, levels are filled from one MLP a layer; take a dense model"
            )
    if architecture not in SOURCES:
        raise ValueError(
            f"{architecture} cannot be converted, only {', '.join(SOURCES)}; save a model with the same layers as one of them first"
        )
    wrong = []
    if other := set(getattr(config, "layer_types", None) or ()) - {"full_attention"}:
        wrong.append(f"layer_types has {sorted(other)[0]!r}: one window holds for all layers; take a model without sliding windows")
    if config.attention_dropout:
        wrong.append(f"attention_dropout is {config.attention_dropout}: nothing is dropped here; set it to 0, which changes training only")
    if config.hidden_act != "silu":
        wrong.append(f"hidden_act is {config.hidden_act!r}, levels use 'silu'")
    if getattr(config, "mlp_bias", False):
        wrong.append("mlp_bias is true, levels have no biases")
    if getattr(config, "quantization_config", None) is not None:
        wrong.append("quantization_config is set: levels move the weights themselves; take the model that is not quantized")
    if (kind := config.rope_parameters["rope_type"]) not in KINDS:
        wrong.append(f"rope_type is {kind!r}, it must be one of {', '.join(KINDS)}")
    if wrong:
        raise ValueError("; ".join(wrong))


def _check_positions(source: Decoder, config: HopeConfig) -> None:
    attention = config.attention_config()
    own = frequencies(attention.channels, attention.rope_theta, attention.rope_scaling, torch.device("cpu"))
    if not torch.equal(own, source.model.rotary_emb.inv_freq.cpu().float()):
        raise ValueError(
            "the source's rotary frequencies are not those of its configuration: they were rounded when the whole model was cast; "
            "load it as from_pretrained(..., dtype=torch.bfloat16) instead"
        )


# --- the HOPE model


def _configured(source: Decoder, fill: Fill, periods: Sequence[int], rate: float, adapt: Adapt, window: int | None) -> HopeConfig:
    config, attention = source.config, source.model.layers[0].self_attn
    longest = config.max_position_embeddings
    if window is not None and window > longest:
        raise ValueError(f"window is {window}, but max_position_embeddings is {longest}: the source knows no tokens that far apart")
    rope = dict(config.rope_parameters)
    shapes = {
        "heads": config.num_attention_heads,
        "kv_heads": config.num_key_value_heads,
        "head_width": attention.head_dim,
        "window": min(WINDOW, longest) if window is None else window,
        "rope_theta": rope.pop("rope_theta"),
        "rope_scaling": rope,
        "qkv_bias": attention.q_proj.bias is not None,
        "out_bias": attention.o_proj.bias is not None,
        "qk_norm": hasattr(attention, "q_norm"),
        "norm_eps": config.rms_norm_eps,
    }
    level = {"hidden": config.intermediate_size, "adapt": adapt, "kind": "swiglu"}
    fields: dict[str, Any] = {
        "vocab_size": len(source.model.embed_tokens.weight),
        "mixer": "attention",
        "attention": shapes,
        **{name: getattr(config, name) for name in (*KEPT, *MARKS)},
        **_levels(fill, config.num_hidden_layers, periods, level, rate),
    }
    return HopeConfig(**fields)


def _levels(fill: Fill, layers: int, periods: Sequence[int], shape: dict[str, Any], rate: float) -> dict[str, Any]:
    """The fields of `HopeConfig` that say which layer has which levels."""
    if not periods or any(late <= early for early, late in pairwise(periods)):
        raise ValueError(f"periods is {list(periods)}: give at least one number of tokens, fast levels first, no period twice")
    static = {"name": "static", "period_tokens": None, "rate": 0.0, **shape}
    online = [{"name": f"every_{period}", "period_tokens": period, "rate": rate, **shape} for period in periods]
    match fill:
        case "assign":
            quarter = max(1, layers // 4)
            if (still := layers - quarter * len(periods)) < 0:
                raise ValueError(f"periods has {len(periods)} entries, a quarter of {layers} layers each: only {layers // quarter} fit")
            placed = [static] * still + [level for level in reversed(online) for _ in range(quarter)]
            return {"levels": [static], "layer_levels": [[level] for level in placed]}
        case "copies":
            return {"levels": [*online, static], "variant": "independent"}
        case "append":
            return {"levels": [static, *online]}
        case _:
            raise ValueError(f"fill is {fill!r}, it must be one of assign, copies, append")


def _weights(source: Decoder, config: HopeConfig) -> Iterator[tuple[str, Tensor]]:
    """Every weight of the HOPE model by its name there."""
    body, independent = source.model, config.variant == "independent"
    yield "embed_tokens.weight", body.embed_tokens.weight
    yield "norm.weight", body.norm.weight
    yield "lm_head.weight", source.lm_head.weight
    for place, layer in enumerate(body.layers):
        yield f"layers.{place}.norm.weight", layer.input_layernorm.weight
        yield from ((f"layers.{place}.mixer.{name}", tensor) for name, tensor in layer.self_attn.state_dict().items())
        memory, count = f"layers.{place}.memory", len(config.levels_of(place))
        for level, matrices in enumerate(levels_from_mlp(layer.mlp, count, "copies" if independent else "append")):
            yield f"{memory}.levels.{level}.norm.weight", layer.post_attention_layernorm.weight
            yield from ((f"{memory}.levels.{level}.{name}.weight", tensor) for name, tensor in matrices.items())
        if independent:
            yield f"{memory}.mix", layer.input_layernorm.weight.new_zeros(count)


# --- folders


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A new folder that takes the place of `target` at the end; after a failure there is nothing.

    Raises:
        ValueError: there is something already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ValueError(f"{target} is there already: give a new folder, or an empty one")
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as room:
        growing = Path(room) / "model"  # inside, so that it has the rights of an ordinary folder
        growing.mkdir()
        yield growing
        growing.rename(target)


def copy_tokenizer(source: Path, target: Path) -> list[str]:
    """Copy what belongs to a tokenizer, as it is; the names of the files."""
    files = sorted({path for pattern in TOKENIZER for path in source.glob(pattern) if path.is_file()})
    for path in files:
        shutil.copyfile(path, target / path.name)
    return [path.name for path in files]


def state_bytes(model: HopeLM) -> int:
    """What a sequence carries, in bytes; computed without making it."""
    with torch.device("meta"):
        return HopeLM(cast(HopeConfig, model.config)).initial_state(1).size_bytes


# --- the command


class Periods(click.ParamType[tuple[int, ...]]):
    """Numbers of tokens with commas between them, fast to slow: 512,8192."""

    name = "tokens"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:  # noqa: ANN401
        """The numbers."""
        try:
            return tuple(int(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers of tokens such as 512,8192", param, ctx)


FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.argument("source", type=FOLDER)
@click.argument("target", type=FOLDER)
@click.option("--fill", type=click.Choice(["assign", "copies", "append"]), default="assign", show_default=True, help="Levels from MLPs.")
@click.option("--periods", type=Periods(), default=",".join(map(str, PERIODS)), show_default=True, help="Tokens, fast levels first.")
@click.option("--rate", type=float, default=RATE, show_default=True, help="Of the levels' online steps; 0: nothing learns online.")
@click.option("--adapt", type=click.Choice(["all", "down"]), default="all", show_default=True, help="All matrices of a level, or the last.")
@click.option("--window", type=int, help=f"Tokens that attention sees; default: the source's context, at most {WINDOW}.")
def main(source: Path, target: Path, fill: Fill, periods: tuple[int, ...], rate: float, adapt: Adapt, window: int | None) -> None:
    """Convert the Llama, Qwen2 or Qwen3 model in folder SOURCE to a HOPE model in folder TARGET."""
    try:
        with whole_folder(target) as folder:
            model = from_decoder(source, fill, periods, rate, adapt, window)
            model.save_pretrained(folder)
            files = copy_tokenizer(source, folder)
    except (ValueError, OSError, SafetensorError) as error:
        raise click.ClickException(str(error)) from None
    click.echo(
        f"{target}: {model.num_parameters():,} parameters in {str(model.dtype).removeprefix('torch.')}, {len(files)} tokenizer files"
    )
    click.echo(f"a sequence carries {state_bytes(model):,} bytes")


if __name__ == "__main__":
    main(prog_name="python -m model.hope.convert")
