"""What a training run is made of, as two frozen records: `Settings` for the loop, `Run` for everything around it (data, tokenizer, model).

Everything that happens at a moment is counted in training tokens, never in steps or seconds: schedules, evaluations and checkpoints fall on
the same tokens whatever the batch, and a level of period C means the same in every run.

Defaults follow hope.md §6.5: AdamW, cosine, weight decay 0.1 on matrices, clip 1.0; the starts of fast memories decay less than 1e-2; the
inner rate is warmed up from 0.1 to 1 over the first tenth.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, Self, get_args

Precision = Literal["fp32", "bf16"]
OptimizerName = Literal["adamw", "muon", "m3"]
Schedule = Literal["cosine", "constant"]

LARGEST_START_DECAY = 1e-2  # hope.md §6.5


@dataclass(frozen=True, slots=True)
class Settings:
    """How a model is trained. `tokens` is the budget; shares are of that budget.

    Raises:
        ValueError: values out of range, each named with its field.
    """

    tokens: int
    rate: float = 1e-3
    schedule: Schedule = "cosine"
    rate_end: float = 0.1  # where the cosine ends, in peak rates
    warmup: float = 0.02  # share of the budget over which the rate rises linearly
    optimizer: OptimizerName = "adamw"
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.1  # matrices only: never norms, biases, gates of one dimension
    decay_embeddings: bool = False
    decay_starts: float = 0.0  # for meta-learned starts of fast memories
    clip: float | None = 1.0  # global norm of the outer gradient; None: no clipping
    inner_warmup: float = 0.1  # share of the budget over which the model's inner rate rises from `inner_start` to 1
    inner_start: float = 0.1
    precision: Precision = "fp32"
    accumulate: int = 1  # batches whose gradients make one step
    windows: int = 1  # a batch's rows are read in this many pieces, the state carried from one to the next
    bptt: bool = False  # whether the gradient flows through the carried state
    evaluate_every: int = 0  # tokens; 0: at the end only
    checkpoint_every: int = 0  # tokens; 0: at the end only
    seed: int = 0

    def __post_init__(self) -> None:
        _refuse([*_wrong_choices(self), *self._wrong_counts(), *self._wrong_rates()])

    def _wrong_counts(self) -> list[str]:
        wrong = [_at_least(self, name, 1) for name in ("tokens", "accumulate", "windows")]
        wrong += [_at_least(self, name, 0) for name in ("evaluate_every", "checkpoint_every", "seed")]
        return [text for text in wrong if text]

    def _wrong_rates(self) -> list[str]:
        wrong = [_within(self, name, 0.0, 1.0) for name in ("rate_end", "warmup", "inner_warmup", "inner_start")]
        wrong += [_within(self, name, 0.0, 1.0, open_end=True) for name in ("beta1", "beta2", "weight_decay")]
        wrong.append(_within(self, "decay_starts", 0.0, LARGEST_START_DECAY, open_end=True))
        for name in ("rate", "clip"):
            value = getattr(self, name)
            if (value, name) != (None, "clip") and not (_is_number(value) and 0.0 < value < math.inf):
                wrong.append(f"{name} is {value!r}, it must be a positive number{' or None' if name == 'clip' else ''}")
        return [text for text in wrong if text]

    def rate_at(self, tokens: int) -> float:
        """The outer rate of a step that ends at `tokens`: a linear warm-up, then a half cosine to `rate_end`, or constant."""
        share = min(tokens / self.tokens, 1.0)
        if share < self.warmup:
            return self.rate * share / self.warmup
        if self.schedule == "constant":
            return self.rate
        way = (share - self.warmup) / (1.0 - self.warmup) if self.warmup < 1.0 else 1.0
        return self.rate * (self.rate_end + (1.0 - self.rate_end) * 0.5 * (1.0 + math.cos(math.pi * way)))

    def inner_scale_at(self, tokens: int) -> float:
        """What the model's inner rate is multiplied by in the step that starts at `tokens` (hope.md §8.3)."""
        ramp = self.inner_warmup * self.tokens
        return 1.0 if tokens >= ramp else self.inner_start + (1.0 - self.inner_start) * tokens / ramp

    def but(self, **changes: Any) -> Self:  # noqa: ANN401
        """The same settings with changes."""
        return replace(self, **changes)


