"""A start: low-rank changes of the encoder's linear maps, read, checked and added to its weights.

S1  A start is used only when the SHA-256 of the very bytes that are parsed is the expected one, and only on the encoder it was learned for.
S2  Its tensors are exactly two for each linear map, of one rank; anything else is refused with the name of the tensor.
S3  The sum is taken in float64 and rounded once: W' = float32(W + up down), the same bits on every machine that adds in one order.
    `merged` adds rank by rank, so no matrix library decides the order.
S4  An encoder with a start has a digest of its own, of both digests: what was learned with one is never read with the other.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from model.encoder_weights import LAYERS, PINNED, EncoderRefused, shapes
from model.start.shipped import SHIPPED, SHIPPED_SHA256, STARTS

LARGEST_RANK = 64
POWER_OF_TWO = 0.5  # the mantissa of each of them
MAPS = tuple(
    f"encoder.layer.{layer}.{part}"
    for layer in range(LAYERS)
    for part in (
        "attention.self.query",
        "attention.self.key",
        "attention.self.value",
        "attention.output.dense",
        "intermediate.dense",
        "output.dense",
    )
)
BASE = "base_sha256"  # in the file's metadata: the encoder that the start was learned for

Tensor = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Start:
    """A start: `down` (rank, in) and `up` (out, rank) of each map of `MAPS`, the encoder it is for, and the digest of its file."""

    changes: Mapping[str, tuple[Tensor, Tensor]]
    base: str  # SHA-256 of the encoder's weights
    sha256: str  # of the file

    @property
    def rank(self) -> int:
        """The rank of every change."""
        down, _ = next(iter(self.changes.values()))
        return len(down)


def read_start(path: Path, expected_sha256: str) -> Start:
    """The start in a file, once S1 and S2 hold.

    Raises:
        EncoderRefused: the file is missing, has another digest, or holds something else; the message names the tensor.
    """
    try:
        raw = path.read_bytes()  # read once: between hashing and a second reading it could be swapped
    except OSError as error:
        raise EncoderRefused(
            f"the encoder's start {path} cannot be read ({error.strerror}); PALIMPSEST_ENCODER_START names another file, `shipped` the "
            "one of the package, `none` the plain encoder"
        ) from error
    digest = hashlib.sha256(raw).hexdigest()
    if digest != expected_sha256.strip().lower():
        way = "install the package again"
        if path not in {file for file, _ in STARTS.values()}:
            way = (
                "if this start is meant, set PALIMPSEST_ENCODER_START_SHA256 to its digest "
                "(what was learned with another start will not be found with this one)"
            )
        raise EncoderRefused(
            f"the encoder's start {path} has SHA-256 {digest}, expected {expected_sha256 or 'none, since none was given'}; {way}"
        )
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        tensors: dict[str, Tensor] = load(raw)
    except SafetensorError as error:
        raise EncoderRefused(f"the encoder's start {path} is not a readable safetensors file: {error}") from error
    return Start(_checked(tensors, path), _base(raw, path), digest)


def write_start(path: Path, changes: Mapping[str, tuple[Tensor, Tensor]], base: str) -> Start:
    """Write a start; the same changes give the same bytes."""
    from safetensors.numpy import save

    tensors = {f"{name}.{part}": value for name in MAPS for part, value in zip(("down", "up"), changes[name], strict=True)}
    raw = save(tensors, metadata={BASE: base})
    path.write_bytes(raw)
    return read_start(path, hashlib.sha256(raw).hexdigest())


def merged(weights: Mapping[str, Tensor], start: Start) -> dict[str, Tensor]:
    """The weights with a start in them, S3."""
    result = dict(weights)
    for name, (down, up) in start.changes.items():
        total = weights[f"{name}.weight"].astype(np.float64)
        for out, into in zip(up.T.astype(np.float64), down.astype(np.float64), strict=True):
            total += out[:, None] * into[None, :]
        result[f"{name}.weight"] = total.astype(np.float32)
    return result


def with_share(start: Start, was: float, share: float) -> dict[str, tuple[Tensor, Tensor]]:
    """The changes of a start that took the share `was` of what was learned, at another share: the bits that training with that one gives.

    Raises:
        ValueError: `was` is no power of two. Then products were rounded, and what was learned cannot be told from its neighbours any more.
    """
    if math.frexp(was)[0] != POWER_OF_TWO:
        raise ValueError(
            f"what was learned cannot be had back exactly from a start that took {was:g} of it, only from one that took a power of two "
            "(1, 0.5, 0.25): take it from such a one, or train with the strength that you want"
        )
    return {name: (down, (up / np.float32(was)) * np.float32(share)) for name, (down, up) in start.changes.items()}


def digest_with(base: str, start: str) -> str:
    """The digest of an encoder with a start, of the digests of both; that of the encoder alone if `start` is empty."""
    return hashlib.sha256(f"{base}\n{start}\n".encode()).hexdigest() if start else base


def way_to(digest: str, *, packaged: bool = True) -> str:
    """How a service has the encoder of this digest; `packaged`: whether it has the encoder of the package, with a start or without."""
    for name, one in _packaged().items():
        if one == digest:
            return f"PALIMPSEST_ENCODER_START={name}{'' if packaged else ', with the encoder of the package,'} is that encoder"
    return "name the file of its start by PALIMPSEST_ENCODER_START, or its folder by PALIMPSEST_ENCODER"


def told_apart(theirs: str, ours: str) -> str:
    """What was learned with the encoder `theirs` is not for a service that has `ours`: which these are, and what to do about it."""
    return (
        f"the encoder {theirs[:12]}, this service has {ours[:12]}: {way_to(theirs, packaged=ours in _packaged().values())}, and "
        'docs/operations.md says under "Rebuild on a new base" how a bank is taught again with another'
    )


def _packaged() -> dict[str, str]:
    """The digests of the package's encoder, without a start and with each of the package's, by the names that settings have for them."""
    return {"none": PINNED, **{name: digest_with(PINNED, sha256) for name, (_, sha256) in STARTS.items()}}


def _checked(tensors: Mapping[str, Tensor], path: Path) -> dict[str, tuple[Tensor, Tensor]]:
    names = [f"{name}.{part}" for name in MAPS for part in ("down", "up")]
    for name in names:
        if name not in tensors:
            raise EncoderRefused(f"the encoder's start {path} has no tensor {name}; take a file that `python -m model.start train` wrote")
    for name, value in sorted(tensors.items()):
        if name not in names:
            raise EncoderRefused(f"the encoder's start {path} has a tensor {name} that no start has; take a file of this version")
        if value.dtype != np.float32 or value.ndim != 2 or not np.isfinite(value).all():
            raise EncoderRefused(f"the encoder's start {path} has a tensor {name} that is no matrix of finite numbers in float32")
    rank, sizes = tensors[names[0]].shape[0], shapes()
    if not 1 <= rank <= LARGEST_RANK:
        raise EncoderRefused(f"the encoder's start {path}: {names[0]} has rank {rank}, not 1 to {LARGEST_RANK}")
    for name in MAPS:
        rows, columns = sizes[f"{name}.weight"]
        for part, shape in (("down", (rank, columns)), ("up", (rows, rank))):
            if (found := tensors[f"{name}.{part}"].shape) != shape:
                raise EncoderRefused(f"the encoder's start {path}: {name}.{part} has shape {found}, expected {shape}")
    return {name: (tensors[f"{name}.down"], tensors[f"{name}.up"]) for name in MAPS}


def _base(raw: bytes, path: Path) -> str:
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])  # the layout of safetensors, which `load` has just checked
    base = header.get("__metadata__", {}).get(BASE)
    if base is None:
        raise EncoderRefused(f"the encoder's start {path} does not say for which encoder it is ({BASE} in its metadata)")
    return str(base)


def shipped_start() -> Start:
    """The start of this package. Raises EncoderRefused: its file is missing or damaged."""
    return read_start(SHIPPED, SHIPPED_SHA256)
