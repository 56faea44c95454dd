"""What a model pays for the tokens it should have foreseen, in nats: the one place where training and scoring call the model.

Any model of Hugging Face's shape will do: `model(input_ids=(B, T)).logits` (B, T, V). A carried state goes in and comes out under the name
that the model has for it: `state` (HOPE), `past_key_values` (transformers), `cache_params` (Mamba).
"""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from model.train.batches import IGNORED, Batch
from model.train.settings import Precision

State = Any  # a model's own fast state or key-value cache
STATES = ("state", "past_key_values", "cache_params")


def token_nats(model: nn.Module, batch: Batch, precision: Precision = "fp32") -> Tensor:
    """(B, T) float32 nats per target; 0 where the target is ignored. Every row starts from the model's fresh state."""
    with _autocast(batch.inputs, precision):
        logits = model(input_ids=batch.inputs, use_cache=False).logits
    return _nats(logits, batch.targets)


def carried_nats(model: nn.Module, batch: Batch, state: State, precision: Precision = "fp32") -> tuple[Tensor, State]:
    """The same for tokens that follow those which gave `state` (None: none); the state after them."""
    with _autocast(batch.inputs, precision):
        logits, state = carried(model, batch.inputs, state)
    return _nats(logits, batch.targets), state


def carried(model: nn.Module, tokens: Tensor, state: State) -> tuple[Tensor, State]:
    """Logits (B, T, V) of tokens (B, T) that follow those which gave `state` (None: none); the state after them.

    Raises:
        ValueError: a model that carries none.
    """
    known = inspect.signature(model.forward).parameters
    name = next((name for name in STATES if name in known), None)
    if name is None:
        raise ValueError(f"{type(model).__name__} carries no state (it takes none of {', '.join(STATES)})")
    out = model(input_ids=tokens, use_cache=True, **{name: state})
    return out.logits, getattr(out, name)


def detached(state: State) -> State:
    """The same numbers without their graph: a state's own `detach()`, or the tensors of a Hugging Face cache, layer by layer."""
    if hasattr(state, "detach"):
        return state.detach()
    for layer in state.layers:
        for name, value in vars(layer).items():
            if isinstance(value, Tensor):
                setattr(layer, name, value.detach())
    return state


def scored(batch: Batch) -> int:
    """How many targets count."""
    return int((batch.targets != IGNORED).sum())


def _autocast(inputs: Tensor, precision: Precision) -> torch.autocast:
    return torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=precision == "bf16")


def _nats(logits: Tensor, targets: Tensor) -> Tensor:
    flat = cross_entropy(logits.float().flatten(0, 1), targets.flatten(), ignore_index=IGNORED, reduction="none")
    return flat.view_as(targets)
