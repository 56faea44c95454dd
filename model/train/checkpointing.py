"""Checkpoints of a training run: weights, optimizer state and position, so that a resumed run goes on bit for bit.

P1  A checkpoint is whole or absent: it is written beside its place, forced to disk, and renamed.
P2  Only finite weights are kept, and the newest good ones stay until newer ones are there.
P3  Reading is strict: exactly the tensors of the model, by name, shape and type. Safetensors and JSON only; nothing is unpickled.

A folder `tokens-…` holds `model.safetensors` and, for a Hugging Face model, `config.json` (so `from_pretrained` reads it),
`optimizer.safetensors`, and `progress.json` (position, and the optimizer's state with its tensors named).
"""

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PretrainedConfig

TENSOR, ITEMS, TUPLE = "$tensor", "$items", "$tuple"


class CheckpointRefused(ValueError):
    """A checkpoint that is damaged, or of another model; the message names the tensor or file."""


class Stateful(Protocol):
    """An optimizer, as far as a checkpoint cares."""

    def state_dict(self) -> dict[str, Any]:
        """Everything it keeps."""
        ...

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Take it back."""
        ...


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands. `seconds` are those of training steps only."""

    step: int = 0
    tokens: int = 0
    seconds: float = 0.0


class Checkpoints:
    """The checkpoints below a folder; the newest `keep` stay."""

    def __init__(self, folder: Path, keep: int = 2) -> None:
        self.folder, self._keep = folder, keep

    def all(self) -> list[Path]:
        """Complete checkpoints, oldest first."""
        return sorted(self.folder.glob("tokens-*")) if self.folder.is_dir() else []

    def progress(self) -> Progress:
        """Where the newest stands; the beginning where there is none."""
        return _progress(places[-1])[0] if (places := self.all()) else Progress()

    def save(self, model: nn.Module, optimizer: Stateful, progress: Progress) -> Path:
        """Write one (P1), then drop those that are too old.

        Raises:
            ValueError: a weight is not finite (P2).
        """
        weights = unique_weights(model)
        if bad := [name for name, weight in weights.items() if weight.is_floating_point() and not bool(weight.isfinite().all())]:
            raise ValueError(f"{bad[0]} has numbers that are not finite: it is not saved")
        place = self.folder / f"tokens-{progress.tokens:015d}"
        if not place.exists():
            self._write(place, model, weights, optimizer, progress)
        for old in self.all()[: -self._keep]:
            shutil.rmtree(old)
        return place

    def restore(self, model: nn.Module, optimizer: Stateful) -> Progress:
        """Load the newest into model and optimizer.

        Raises:
            CheckpointRefused: none there, or P3.
        """
        if not (places := self.all()):
            raise CheckpointRefused(f"{self.folder} holds no checkpoint")
        place = places[-1]
        progress, tree = _progress(place)
        state = unpacked(tree, _tensors(place / "optimizer.safetensors"))
        weights = _fitting(model, place)
        optimizer.load_state_dict(state)
        _fill(model, weights)
        return progress

    def _write(self, place: Path, model: nn.Module, weights: Mapping[str, Tensor], optimizer: Stateful, progress: Progress) -> None:
        draft = self.folder / f".draft-{place.name}"
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        tensors: dict[str, Tensor] = {}
        tree = packed(optimizer.state_dict(), tensors)
        save_file(_plain(weights), draft / "model.safetensors", metadata={"format": "pt"})
        save_file(_plain(tensors), draft / "optimizer.safetensors")
        (draft / "progress.json").write_text(json.dumps({"progress": asdict(progress), "optimizer": tree}) + "\n")
        if isinstance(config := getattr(model, "config", None), PretrainedConfig):
            config.to_json_file(draft / "config.json")
        for file in draft.iterdir():
            _force(file)
        _force(draft)
        draft.rename(place)
        _force(self.folder)


