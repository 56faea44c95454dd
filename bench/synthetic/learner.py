"""A small training loop for any sequence model: AdamW, warm-up and cosine, short rows first, and a stop as soon as the task is solved.

A model is called with token ids (B, T) and gives logits (B, T, V), or an object that has them as `logits` (the Hugging Face shape). What
is kept are the weights that were best on the held-out rows; the test rows are scored once, with these.
"""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.hooks import RemovableHandle
from transformers import PreTrainedModel

from bench.synthetic.task import IGNORED, Examples, Ids, Score, Task, percent_right

SOLVED = 100.0
Told = Callable[[int, str], object]  # steps done since the last word, what to show


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a model is trained. `steps` is the budget: a solved task ends earlier.

    With `first` the rows are at most that long at the beginning, and the limit grows evenly to the longest within `growing` of the steps.
    `noise` is added to every embedded token while training, in standard deviations of the embeddings. What is summed over a row has to bear
    it, so a count that is a little off at the longest row costs something; without, it costs nothing until it is half a step off.

    Raises:
        ValueError: a number out of range, naming the field.
    """

    steps: int = 4_000
    batch: int = 64
    rate: float = 3e-3
    decay: float = 0.0
    clip: float = 1.0
    noise: float = 0.0
    warmup: int = 100
    first: int | None = None
    growing: float = 0.3
    check_every: int = 200
    calm: int = 2  # checks in a row without a mistake before the task is called solved

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "rate", "clip", "check_every", "calm"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}, it must be positive")
        if self.noise < 0:
            raise ValueError(f"noise is {self.noise}, it must be 0 or more")
        if not 0.0 <= self.growing <= 1.0:
            raise ValueError(f"growing is {self.growing}, it is a share of the steps and must lie between 0 and 1")

    def times(self, budget: float) -> Self:
        """The same recipe with another number of steps."""
        return replace(self, steps=max(1, round(self.steps * budget)))

    def rate_at(self, step: int) -> float:
        """Learning rate of a step: linear warm-up, then a cosine to a hundredth."""
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        along = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, along))))

    def limit_at(self, step: int, longest: int) -> int:
        """How long the rows of a step may be."""
        if self.first is None or self.first >= longest or step >= self.steps * self.growing:
            return longest
        return self.first + round((longest - self.first) * step / (self.steps * self.growing))


@dataclass(frozen=True, slots=True)
class Learned:
    """What came out. `scores` are percent on the test rows, with the weights that were best on the held-out rows at `best_step`."""

    scores: Mapping[str, float]
    held: Mapping[str, float]
    solved: bool
    steps: int
    best_step: int
    seconds: float
    loss: float
    failed: str | None = None  # why training ended before its time, in words


def learn(model: nn.Module, task: Task, recipe: Recipe, *, seed: int, told: Told = lambda done, words: None) -> Learned:
    """Train `model` in place on its own device; it ends with its best weights. The same seed and weights give the same run."""
    run = _Run(model, task, recipe, np.random.default_rng([seed, 1]))
    started = time.perf_counter()
    failed = run.train(told)
    run.restore()
    scores = {name: accuracy(model, part, task.score) for name, part in task.test.items()}
    return Learned(scores, run.best, run.solved, run.step, run.best_step, time.perf_counter() - started, run.loss, failed)


def accuracy(model: nn.Module, examples: Examples, score: Score, rows: int = 256) -> float:
    """Percent right, without learning; `rows` at a time."""
    answers = np.zeros_like(examples.inputs)
    model.eval()
    with torch.no_grad():
        for start in range(0, len(examples), rows):
            there = np.arange(start, min(start + rows, len(examples)))
            part = examples.only(there)
            answers[there, : part.inputs.shape[1]] = logits_of(model, _on(model, part.inputs)).argmax(-1).cpu().numpy()
    return percent_right(answers, examples, score)


def logits_of(model: nn.Module, ids: Tensor) -> Tensor:
    """ids (B, T) int64 → logits (B, T, V), whichever of the two shapes of answer the model has."""
    out = model(ids, use_cache=False) if isinstance(model, PreTrainedModel) else model(ids)
    return out if isinstance(out, Tensor) else out.logits


def _on(model: nn.Module, ids: Ids) -> Tensor:
    parameter = next(model.parameters(), None)
    return torch.from_numpy(ids).to(parameter.device if parameter is not None else "cpu")


class _Run:
    """One training run: batches, steps, checks, and the best weights so far."""

    def __init__(self, model: nn.Module, task: Task, recipe: Recipe, generator: np.random.Generator) -> None:
        self.model, self.task, self.recipe, self.generator = model, task, recipe, generator
        self.optimizer = torch.optim.AdamW(_groups(model, recipe.decay), lr=recipe.rate, betas=(0.9, 0.98))
        self.step, self.best_step, self.right_in_a_row, self.loss = 0, 0, 0, math.nan
        self.best: dict[str, float] = dict.fromkeys(task.held, 0.0)
        self.weights: dict[str, Tensor] | None = None
        self.noise = _Noise(recipe.noise, int(generator.integers(2**32))) if recipe.noise else None

    @property
    def solved(self) -> bool:
        return self.right_in_a_row >= self.recipe.calm

    def train(self, told: Told) -> str | None:
        """Steps until the task is solved or the budget spent; the reason when it fails earlier."""
        if self.noise is None:
            return self.steps(told)
        with self.noise.added(self.model):
            return self.steps(told)

    def steps(self, told: Told) -> str | None:
        """The loop of `train`."""
        while self.step < self.recipe.steps and not self.solved:
            self.loss = self.update()
            self.step += 1
            if not math.isfinite(self.loss):
                return f"the loss is not finite at step {self.step:,}"
            if self.step % self.recipe.check_every == 0 or self.step == self.recipe.steps:
                words = self.check()
                told(self.recipe.check_every, f"loss {self.loss:.4f}, held out {words}")
        return None

    def update(self) -> float:
        """One step of AdamW on one batch; its loss."""
        self.model.train()
        self.scale_inner(min(1.0, 0.1 + 0.9 * self.step / (0.1 * self.recipe.steps)))
        batch = self.batch()
        logits = logits_of(self.model, _on(self.model, batch.inputs))
        loss = functional.cross_entropy(logits.flatten(0, 1).float(), _on(self.model, batch.targets).flatten(), ignore_index=IGNORED)
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at(self.step)
        self.optimizer.step()
        return float(loss.detach())

    def batch(self) -> Examples:
        """Rows drawn evenly from those that are short enough by now."""
        train = self.task.train
        limit = self.recipe.limit_at(self.step, int(train.lengths.max()))
        may = np.flatnonzero(train.lengths <= max(limit, int(train.lengths.min())))
        return train.only(self.generator.choice(may, size=self.recipe.batch))

    def check(self) -> str:
        """Score the held-out rows; keep the weights when they are the best. In words: the percents."""
        self.scale_inner(1.0)
        scores = {name: accuracy(self.model, part, self.task.score) for name, part in self.task.held.items()}
        self.right_in_a_row = self.right_in_a_row + 1 if min(scores.values()) >= SOLVED else 0
        if self.weights is None or sum(scores.values()) >= sum(self.best.values()):
            self.best, self.best_step = scores, self.step
            self.weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
        return " / ".join(f"{score:.1f}" for score in scores.values())

    def scale_inner(self, scale: float) -> None:
        """A model that learns while it reads starts with small inner steps (hope.md §6.5); it is always scored with whole ones."""
        if hasattr(self.model, "set_inner_scale"):
            self.model.set_inner_scale(scale)  # type: ignore[operator]

    def restore(self) -> None:
        if self.weights is not None:
            self.model.load_state_dict(self.weights)


class _Noise:
    """What training adds to embedded tokens; the same seed adds the same."""

    def __init__(self, size: float, seed: int) -> None:
        self.size, self.generator = size, torch.Generator().manual_seed(seed)

    def added(self, model: nn.Module) -> RemovableHandle:
        """Until the handle is removed (or its block left)."""
        embedding = next(module for module in model.modules() if isinstance(module, nn.Embedding))
        size = self.size * float(embedding.weight.detach().std())
        return embedding.register_forward_hook(lambda module, _, out: self.noisy(out, size) if module.training else out)

    def noisy(self, embedded: Tensor, size: float) -> Tensor:
        """(B, T, width)."""
        return embedded + size * torch.randn(embedded.shape, generator=self.generator).to(embedded)


def _groups(model: nn.Module, decay: float) -> list[dict[str, object]]:
    """Matrices decay; vectors (biases, gains) do not."""
    parameters = [parameter for parameter in model.parameters() if parameter.requires_grad]
    matrices = [parameter for parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for parameter in parameters if parameter.ndim < 2]
    return [{"params": matrices, "weight_decay": decay}, {"params": vectors, "weight_decay": 0.0}]
