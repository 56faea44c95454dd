"""The outer loop: next-token loss, gradient, clip, step, on a clock of training tokens.

L1  A step depends on settings, weights, optimizer state and the step's number alone: a resumed run equals an unbroken one bit for bit.
L2  A loss or gradient that is not a finite number stops the run before it can touch the weights; the last checkpoint stays.
L3  The caller's random state is left as it was.
"""

import math
from collections.abc import Callable
from time import perf_counter

import torch
from torch import Tensor, nn

from model.train.batches import Batch, Batches
from model.train.checkpointing import Checkpoints, Progress
from model.train.evaluate import device_of
from model.train.history import Evaluate, Evaluated, Event, History, OnEvent, Saved, Stepped
from model.train.nats import carried_nats, detached, scored, token_nats
from model.train.outer import Outer
from model.train.settings import Settings


class Diverged(ArithmeticError):
    """Loss or gradient is not a finite number. Start from the last checkpoint with a smaller rate, a longer warm-up, or clipping."""


def train(
    model: nn.Module,
    batches: Batches,
    settings: Settings,
    on_event: OnEvent = lambda event: None,
    *,
    evaluate: Evaluate | None = None,
    checkpoints: Checkpoints | None = None,
    resume: bool = False,
    stop: Callable[[], bool] = lambda: False,
) -> History:
    """Train a model in place until `settings.tokens` training tokens are used up, or `stop()` is true after a step.

    The model has Hugging Face's shape (see `nats`). `batches(i)` is the i-th batch, i = step · accumulate + place; batches may differ
    in size: the clock counts their inputs. A model with `set_inner_scale(x)` has its inner rate warmed up.

    Raises:
        Diverged: L2.
        ValueError: nothing to train, a batch without a target, a row shorter than `windows`; CheckpointRefused with `resume`.
    """
    loop = _Loop(model, batches, settings, on_event, evaluate, checkpoints)
    was = model.training
    devices = [device_of(model)] if device_of(model).type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        if resume:
            loop.resume()
        model.train()
        try:
            loop.run(stop)
        finally:
            model.train(was)
            loop.warm_up(settings.tokens)
    return loop.history


class _Loop:
    def __init__(
        self,
        model: nn.Module,
        batches: Batches,
        settings: Settings,
        on_event: OnEvent,
        evaluate: Evaluate | None,
        checkpoints: Checkpoints | None,
    ) -> None:
        self._model, self._batches, self._settings = model, batches, settings
        self._on_event, self._evaluate, self._checkpoints = on_event, evaluate, checkpoints
        self._outer, self._device = Outer(model, settings), device_of(model)
        self._now = Progress()
        self.history = History()

    def resume(self) -> None:
        if self._checkpoints is None:
            raise ValueError("resume needs checkpoints")
        self._now = self._checkpoints.restore(self._model, self._outer)

    def run(self, stop: Callable[[], bool]) -> None:
        settings = self._settings
        while self._now.tokens < settings.tokens and not stop():
            before = self._now.tokens
            self._tell(self._step())
            done = self._now.tokens >= settings.tokens
            if self._evaluate and (done or _passed(before, self._now.tokens, settings.evaluate_every)):
                self._tell(Evaluated(self._now.step, self._now.tokens, self._evaluate(self._model)))
            if done or _passed(before, self._now.tokens, settings.checkpoint_every):
                self._save()
        self.history.finished = self._now.tokens >= settings.tokens
        if not self.history.finished and self.history.steps:
            self._save()

    def warm_up(self, tokens: int) -> None:
        if hasattr(self._model, "set_inner_scale"):
            self._model.set_inner_scale(self._settings.inner_scale_at(tokens))  # type: ignore[operator]

    def _step(self) -> Stepped:
        settings, now, started = self._settings, self._now, perf_counter()
        torch.manual_seed(_mixed(settings.seed, now.step))  # for dropout
        self.warm_up(now.tokens)
        indices = range(now.step * settings.accumulate, (now.step + 1) * settings.accumulate)
        batches = [self._batches(index) for index in indices]
        targets, tokens = sum(map(scored, batches)), sum(batch.inputs.numel() for batch in batches)
        if targets == 0:
            raise ValueError(f"the batches of step {now.step} have no target that counts")
        self._outer.drop_gradients()
        loss = sum(self._backward(batch.to(self._device), targets) for batch in batches)
        norm = self._clipped(loss)
        rate = settings.rate_at(now.tokens + tokens)
        self._outer.step(rate, tokens)
        seconds = perf_counter() - started
        self._now = Progress(now.step + 1, now.tokens + tokens, now.seconds + seconds)
        return Stepped(self._now.step, self._now.tokens, loss, rate, norm, tokens, seconds)

    def _backward(self, batch: Batch, targets: int) -> float:
        """Add the gradient of a batch's share of the step's mean loss; that share."""
        settings = self._settings
        if settings.windows == 1:
            return _descended(token_nats(self._model, batch, settings.precision).sum() / targets)
        if batch.inputs.shape[1] < settings.windows:
            raise ValueError(f"rows of {batch.inputs.shape[1]} tokens cannot be read in {settings.windows} windows")
        pieces = zip(batch.inputs.tensor_split(settings.windows, 1), batch.targets.tensor_split(settings.windows, 1), strict=True)
        state, held, total = None, None, 0.0  # type: object, Tensor | None, float
        for inputs, wanted in pieces:
            nats, state = carried_nats(self._model, Batch(inputs, wanted), state, settings.precision)
            share = nats.sum() / targets
            if settings.bptt:
                held = share if held is None else held + share
            else:
                total, state = total + _descended(share), detached(state)
        return total if held is None else _descended(held)

    def _clipped(self, loss: float) -> float:
        """The gradient's norm before it is clipped."""
        limit = math.inf if self._settings.clip is None else self._settings.clip
        norm = float(torch.nn.utils.clip_grad_norm_(self._outer.parameters, limit)) if math.isfinite(loss) else math.nan
        if not math.isfinite(norm):
            what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
            raise Diverged(
                f"{what} at step {self._now.step + 1}, token {self._now.tokens}: the weights are those before this step; {self._kept()}"
            )
        return norm

    def _kept(self) -> str:
        places = self._checkpoints.all() if self._checkpoints else []
        return f"the last good checkpoint is {places[-1]}" if places else "there is no checkpoint yet"

    def _save(self) -> None:
        if self._checkpoints is None:
            return
        try:
            place = self._checkpoints.save(self._model, self._outer, self._now)
        except ValueError as error:
            raise Diverged(f"after step {self._now.step} {error}; {self._kept()}") from None
        self._tell(Saved(self._now.step, self._now.tokens, place))

    def _tell(self, event: Event) -> None:
        if isinstance(event, Stepped):
            self.history.steps.append(event)
        elif isinstance(event, Evaluated):
            self.history.evaluations.append(event)
        self._on_event(event)


def _descended(loss: Tensor) -> float:
    torch.autograd.backward(loss)
    return float(loss.detach())


def _passed(before: int, after: int, period: int) -> bool:
    """Whether a multiple of `period` lies in (before, after]."""
    return period > 0 and after // period > before // period


def _mixed(seed: int, step: int) -> int:
    """A seed for one step: neighbouring seeds and steps share nothing (splitmix64's constants)."""
    return ((seed + 1) * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9) % 2**63
