"""Which model is trained: any causal language model that Hugging Face's `AutoConfig` knows, ours among them, so that all train by one loop.

A model is told by its kind (`KINDS`) with layers, width and heads, or by a JSON file with a whole configuration (`model_type`
and whatever that type takes). Either way it becomes a dictionary that is kept with the run.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM

OURS = {"hope": "model.hope.lm"}  # where types of this project register with Hugging Face's Auto classes


@dataclass(frozen=True, slots=True)
class Sizes:
    """What every kind of model has."""

    layers: int = 4
    width: int = 128
    heads: int = 4

    def __post_init__(self) -> None:
        for name in ("layers", "width", "heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.width % self.heads:
            raise ValueError(f"width {self.width} is not a multiple of heads {self.heads}")


def _llama(sizes: Sizes, context: int) -> dict[str, Any]:
    """Transformer++: rotary positions, RMSNorm, a gated MLP of 8/3 the width, tied embeddings."""
    return {
        "intermediate_size": (sizes.width * 8 // 3 + 15) // 16 * 16,
        "num_attention_heads": sizes.heads,
        "num_key_value_heads": sizes.heads,
        "head_dim": sizes.width // sizes.heads,
        "max_position_embeddings": max(context, 64),
        "tie_word_embeddings": True,
    }


def _hope(sizes: Sizes, context: int) -> dict[str, Any]:
    """Self-modifying Titans and the seed's schedule of levels."""
    return {"titans": {"head_width": sizes.width // sizes.heads}}


def _hope_attention(sizes: Sizes, context: int) -> dict[str, Any]:
    """Softmax attention over the last `context` tokens, so that its state is bounded, and the continuum memory of HOPE."""
    return {"model_type": "hope", "mixer": "attention", "attention": {"heads": sizes.heads, "window": context}}


KINDS: dict[str, Callable[[Sizes, int], dict[str, Any]]] = {
    "hope": _hope,
    "hope-attention": _hope_attention,
    "llama": _llama,
    "mistral": _llama,
    "qwen3": _llama,
}


def resolve(told: str, sizes: Sizes, *, vocabulary: int, context: int) -> dict[str, Any]:
    """The configuration of a model as a dictionary, from a kind or a path that ends in .json.

    Raises:
        ValueError: a file that is missing or no configuration, or a kind that nobody knows.
    """
    if told.endswith(".json"):
        return _from_file(Path(told)) | {"vocab_size": vocabulary}
    if told not in KINDS:
        raise ValueError(f"model is {told!r}, it must be one of {', '.join(KINDS)}, or a JSON configuration of any other type")
    shape = {"hidden_size": sizes.width, "num_hidden_layers": sizes.layers}
    return {"model_type": told, "vocab_size": vocabulary} | shape | KINDS[told](sizes, context)


def build(config: Mapping[str, Any], seed: int) -> nn.Module:
    """A fresh model of a configuration, in float32, initialised from a seed; the caller's random state is left alone.

    Raises:
        ValueError: an unknown type, or sizes that the type refuses.
    """
    if (kind := config.get("model_type")) in OURS:
        import_module(OURS[kind])
    rest = {name: value for name, value in config.items() if name != "model_type"}
    # a vocabulary of bytes or characters has no special tokens; the defaults of some types would name ids outside it
    rest = {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None} | rest
    try:
        known = AutoConfig.for_model(config["model_type"], **rest)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model: nn.Module = AutoModelForCausalLM.from_config(known, dtype=torch.float32)
    except (ValueError, TypeError, KeyError, RuntimeError) as error:
        text = str(error)
        raise ValueError(
            f"the model {config.get('model_type')!r} cannot be built: {text if len(text) < 300 else text[:300] + ' …'}"
        ) from None
    return model


def _from_file(path: Path) -> dict[str, Any]:
    try:
        told = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"the model's configuration {path} cannot be read: {error}") from None
    if not isinstance(told, dict) or not isinstance(told.get("model_type"), str):
        raise ValueError(f"the model's configuration {path} must be a JSON object with a model_type such as llama or hope")
    return dict(told)