@dataclass(frozen=True, slots=True)
class Run:
    """A whole run, as `run.json` keeps it beside its checkpoints.

    `model` is a Hugging Face configuration as a dictionary (with `model_type`). `fingerprint` is of the tokens, so that a run is not
    resumed on a text that has changed.

    Raises:
        ValueError: values out of range, each named with its field.
    """

    data: tuple[str, ...]
    model: Mapping[str, Any]
    loop: Settings
    tokenizer: str = "byte"
    validation: float = 0.1  # share of every domain, at its end
    batch: int = 12
    context: int = 64
    evaluate_tokens: int = 0  # tokens of validation text read at an evaluation; 0: all
    keep: int = 2  # newest checkpoints that stay
    fingerprint: str = ""

    def __post_init__(self) -> None:
        wrong = [_at_least(self, name, 1) for name in ("batch", "context", "keep")]
        wrong += [_at_least(self, "evaluate_tokens", 0)]
        if not (_is_number(self.validation) and 0.0 < self.validation < 1.0):
            wrong.append(f"validation is {self.validation!r}, it must lie between 0 and 1")
        if not self.data:
            wrong.append("data is empty, name at least one file or folder of text")
        _refuse([text for text in wrong if text])

    def save(self, path: Path) -> None:
        """Write as JSON."""
        draft = path.with_suffix(".draft")
        draft.write_text(json.dumps(asdict(self), indent=2, sort_keys=True) + "\n")
        draft.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Run":
        """Read what `save` wrote.

        Raises:
            ValueError: no such file, not JSON, a field unknown or missing, a value out of range.
        """
        try:
            told = json.loads(path.read_text())
        except FileNotFoundError:
            raise ValueError(f"{path.parent} holds no training run (there is no {path.name})") from None
        except json.JSONDecodeError as error:
            raise ValueError(f"{path} is not JSON: {error}") from None
        loop = from_mapping(Settings, told.pop("loop", {}), "loop.")
        run: Run = from_mapping(cls, told | {"loop": loop, "data": tuple(told.get("data", ()))}, "")
        return run


def from_mapping(kind: type[Any], told: Mapping[str, Any], prefix: str) -> Any:  # noqa: ANN401
    """A record of `kind` from a mapping, refusing unknown and missing fields by name."""
    known = {field.name for field in fields(kind)}
    if odd := sorted(told.keys() - known):
        raise ValueError(f"{prefix}{odd[0]} is not a setting; known are {', '.join(sorted(known))}")
    try:
        return kind(**told)
    except TypeError as error:
        raise ValueError(f"{prefix or 'the run'}: {error}") from None


def _refuse(wrong: list[str]) -> None:
    if wrong:
        raise ValueError("; ".join(wrong))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value)


def _at_least(record: object, name: str, least: int) -> str:
    value = getattr(record, name)
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    return "" if fits else f"{name} is {value!r}, it must be a whole number of at least {least}"


def _within(record: object, name: str, low: float, high: float, *, open_end: bool = False) -> str:
    value = getattr(record, name)
    fits = _is_number(value) and (low <= value < high if open_end else low <= value <= high)
    return "" if fits else f"{name} is {value!r}, it must be at least {low:g} and {'below' if open_end else 'at most'} {high:g}"


def _wrong_choices(settings: Settings) -> list[str]:
    choices = {"schedule": Schedule, "optimizer": OptimizerName, "precision": Precision}
    return [
        f"{name} is {getattr(settings, name)!r}, it must be one of {', '.join(get_args(literal))}"
        for name, literal in choices.items()
        if getattr(settings, name) not in get_args(literal)
    ]
