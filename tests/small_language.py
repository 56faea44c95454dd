"""Folders of very small language models with random weights: what they say is nonsense, what they learn is exact."""

from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from model.hope.lm import HopeLM
from model.hope.lm_config import HopeConfig
from model.train.tokens import train_bpe


def level(name, period, rate):
    return {"name": name, "period_tokens": period, "hidden": 24, "rate": rate, "kind": "swiglu"}


def hope_in(folder: Path) -> Path:
    """A HOPE model of two layers over bytes."""
    levels = [level("middle", 8, 0.3), level("slow", 1_048_576, 0.3), level("static", None, 0.0)]
    torch.manual_seed(5)
    model = HopeLM(HopeConfig(256, 16, 2, titans={"head_width": 8}, levels=levels, initializer_range=0.3))
    return _saved(model, folder)


def llama_in(folder: Path, **changes) -> Path:
    """A Llama of four layers over bytes."""
    torch.manual_seed(6)
    config = LlamaConfig(
        vocab_size=256, hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=256, initializer_range=0.2, bos_token_id=None, eos_token_id=None, pad_token_id=None, **changes,
    )  # fmt: skip
    return _saved(LlamaForCausalLM(config), folder)


def _saved(model, folder: Path) -> Path:
    model.save_pretrained(folder)
    train_bpe([], 256).save(folder / "tokenizer.json")
    return folder
