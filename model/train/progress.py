"""A progress bar on standard error: tokens, tokens per second, time left, the losses."""

from types import TracebackType
from typing import Self

from tqdm import tqdm

from model.train.history import Evaluated, Event, Saved, Stepped

MEMORY = 0.95  # of the loss that is shown


class Progressbar:
    """Shows events while it is open; silent when quiet."""

    def __init__(self, total: int, done: int = 0, *, quiet: bool = False) -> None:
        self._left = total - done
        self._bar = tqdm(total=total, initial=done, unit="tok", unit_scale=True, dynamic_ncols=True, disable=quiet)
        self._loss: float | None = None
        self._validation = ""

    def __call__(self, event: Event) -> None:
        """Take an event in."""
        match event:
            case Stepped():
                self._loss = event.loss if self._loss is None else MEMORY * self._loss + (1.0 - MEMORY) * event.loss
                self._bar.set_postfix_str(f"loss {self._loss:.3f}{self._validation}", refresh=False)
                self._bar.update(min(event.step_tokens, self._left))  # the last step may pass the budget
                self._left -= min(event.step_tokens, self._left)
            case Evaluated():
                self._validation = f", validation {event.scores['loss']:.3f}" if "loss" in event.scores else ""
            case Saved():
                pass

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.close()
