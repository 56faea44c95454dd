"""One level of the continuum memory: a feed-forward block whose weights also move while it is used (Nested Learning §7, eq. 70–71).

- The meta-learned weights are ordinary parameters shared by all sequences; what a sequence learned is its own *change* of them, row by row,
  float32 or wider, in a `LevelState`. So a state is small to reset (zeros), means nothing without its base, and no row sees another.
- The change is applied as a second product beside the shared one, W x + ΔW x: the base is read once for all rows, and ΔW = 0 is
  bit for bit the plain block.
- Kind "swiglu" has the names and the maths of Hugging Face's Llama and Qwen MLP, so that a pretrained block loads.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

from model.hope.norm import RmsNorm
from model.hope.state import Tensors

Change = dict[str, Tensor]  # by weight name, (B, out, in)
_gelu_backward, _silu_backward = torch.ops.aten.gelu_backward, torch.ops.aten.silu_backward  # (gradient of the output, input)
OUTPUT_SCALE = 0.2  # of the output matrix at the start: a fresh level hardly disturbs the residual stream


@dataclass(frozen=True, slots=True)
class LevelConfig:
    """One level: its period, its size, its rule.

    Raises:
        ValueError: a value out of range, naming the field.
    """

    name: str
    period_tokens: int | None  # None: static, changed by the outer optimizer only
    hidden: int
    rate: float = 0.0  # 0: static as well
    rule: str = "sgd"  # a rule of model.optim
    clip: float = 1.0  # longest step of one update: global norm over the level's weights, per row
    reduction: Literal["mean", "sum"] = "mean"  # "sum" is eq. 71 as printed; "mean" keeps `rate` comparable between periods
    adapt: Literal["all", "down"] = "all"  # "down": only the output matrix learns online (half to a third of the state)
    kind: Literal["gelu", "swiglu"] = "gelu"

    def __post_init__(self) -> None:
        wrong = []
        if not self.name or "." in self.name:
            wrong.append(f"name is {self.name!r}, it must be a word without dots")
        if self.period_tokens is not None and self.period_tokens < 1:
            wrong.append(f"period_tokens is {self.period_tokens}, it must be at least 1, or None for a static level")
        if self.hidden < 1:
            wrong.append(f"hidden is {self.hidden}, it must be at least 1")
        if not 0.0 <= self.rate < math.inf:
            wrong.append(f"rate is {self.rate}, it must be a finite number, 0 or more")
        if not self.clip > 0.0:
            wrong.append(f"clip is {self.clip}, it must be positive (math.inf for no bound)")
        for field, choices in (("reduction", ("mean", "sum")), ("adapt", ("all", "down")), ("kind", ("gelu", "swiglu"))):
            if getattr(self, field) not in choices:
                wrong.append(f"{field} is {getattr(self, field)!r}, it must be one of {', '.join(choices)}")
        if wrong:
            raise ValueError(f"level {self.name!r}: " + "; ".join(wrong))

    @property
    def online(self) -> bool:
        """Whether the level changes while it is used."""
        return self.period_tokens is not None and self.rate > 0.0


@dataclass(frozen=True, slots=True)
class LevelState(Tensors):
    """What one level of one block has learned and is about to learn, per row. Keys of dicts are names of weights.

    In the nested variant `gradient` and `slots` also hold "level.weight" of every faster level: this level learns their starts.
    """

    delta: dict[str, Tensor]  # (B, out, in) change of the base weights
    gradient: dict[str, Tensor]  # (B, out, in) sum of per-token gradients since the last boundary
    tokens: Tensor  # (B,) int64, tokens in `gradient`
    slots: dict[str, dict[str, Tensor]]  # of the rule
    clipped: Tensor  # (B,) int64, updates that were cut to `clip`
    refused: Tensor  # (B,) int64, gradients or updates that were not finite and therefore not used
    anchor: dict[str, Tensor]  # nested: (B, out, in) learned start of "level.weight"; else empty
    pending: dict[str, Tensor]  # objective "assoc": the last position, whose target is the next token; else empty


class Level(nn.Module):
    """F(x) = V act(U norm(x)), no biases: gelu(up x), or silu(gate x) · (up x). The residual is the memory's business.

    Raises:
        ValueError: width below 1.
    """

    def __init__(self, width: int, config: LevelConfig, norm_eps: float = 1e-6) -> None:
        super().__init__()
        if width < 1:
            raise ValueError(f"width is {width}, it must be at least 1")
        self.width, self.config = width, config
        self.norm = RmsNorm(width, norm_eps)
        if config.kind == "swiglu":
            self.gate_proj = nn.Linear(width, config.hidden, bias=False)
        self.up_proj = nn.Linear(width, config.hidden, bias=False)
        self.down_proj = nn.Linear(config.hidden, width, bias=False)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Unit gain for what comes in, `OUTPUT_SCALE` for what goes out (hope.md §2.9)."""
        for name, matrix in self.matrices():
            gain = OUTPUT_SCALE if name == "down_proj" else 1.0
            nn.init.normal_(matrix.weight, std=gain / math.sqrt(matrix.in_features))

    def matrices(self) -> Iterator[tuple[str, nn.Linear]]:
        """The linear maps by name, in the order of the maths."""
        for name in ("gate_proj", "up_proj", "down_proj") if self.config.kind == "swiglu" else ("up_proj", "down_proj"):
            yield name, getattr(self, name)

    def adapted(self) -> Change:
        """The base weights (out, in) that learn online, by name, cut from any graph."""
        return {name: matrix.weight.detach() for name, matrix in self.matrices() if self.config.adapt == "all" or name == "down_proj"}

    def forward(self, x: Tensor, delta: Change | None = None) -> Tensor:
        """x (B, T, width), changes of the weights per row (B, out, in) → (B, T, width)."""
        return self.written(self.features(x, delta), delta)

    def features(self, x: Tensor, delta: Change | None = None) -> Tensor:
        """x (B, T, width) → (B, T, hidden), what the output matrix reads."""
        change, seen = delta or {}, self.norm(x)
        raised = _applied(self.up_proj, seen, change.get("up_proj"))
        if self.config.kind == "gelu":
            return gelu(raised)
        return silu(_applied(self.gate_proj, seen, change.get("gate_proj"))) * raised

    def written(self, features: Tensor, delta: Change | None = None) -> Tensor:
        """features (B, T, hidden) → (B, T, width)."""
        return _applied(self.down_proj, features, (delta or {}).get("down_proj"))

    def gradients(self, x: Tensor, error: Tensor, delta: Change | None = None) -> Change:
        """Per-row sums over tokens of the gradients of the adapted weights, in closed form: works in inference mode, too.

        x (B, T, width) the level's input, error (B, T, width) the loss's gradient at the level's output, delta as in `forward`.
        """
        change, seen = delta or {}, self.norm(x)
        if self.config.adapt == "down":
            return {"down_proj": _summed(error, self.features(x, delta))}
        raised = _applied(self.up_proj, seen, change.get("up_proj"))
        returned = _returned(self.down_proj, error, change.get("down_proj"))
        if self.config.kind == "gelu":
            return {"up_proj": _summed(_gelu_backward(returned, raised), seen), "down_proj": _summed(error, gelu(raised))}
        gate = _applied(self.gate_proj, seen, change.get("gate_proj"))
        return {
            "gate_proj": _summed(_silu_backward(returned * raised, gate), seen),
            "up_proj": _summed(returned * silu(gate), seen),
            "down_proj": _summed(error, silu(gate) * raised),
        }


def _applied(matrix: nn.Linear, x: Tensor, change: Tensor | None) -> Tensor:
    """(W + ΔW_b) x for every row b: x (B, T, in) → (B, T, out)."""
    shared: Tensor = matrix(x)
    return shared if change is None else shared + torch.bmm(x, change.to(x.dtype).transpose(1, 2))


def _returned(matrix: nn.Linear, error: Tensor, change: Tensor | None) -> Tensor:
    """(W + ΔW_b)ᵀ e for every row b: error (B, T, out) → (B, T, in)."""
    shared = error @ matrix.weight.to(error.dtype)
    return shared if change is None else shared + torch.bmm(error, change.to(error.dtype))


def _summed(error: Tensor, seen: Tensor) -> Tensor:
    """Σ_t e_t x_tᵀ per row, in float32 at least: (B, T, out), (B, T, in) → (B, out, in)."""
    exact = torch.promote_types(error.dtype, torch.float32)
    return torch.bmm(error.to(exact).transpose(1, 2), seen.to(exact))
