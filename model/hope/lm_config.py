"""Configuration of a HOPE language model, in the form that Hugging Face saves and loads (config.json, model_type "hope").

`titans` holds the fields of `MixerConfig` but width; `attention` those of `AttentionConfig`; `levels` those of `LevelConfig`, one dict a
level, fast first. A layer may have its own mixer (`mixers`) and its own levels (`layer_levels`): a converted transformer keeps one block a
layer and gives the layers different periods (hope.md §5).
"""

import hashlib
import json
from typing import Any

from transformers import PretrainedConfig

from model.hope.attention import AttentionConfig
from model.hope.cms import PERIODS, Objective, Order, Variant
from model.hope.config import MixerConfig
from model.hope.level import LevelConfig

SEED_PERIODS = PERIODS["seed"]  # every token (the mixer), 16, 1,000,000, static


class HopeConfig(PretrainedConfig):
    """Sizes of a `HopeLM`. Defaults: self-modifying Titans and the seed's schedule of levels.

    Raises:
        ValueError: values that contradict each other, naming the field.
    """

    model_type = "hope"

    def __init__(
        self,
        vocab_size: int = 256,
        hidden_size: int = 128,
        num_hidden_layers: int = 4,
        mixer: str = "titans",
        titans: dict[str, Any] | None = None,
        attention: dict[str, Any] | None = None,
        levels: list[dict[str, Any]] | None = None,
        variant: Variant = "sequential",
        objective: Objective = "ntp",
        order: Order = "fast_first",
        mixers: list[str] | None = None,
        layer_levels: list[list[dict[str, Any]]] | None = None,
        training_periods: dict[str, int] | None = None,
        rms_norm_eps: float = 1e-6,
        initializer_range: float = 0.02,
        tie_word_embeddings: bool = True,
        **others: Any,  # noqa: ANN401
    ) -> None:
        self.vocab_size, self.hidden_size, self.num_hidden_layers = vocab_size, hidden_size, num_hidden_layers
        self.mixer, self.titans, self.attention = mixer, dict(titans or {}), dict(attention or {})
        self.levels = [dict(level) for level in levels] if levels is not None else _seed_levels(hidden_size)
        self.variant, self.objective, self.order = variant, objective, order
        self.mixers, self.layer_levels = mixers, layer_levels
        self.training_periods = training_periods
        self.rms_norm_eps, self.initializer_range = rms_norm_eps, initializer_range
        super().__init__(**{**others, "tie_word_embeddings": tie_word_embeddings})
        self._check()

    def _check(self) -> None:
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers")
        wrong = [f"{name} is {getattr(self, name)}, it must be at least 1" for name in sizes if getattr(self, name) < 1]
        named = {self.mixer, *(self.mixers or [])}
        wrong += [f"mixer {mixer!r} is unknown: titans or attention" for mixer in sorted(named - {"titans", "attention"})]
        for name in ("mixers", "layer_levels"):
            each = getattr(self, name)
            if each is not None and len(each) != self.num_hidden_layers:
                wrong.append(f"{name} has {len(each)} entries for {self.num_hidden_layers} layers")
        names = {level.get("name") for layer in (self.layer_levels or [self.levels]) for level in layer}
        if unknown := sorted(set(self.training_periods or ()) - names):
            wrong.append(f"training_periods names {unknown[0]!r}; the levels are {', '.join(sorted(map(str, names)))}")
        if wrong:
            raise ValueError("; ".join(wrong))

    def mixer_of(self, layer: int) -> str:
        """ "titans" or "attention"."""
        return self.mixers[layer] if self.mixers else self.mixer

    def titans_config(self) -> MixerConfig:
        """The mixer's own configuration."""
        return MixerConfig(self.hidden_size, **self.titans)

    def attention_config(self) -> AttentionConfig:
        """The attention's own configuration."""
        return AttentionConfig(self.hidden_size, **self.attention)

    def levels_of(self, layer: int) -> tuple[LevelConfig, ...]:
        """The continuum memory of a layer, fast level first."""
        return tuple(LevelConfig(**level) for level in (self.layer_levels[layer] if self.layer_levels else self.levels))

    @property
    def digest(self) -> str:
        """SHA-256 over everything that a state's layout and meaning depend on, hex."""
        sizes = ("vocab_size", "hidden_size", "num_hidden_layers", "rms_norm_eps")
        fields = (*sizes, "mixer", "titans", "attention", "levels", "variant", "objective", "order", "mixers", "layer_levels")
        named = {name: getattr(self, name) for name in fields}
        return hashlib.sha256(json.dumps(named, sort_keys=True, separators=(",", ":"), default=list).encode()).hexdigest()


def _seed_levels(width: int) -> list[dict[str, Any]]:
    """Three gated levels that together have the size of a transformer's gated feed-forward block (8/3 · width hidden)."""
    hidden = -(-8 * width // 9)
    names = ("middle", "slow", "static")
    rates = (0.1, 0.1, 0.0)  # measured: docs/results.md, the continuum memory switched on and off
    return [
        {"name": name, "period_tokens": period, "hidden": hidden, "rate": rate, "kind": "swiglu"}
        for name, period, rate in zip(names, SEED_PERIODS, rates, strict=True)
    ]
