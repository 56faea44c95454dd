"""Checkpoints: a state as safetensors bytes, one blob for each level, and back. Bytes from outside are never trusted.

Equal states give equal bytes (the manifest is canonical JSON under a single metadata key: safetensors keeps no order among several).
Reading is strict: exactly the expected levels, names, types and shapes of one configuration, finite numbers, a bounded size that is
checked before anything is allocated. No pickle, no code.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.config import FORMAT, RecallConfig
from model.levels import Clock
from model.state import Form, State, contradictions, layout

KEY = "palimpsest"
HEADER = 16_384  # bytes that a blob may have beside its tensors


class CheckpointRefused(ValueError):
    """The bytes are not a state of the expected configuration; the message names what is wrong."""


def sha256(data: bytes) -> str:
    """Hex digest of bytes."""
    return hashlib.sha256(data).hexdigest()


def encode(state: State) -> dict[str, bytes]:
    """One blob for each level that has weights."""
    blobs = {}
    for level, named in state.levels.items():
        manifest = {"format": FORMAT, "config": state.config_hash, "level": level, "clock": state.clock.as_dict()}
        text = json.dumps(manifest, sort_keys=True, separators=(",", ":"))
        blobs[level] = save({name: tensor.cpu().contiguous() for name, tensor in named.items()}, metadata={KEY: text})
    return blobs


def decode(config: RecallConfig, blobs: Mapping[str, bytes], *, watermark: int) -> State:
    """The state that `encode` gave these blobs for.

    Raises:
        CheckpointRefused: see the module.
    """
    expected = layout(config)
    if set(blobs) != set(expected):
        raise CheckpointRefused(f"the levels are {sorted(blobs)}, not {sorted(expected)}")
    clocks, levels = set(), {}
    for level, forms in expected.items():
        _check_size(level, blobs[level], forms, config)
        clocks.add(_clock(level, blobs[level], config))
        levels[level] = _tensors(level, blobs[level], forms, config)
    if len(clocks) != 1:
        raise CheckpointRefused("the levels are from different moments")
    if wrong := next(contradictions(config, levels), None):
        raise CheckpointRefused(wrong)
    return State(config.hash, levels, clocks.pop(), watermark)


def _check_size(level: str, data: bytes, forms: Mapping[str, Form], config: RecallConfig) -> None:
    most = sum((config.max_responses if form.rows is None else form.rows) * form.columns * form.dtype.itemsize for form in forms.values())
    if len(data) > most + HEADER:
        raise CheckpointRefused(f"{level}: {len(data)} bytes are more than the level can have")


def _clock(level: str, data: bytes, config: RecallConfig) -> Clock:
    try:
        length = int.from_bytes(data[:8], "little")
        if length > HEADER:
            raise CheckpointRefused(f"{level}: the header is too long")
        manifest: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
        told = (manifest["format"], manifest["config"], manifest["level"])
        clock = Clock(**manifest["clock"])
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        if isinstance(error, CheckpointRefused):
            raise
        raise CheckpointRefused(f"{level}: there is no manifest") from None
    if told != (FORMAT, config.hash, level):
        raise CheckpointRefused(f"{level}: the manifest is of format, configuration and level {told}")
    counts = (clock.tokens, clock.events)
    if manifest["clock"].keys() != clock.as_dict().keys() or not all(type(count) is int and count >= 0 for count in counts):
        raise CheckpointRefused(f"{level}: the clock is {clock}")
    return clock


def _tensors(level: str, data: bytes, forms: Mapping[str, Form], config: RecallConfig) -> dict[str, Tensor]:
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise CheckpointRefused(f"{level}: {error}") from None
    if set(tensors) != set(forms):
        raise CheckpointRefused(f"{level}: the tensors are {sorted(tensors)}, not {sorted(forms)}")
    known = {len(tensors[name]) for name, form in forms.items() if form.rows is None and tensors[name].ndim == 2}
    if len(known) > 1 or max(known, default=0) > config.max_responses:
        raise CheckpointRefused(
            f"{level}: the tensors of answers have {sorted(known)} rows, expected one number of at most {config.max_responses}"
        )
    for name, form in forms.items():
        tensor, rows = tensors[name], max(known) if form.rows is None and known else form.rows
        if tensor.dtype != form.dtype or tuple(tensor.shape) != (rows, form.columns):
            raise CheckpointRefused(f"{level}.{name} is {tensor.dtype}{tuple(tensor.shape)}, expected {form.dtype}{(rows, form.columns)}")
    return {name: tensor.clone() for name, tensor in tensors.items()}  # memory of our own, aligned