def unique_weights(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each tensor once: a weight that is tied to another goes by its first name."""
    seen: set[int] = set()
    weights = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) not in seen:
            seen.add(id(tensor))
            weights[name] = tensor.detach()
    return weights


def load_weights(model: nn.Module, place: Path) -> None:
    """The weights of a checkpoint into a model; the model is unchanged where they do not fit.

    Raises:
        CheckpointRefused: P3.
    """
    _fill(model, _fitting(model, place))


def _fitting(model: nn.Module, place: Path) -> dict[str, Tensor]:
    stored, own = _tensors(place / "model.safetensors"), unique_weights(model)
    if missing := sorted(own.keys() - stored.keys()):
        raise CheckpointRefused(f"{place} lacks the tensor {missing[0]} ({len(missing)} missing in all)")
    if extra := sorted(stored.keys() - own.keys()):
        raise CheckpointRefused(f"{place} has the tensor {extra[0]}, which this model does not know ({len(extra)} in all)")
    for name, weight in own.items():
        given = stored[name]
        if given.shape != weight.shape or given.dtype != weight.dtype:
            raise CheckpointRefused(f"{place}: {name} is {_described(given)}, this model needs {_described(weight)}")
    return stored


def _fill(model: nn.Module, stored: Mapping[str, Tensor]) -> None:
    with torch.no_grad():
        for name, weight in unique_weights(model).items():
            weight.copy_(stored[name])


def packed(node: Any, tensors: dict[str, Tensor], path: str = "") -> Any:  # noqa: ANN401
    """A tree of dictionaries, lists and plain values as JSON; its tensors go into `tensors` under their paths."""
    match node:
        case Tensor():
            tensors[path] = node.detach()
            return {TENSOR: path}
        case dict() if all(isinstance(key, str) for key in node):
            return {key: packed(value, tensors, f"{path}/{key}") for key, value in node.items()}
        case dict():
            return {ITEMS: [[key, packed(value, tensors, f"{path}/{key}")] for key, value in node.items()]}
        case tuple():
            return {TUPLE: [packed(value, tensors, f"{path}/{place}") for place, value in enumerate(node)]}
        case list():
            return [packed(value, tensors, f"{path}/{place}") for place, value in enumerate(node)]
        case None | bool() | int() | float() | str():
            return node
    raise ValueError(f"the optimizer keeps a {type(node).__name__} at {path}: a checkpoint holds tensors, numbers and text")


def unpacked(node: Any, tensors: Mapping[str, Tensor]) -> Any:  # noqa: ANN401
    """What `packed` was given.

    Raises:
        CheckpointRefused: a tensor is missing.
    """
    match node:
        case {"$tensor": str(path)}:
            if path not in tensors:
                raise CheckpointRefused(f"the optimizer's tensor {path} is missing")
            return tensors[path]
        case {"$items": list(items)}:
            return {key: unpacked(value, tensors) for key, value in items}
        case {"$tuple": list(items)}:
            return tuple(unpacked(value, tensors) for value in items)
        case dict():
            return {key: unpacked(value, tensors) for key, value in node.items()}
        case list():
            return [unpacked(value, tensors) for value in node]
    return node


def _plain(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Dense tensors that share no memory: the format takes no other."""
    seen: set[int] = set()
    plain = {}
    for name, tensor in tensors.items():
        dense = tensor.detach().cpu().contiguous()
        whole = dense.numel() * dense.element_size() == dense.untyped_storage().nbytes()
        plain[name] = dense if whole and dense.data_ptr() not in seen else dense.clone()
        seen.add(dense.data_ptr())
    return plain


def _tensors(file: Path) -> dict[str, Tensor]:
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise CheckpointRefused(f"{file} cannot be read: {error}") from None


def _progress(place: Path) -> tuple[Progress, Any]:
    """Where a checkpoint stands, and its optimizer's state, packed."""
    file = place / "progress.json"
    try:
        told = json.loads(file.read_text())
        return Progress(**told["progress"]), told["optimizer"]
    except (OSError, ValueError) as error:
        raise CheckpointRefused(f"{file} cannot be read: {error}") from None
    except (KeyError, TypeError):
        raise CheckpointRefused(f"{file} cannot be read: it has no progress and optimizer as this version writes them") from None


def _force(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _described(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}{tuple(tensor.shape)}"
