"""Which trials a bench consists of, and getting them done: those in the ledger are not run again."""

import multiprocessing
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from transformers.utils import logging

from bench.language.ablations import HOPE, VARIANTS
from bench.language.budgets import BUDGETS, asked
from bench.language.rates import GRID, rate_of
from bench.language.trials import TASKS, TUNING_SEED, TUNING_SHARE, Told, Trial, code_of, forget, run
from bench.ledger import Ledger, Line
from model.train.loop import Diverged

OF_HOPE = ("levels", "ablations", "widths")  # tasks of the kind hope: not there without it
QUARTER = 4  # these train on one of so many parts of the tokens that are asked for


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared with what.

    `tokens` None: what `budgets` gives each task, at the sizes and of the kinds that it names. `rate` None: the tuned rate where the ledger
    has one, else that of `rates.RATES`.
    """

    sizes: tuple[str, ...]
    kinds: tuple[str, ...]
    tasks: tuple[str, ...]  # of `TASKS`; others are no trials
    seeds: int
    tokens: int | None = None
    rate: float | None = None

    def tuning(self) -> list[Trial]:
        """Every rate of the grid for every kind and size."""
        tokens = max(1, self._tokens("text") // TUNING_SHARE)
        return [Trial("tune", size, kind, TUNING_SEED, tokens, rate) for size in self.sizes for kind in self.kinds for rate in GRID]

    def trials(self, ledger: Ledger) -> list[Trial]:
        """Every seed of every task; seed by seed, so that what is there at an interruption is comparable."""
        return [
            Trial(task, size, kind, seed, self._tokens(task), self._rate(ledger, task, size, kind))
            for size in self.sizes
            for seed in range(self.seeds)
            for task in self.tasks
            if task in TASKS and size in self._sizes(task)
            for kind in self._kinds(task)
        ]

    def has(self, task: str) -> bool:
        """Whether the task is asked for, of a kind that it can have."""
        return task in self.tasks and (task not in OF_HOPE or HOPE in self.kinds)

    def _sizes(self, task: str) -> tuple[str, ...]:
        return self.sizes if self.tokens else asked(self.sizes, BUDGETS[task].size)

    def _kinds(self, task: str) -> tuple[str, ...]:
        if task not in OF_HOPE:
            return self.kinds if self.tokens else asked(self.kinds, BUDGETS[task].kinds)
        return () if not self.has(task) else tuple(VARIANTS) if task == "ablations" else (HOPE,)

    def _tokens(self, task: str) -> int:
        if not self.tokens:
            return BUDGETS[task].tokens
        return max(1, self.tokens // QUARTER) if task in OF_HOPE else self.tokens

    def _rate(self, ledger: Ledger, task: str, size: str, kind: str) -> float:
        """Variants of HOPE are trained at HOPE's rate."""
        kind = HOPE if task == "ablations" else kind
        return self.rate or tuned(ledger, size, kind) or rate_of(kind, size)


def tuned(ledger: Ledger, size: str, kind: str) -> float | None:
    """The rate with the fewest bits of those tried, or none."""
    tried = [line for line in ledger.lines if (line["task"], line.get("size"), line.get("kind")) == ("tune", size, kind) and "bits" in line]
    return float(min(tried, key=lambda line: line["bits"])["rate"]) if tried else None


def missing(trials: Iterable[Trial], ledger: Ledger) -> list[Trial]:
    """Those that the ledger does not have."""
    return [trial for trial in trials if ledger.find(trial.named()) is None]


def done(trials: Iterable[Trial], ledger: Ledger) -> list[Line]:
    """The lines of those that it has."""
    found = (ledger.find(trial.named()) for trial in trials)
    return [line for line in found if line is not None]


def outdated(lines: Iterable[Line]) -> dict[str, int]:
    """How many of the lines, by kind, were measured before the source of that kind changed."""
    return dict(Counter(line["kind"] for line in lines if "code" in line and line["code"] != code_of(line["kind"], line.get("task", ""))))


def execute(
    trials: Sequence[Trial],
    ledger: Ledger,
    below: Path,
    jobs: int,
    told: Told,
    saying: Callable[[str], object],
    unfinished: Path | None = None,
) -> None:
    """Run what is missing and note it; with several jobs in processes of their own. `told` hears of tokens trained on.

    With `unfinished` an interrupted trial leaves its checkpoints below that folder, and goes on from them.
    """
    open_ones = missing(trials, ledger)
    forget([trial for trial in trials if trial not in open_ones], unfinished)  # a kill may have come between a line and this
    for line in _lines(open_ones, below, jobs, told, unfinished):
        ledger.add(line)
        forget([trial for trial in open_ones if trial.named().items() <= line.items()], unfinished)
        outcome = line.get("failed") or f"{line['bits']:.4f} bits"
        saying(f"{line['task']} {line['size']} {line['kind']} seed {line['seed']} rate {line['rate']:g}: {outcome}")


def attempt(trial: Trial, below: Path, told: Told = lambda tokens: None, unfinished: Path | None = None) -> Line:
    """The trial's line; a training that diverged is a result, too."""
    try:
        return run(trial, below, told, unfinished)
    except Diverged as diverged:
        return trial.named() | {"failed": f"diverged: {diverged}"}


def quiet() -> None:
    """One thread, and no word of libraries about kernels that a CPU cannot have."""
    torch.set_num_threads(1)
    logging.set_verbosity_error()


def _lines(trials: Sequence[Trial], below: Path, jobs: int, told: Told, unfinished: Path | None) -> Iterator[Line]:
    if jobs == 1:
        yield from map(partial(attempt, below=below, told=told, unfinished=unfinished), trials)
        return
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), initializer=quiet) as pool:
        futures = [pool.submit(attempt, trial, below, unfinished=unfinished) for trial in trials]
        try:
            for future in as_completed(futures):
                line = future.result()
                told(line["tokens"])
                yield line
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
