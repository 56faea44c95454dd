"""A sequence's state as bytes: safetensors, with a header that says which model it belongs to (hope.md §9).

A state is the change of one base: any other base refuses it. What is loaded continues bit for bit where it stopped. Bytes from outside are
not trusted: exactly the tensors of this configuration, in their shapes and types, finite; no pickle, no code.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from model.hope.lm import HopeLM
from model.hope.online import HopeState

FORMAT = 1  # of the tree of tensors; raise it when names or meanings change
KEY = "palimpsest-hope"


class StateRefused(ValueError):
    """The bytes are no state of this model; the message says what differs. Nothing was loaded."""


@dataclass(frozen=True, slots=True)
class Header:
    """What a saved state says about itself. `base` and `config` are SHA-256 in hex; `owner` is the caller's word (a session, a bank)."""

    format: int
    base: str
    config: str
    owner: str


def base_digest(model: HopeLM) -> str:
    """SHA-256 over names, types, shapes and bytes of all weights, hex."""
    total = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        total.update(f"{name}:{tensor.dtype}:{tuple(tensor.shape)};".encode())
        total.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy().data)
    return total.hexdigest()


def encode(model: HopeLM, state: HopeState, owner: str = "") -> bytes:
    """The state of `model` as safetensors bytes. Equal states give equal bytes.

    Raises:
        StateRefused: a number that is not finite: such a state must not outlive its request.
    """
    named = {name: tensor.detach().cpu().contiguous() for name, tensor in state.named()}
    _check_finite(named)
    header = Header(FORMAT, base_digest(model), model.config.digest, owner)
    # tensors that share memory (boundary and running weights at a boundary) are written twice: a file has no references
    return save({name: tensor.clone() for name, tensor in named.items()}, metadata={KEY: json.dumps(asdict(header), sort_keys=True)})


def decode(model: HopeLM, data: bytes) -> HopeState:
    """The state that `encode` made these bytes of, on the model's device.

    Raises:
        StateRefused: not a saved state, of another format, base or configuration, or with a tensor missing, left over, misshapen or
            not finite, or with tokens that the model does not know; names it.
    """
    header = read_header(data)
    if header.format != FORMAT:
        raise StateRefused(f"the state has format {header.format}, this version reads {FORMAT}")
    if header.config != model.config.digest:
        raise StateRefused(f"the state is of configuration {header.config[:12]}, this model is {model.config.digest[:12]}")
    if header.base != (base := base_digest(model)):
        raise StateRefused(f"the state is a change of base {header.base[:12]}, this model is {base[:12]}: it means nothing here")
    try:
        tensors = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise StateRefused(f"the state cannot be read: {error}") from None
    try:
        state = model.initial_state(1).filled(tensors)  # of one row: nothing is made in a size that the bytes only claim
    except ValueError as error:
        raise StateRefused(str(error)) from None
    rows = {tuple(tensor.shape[:1]) for tensor in tensors.values()}  # () of a single number
    if len(rows) != 1:
        raise StateRefused(f"the tensors have different numbers of rows: {sorted(rows)}")
    _check_finite(tensors)
    _check_whole(state, model.config.vocab_size)
    return state.map(torch.clone).to(model.device)  # aligned: where bytes lie must not choose between kernels


def read_header(data: bytes) -> Header:
    """Whose state this is, without loading it.

    Raises:
        StateRefused: there is no such header.
    """
    try:
        length = int.from_bytes(data[:8], "little")
        told: Any = json.loads(json.loads(data[8 : 8 + length])["__metadata__"][KEY])
        return Header(int(told["format"]), str(told["base"]), str(told["config"]), str(told["owner"]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        raise StateRefused("these bytes are no saved state of a HOPE model") from None


def _check_finite(named: dict[str, Tensor]) -> None:
    for name, tensor in named.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise StateRefused(f"{name} has numbers that are not finite")


def _check_whole(state: HopeState, vocabulary: int) -> None:
    """Tokens are read again later, where one outside the vocabulary would end a process that runs on a GPU."""
    known = {"position": (state.position, 2**62)} | ({} if state.window is None else {"window.tokens": (state.window.tokens, vocabulary)})
    for name, (tensor, end) in known.items():
        if tensor.numel() and not bool(((tensor >= 0) & (tensor < end)).all()):
            raise StateRefused(f"{name} holds {int(tensor.min())} to {int(tensor.max())}, it must be at least 0 and below {end}")
