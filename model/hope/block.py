"""One layer of HOPE: a mixer, then the continuum memory (Nested Learning eq. 94–97; norms and residuals are ours, hope.md §2.8)."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from model.hope.attention import AttentionState, CausalAttention
from model.hope.cms import ContinuumMemory
from model.hope.cms_objectives import Trace
from model.hope.level import LevelState
from model.hope.lm_config import HopeConfig
from model.hope.norm import RmsNorm
from model.hope.state import Tensors
from model.hope.titans import MixerState, SelfModifyingTitans

MixState = MixerState | AttentionState
Levels = tuple[LevelState | None, ...]


@dataclass(frozen=True, slots=True)
class BlockState(Tensors):
    """What one layer carries: its mixer's state, and its levels' (None for a static level)."""

    mixer: MixState
    levels: Levels


class HopeBlock(nn.Module):
    """x + mixer(norm(x)), then the continuum memory over the residual stream; x (B, T, width)."""

    def __init__(self, config: HopeConfig, layer: int) -> None:
        super().__init__()
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        titans = config.mixer_of(layer) == "titans"
        self.mixer = SelfModifyingTitans(config.titans_config()) if titans else CausalAttention(config.attention_config())
        self.memory = ContinuumMemory(
            config.hidden_size, config.levels_of(layer), config.variant, config.objective, config.order, config.rms_norm_eps
        )
        self.ramp = 1.0  # of the levels' steps, see `set_inner_scale`; no part of the model's identity

    def initial(self, rows: int) -> BlockState:
        """The state before the first token."""
        exact = torch.promote_types(self.norm.weight.dtype, torch.float32)
        return BlockState(self.mixer.initial(rows), self.memory.initial(rows, exact))

    def set_inner_scale(self, scale: float) -> None:
        """Multiply what is learned online, by the mixer and by the levels: 1, or less while training warms up (hope.md §6.5, §8.3)."""
        self.ramp = scale
        if isinstance(self.mixer, SelfModifyingTitans):
            self.mixer.inner_scale = scale

    def forward(
        self, x: Tensor, mixer: MixState | None, levels: Levels | None, positions: Sequence[int], trace: Trace | None = None
    ) -> tuple[Tensor, MixState]:
        """(B, T, width) and the mixer's state after T tokens; the levels only learn when told to (`model/hope/online.py`)."""
        mixed, after = self.mixer(self.norm(x), mixer, positions)
        return self.memory(x + mixed, levels, trace), after
