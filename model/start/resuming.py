"""A run that was stopped goes on where it last wrote itself down, and ends in the file that it would have ended in.

What is written is small: the changes, the two moments that AdamW keeps of each, what the steps showed, and the recipe that all of it is of.
Batches depend on seed and step alone, so there is nothing else.
"""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from model.start.training import Step, Training

EVERY = 25  # steps
MOMENTS = ("exp_avg", "exp_avg_sq")


def beside(out: Path) -> Path:
    """Where a run that will write `out` keeps itself until then."""
    return out.with_suffix(".part")


def keep(path: Path, training: Training, steps: list[Step], made_of: dict[str, Any]) -> None:
    """Write a run down; the file is replaced as a whole."""
    tensors = {}
    for place, parameter in enumerate(training.parameters):
        tensors[f"{place}.value"] = parameter.detach()
        for name in MOMENTS:
            tensors[f"{place}.{name}"] = training.optimizer.state[parameter][name]
    said = {"made_of": json.dumps(made_of, sort_keys=True), "steps": json.dumps([[step.loss, step.drift] for step in steps])}
    fresh = path.with_suffix(".writing")
    save_file(tensors, fresh, metadata=said)
    fresh.replace(path)


def take_up(path: Path, training: Training, made_of: dict[str, Any]) -> list[Step]:
    """Bring `training` to where the run in a file was, and say what its steps showed; none if there is no such file.

    Raises:
        ValueError: the file is of another recipe, or is none.
    """
    if not path.is_file():
        return []
    try:
        with safe_open(path, "pt") as kept:
            said = kept.metadata()
            if json.loads(said["made_of"]) != json.loads(json.dumps(made_of)):
                raise ValueError(f"{path} is a run of another recipe or other data: delete it, or choose another --out")
            steps = [Step(*shown) for shown in json.loads(said["steps"])]
            for place, parameter in enumerate(training.parameters):
                parameter.data.copy_(kept.get_tensor(f"{place}.value"))
                moments = {name: kept.get_tensor(f"{place}.{name}") for name in MOMENTS}
                training.optimizer.state[parameter] = {"step": torch.tensor(float(len(steps))), **moments}
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is no run of this command ({error}): delete it, or choose another --out") from error
    return steps
