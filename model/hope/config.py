"""What a self-modifying mixer is made of. The two presets of hope.md §2.9: `paper_literal` and `service`.

Odd choices, and where they come from:
- `anchor="init"`: retention decays what was learned, not the meta-learned start (hope.md §8.2); the paper decays to zero.
- `read="token"`: a query sees the writes of its own chunk, as in the token recurrence; the paper's chunk form reads the chunk's start.
- `unit_values`, `unit_targets`: bound the self-referential loop; the paper normalises keys and queries only.
- `conv_start`: language is learned far faster from filters that mix; tracking a state token by token needs the token itself.
- `rate_max` above 0.5 lets a linear memory have negative eigenvalues; formal languages need `rate_max=1`, chunks of 1.
- `head_rules`, `head_rates`: heads may differ. One that adds without erasing counts; one that replaces what it held at a rate of 1 turns
  it around, which counting modulo two needs; neither can do what the other does (docs/deviations.md).
- "q" in `adaptive`: the paper's table 6 has it on, its text has it static; static is better there.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Self

from model.hope.rules import NAMED, HeadRules, Objective, Rule

ROLES = ("k", "v", "eta", "alpha", "q", "mem")  # in the order of their rows in a state


@dataclass(frozen=True, slots=True)
class MixerConfig:
    """Sizes and switches of self-modifying Titans (Nested Learning §8, eq. 83–93). Chunks are periods in tokens.

    Raises:
        ValueError: values that contradict each other, naming the field.
    """

    width: int
    head_width: int = 32
    hidden_multiple: int = 1  # hidden width of a memory in head widths; 0: linear memories
    chunk_projections: int = 16  # C_p: period of the memories that make k, v, η, α (and q)
    chunk_memory: int = 16  # C_m: period of the main memory
    objective: Objective = "l2"
    dgd: bool = True
    head_rules: tuple[str, ...] = ()  # "hebbian", "delta" or "dgd" for each head, in place of `objective` and `dgd`
    momentum: bool = False  # Titans' data-dependent inner momentum, β_t = sigmoid(w x_t + b)
    retention: bool = True  # α_t < 1; off for the paper's "w/o weight decay"
    adaptive: tuple[str, ...] = ("k", "v", "eta", "alpha", "mem")
    targets: Literal["self", "shared"] = "self"  # every memory makes its own v̂ = M(v), or all learn v (eq. 79–82)
    anchor: Literal["init", "zero"] = "init"
    unit_values: bool = True
    unit_targets: bool = True
    read: Literal["boundary", "token"] = "token"
    conv_width: int = 4
    conv_start: Literal["mixed", "newest"] = "mixed"  # each channel a mix of tokens of its own, or the newest token and little else
    rate_max: float = 0.6
    rate_start: float = 0.1
    head_rates: tuple[float, ...] = ()  # where the rate of each head starts, in place of `rate_start`
    retention_start: float = 0.999
    error_clip: float | None = None
    weight_cap: float | None = 8.0  # longest a memory's weight may be at a chunk boundary, in lengths of its start

    def __post_init__(self) -> None:
        for name in ("adaptive", "head_rules", "head_rates"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON has lists only
        wrong = [*self._wrong_sizes(), *self._wrong_choices()]
        wrong += [] if wrong else self._wrong_heads()
        if wrong:
            raise ValueError("; ".join(wrong))

    def _wrong_sizes(self) -> list[str]:
        wrong = []
        for name in ("width", "head_width", "chunk_projections", "chunk_memory", "conv_width"):
            if getattr(self, name) < 1:
                wrong.append(f"{name} is {getattr(self, name)}, it must be at least 1")
        if self.head_width >= 1 and self.width % self.head_width:
            wrong.append(f"width {self.width} is not a multiple of head_width {self.head_width}")
        if self.hidden_multiple < 0:
            wrong.append(f"hidden_multiple is {self.hidden_multiple}, it must be 0 (linear memories) or more")
        if not 0.0 < self.rate_start < self.rate_max <= 2.0:
            wrong.append(f"rate_start {self.rate_start} and rate_max {self.rate_max} must be 0 < rate_start < rate_max <= 2")
        if not 0.0 < self.retention_start < 1.0:
            wrong.append(f"retention_start is {self.retention_start}, it must lie between 0 and 1")
        return wrong

    def _wrong_choices(self) -> list[str]:
        wrong = []
        if odd := [role for role in self.adaptive if role not in ROLES]:
            wrong.append(f"adaptive names {odd[0]!r}; the roles are {', '.join(ROLES)}")
        if "mem" not in self.adaptive:
            wrong.append("adaptive must hold 'mem': a mixer whose main memory never learns carries nothing between tokens")
        for name, choices in (
            ("objective", ("l2", "dot")),
            ("targets", ("self", "shared")),
            ("anchor", ("init", "zero")),
            ("read", ("boundary", "token")),
            ("conv_start", ("mixed", "newest")),
        ):
            if getattr(self, name) not in choices:
                wrong.append(f"{name} is {getattr(self, name)!r}, it must be one of {', '.join(choices)}")
        for name in ("error_clip", "weight_cap"):
            bound = getattr(self, name)
            if bound is not None and not bound > 0:
                wrong.append(f"{name} is {bound}, it must be positive, or None for no bound")
        return wrong

    def _wrong_heads(self) -> list[str]:
        wrong = []
        for name in ("head_rules", "head_rates"):
            given = getattr(self, name)
            if given and len(given) != self.heads:
                wrong.append(f"{name} has {len(given)} entries for {self.heads} heads")
        if odd := [rule for rule in self.head_rules if rule not in NAMED]:
            wrong.append(f"head_rules names {odd[0]!r}; the rules are {', '.join(NAMED)}")
        if odd_rates := [rate for rate in self.head_rates if not 0.0 < rate < self.rate_max]:
            wrong.append(f"head_rates has {odd_rates[0]}, each must lie between 0 and rate_max {self.rate_max}")
        if self.head_rules and self.momentum:
            wrong.append("momentum does not go with head_rules")
        return wrong

    @property
    def heads(self) -> int:
        """Memories side by side, each for `head_width` channels."""
        return self.width // self.head_width

    @property
    def rule(self) -> Rule | HeadRules:
        """The inner learning rule, or that of each head."""
        if self.head_rules:
            return HeadRules(tuple(NAMED[name] for name in self.head_rules))
        return Rule(self.objective, erase=self.dgd, momentum=self.momentum)

    @property
    def rate_starts(self) -> tuple[float, ...]:
        """Where the rate of each head starts."""
        return self.head_rates or (self.rate_start,) * self.heads

    @property
    def learners(self) -> tuple[str, ...]:
        """The adaptive roles in state order; "mem" is the last."""
        return tuple(role for role in ROLES if role in self.adaptive)

    def but(self, **changes: Any) -> Self:  # noqa: ANN401
        """The same configuration with changes."""
        return replace(self, **changes)


def paper_literal(width: int, **changes: Any) -> MixerConfig:  # noqa: ANN401
    """Everything as printed but for slips of sign and index: for equation-level tests, it does not stay stable (hope.md §8.2)."""
    literal: dict[str, Any] = {"anchor": "zero", "unit_values": False, "unit_targets": False, "weight_cap": None, "read": "boundary"}
    return MixerConfig(width, **{**literal, **changes})


def service(width: int, **changes: Any) -> MixerConfig:  # noqa: ANN401
    """The variant that stays stable for as long as it lives: anchored retention, unit values and targets, a cap as last resort."""
    return MixerConfig(width, **changes)


PRESETS = {"paper_literal": paper_literal, "service": service}
