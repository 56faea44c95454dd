"""A little text and little models for the tests of training: everything here takes a fraction of a second."""

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from model.train.batches import Windows
from model.train.settings import Settings

TEXT = "".join(f"{i} bottles of beer on the wall, {i} bottles of beer. Take {i % 7} down.\n" for i in range(60))


def llama(seed=0, vocabulary=256, dropout=0.0):
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32,
        max_position_embeddings=64, tie_word_embeddings=True, attention_dropout=dropout,
        bos_token_id=None, eos_token_id=None, pad_token_id=None,
    )  # fmt: skip
    return LlamaForCausalLM(config)


def windows(seed=0, batch=2, length=8):
    return Windows([torch.arange(500, dtype=torch.int32) % 97], batch, length, seed)


def settings(steps=6, **changes):
    """Settings for `steps` steps on `windows()`."""
    return Settings(**{"tokens": 16 * steps, "rate": 1e-2, **changes})


def weights(model):
    return {name: tensor.detach().clone() for name, tensor in model.state_dict().items()}


def same(left, right):
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)
