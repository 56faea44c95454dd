"""Causal softmax attention as a mixer: Hope-Attention is this and the continuum memory (Nested Learning §8.3).

- Names and maths of Hugging Face's Llama (defaults), Qwen2 (`qkv_bias`) and Qwen3 (`qk_norm`), so that a pretrained layer loads; the same
  kernel calls while everything is inside the window, so that the numbers are the same as well, with a state as without.
- The state holds keys (already turned to their positions) and values of the last `window` tokens, newest last, of constant size; position
  −1 marks a slot that was never filled. Within a window every token sees itself and the `window − 1` tokens before it, whatever the cuts.
- Rows may stand at different positions. Without a window there is no bounded state: then only whole sequences can be read.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from model.hope.norm import RmsNorm
from model.hope.rotary import frequencies, rotated, rotation
from model.hope.state import Tensors


@dataclass(frozen=True, slots=True)
class AttentionConfig:
    """Sizes and switches of attention.

    Raises:
        ValueError: values that contradict each other, naming the field.
    """

    width: int
    heads: int = 4
    kv_heads: int | None = None  # None: as many as heads; fewer: grouped queries
    head_width: int | None = None  # None: width / heads
    window: int | None = None  # tokens that a token sees, itself included; None: all, and no state
    rope_theta: float = 10_000.0
    rope_scaling: Mapping[str, Any] | None = None  # Hugging Face's rope_parameters
    qkv_bias: bool = False
    out_bias: bool = False
    qk_norm: bool = False
    norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        wrong = []
        for name in ("width", "heads", "kv_heads", "head_width", "window"):
            value = getattr(self, name)
            if value is not None and value < 1:
                wrong.append(f"{name} is {value}, it must be at least 1")
        if not wrong and self.head_width is None and self.width % self.heads:
            wrong.append(f"width {self.width} is not a multiple of heads {self.heads}; give head_width")
        if not wrong and self.heads % self.key_heads:
            wrong.append(f"heads {self.heads} is not a multiple of kv_heads {self.key_heads}")
        if not wrong and self.channels % 2:
            wrong.append(f"head_width {self.channels} is odd; rotary positions turn pairs of channels")
        if not self.rope_theta > 0:
            wrong.append(f"rope_theta is {self.rope_theta}, it must be positive")
        if wrong:
            raise ValueError("; ".join(wrong))

    @property
    def channels(self) -> int:
        """Channels of one head."""
        return self.head_width or self.width // self.heads

    @property
    def key_heads(self) -> int:
        """Heads of keys and values."""
        return self.kv_heads or self.heads


@dataclass(frozen=True, slots=True)
class AttentionState(Tensors):
    """The last `window` tokens of each row, newest last."""

    keys: Tensor  # (B, kv_heads, window, head_width), turned to their positions
    values: Tensor  # (B, kv_heads, window, head_width)
    positions: Tensor  # (B, window) int64; −1: never filled


class CausalAttention(nn.Module):
    """x (B, T, width) → (B, T, width), queries in groups over keys and values, rotary positions.

    Raises:
        ValueError: an unknown rope_type in `rope_scaling`.
    """

    def __init__(self, config: AttentionConfig) -> None:
        super().__init__()
        self.config = config
        inner, shared = config.heads * config.channels, config.key_heads * config.channels
        self.q_proj = nn.Linear(config.width, inner, bias=config.qkv_bias)
        self.k_proj = nn.Linear(config.width, shared, bias=config.qkv_bias)
        self.v_proj = nn.Linear(config.width, shared, bias=config.qkv_bias)
        self.o_proj = nn.Linear(inner, config.width, bias=config.out_bias)
        self.q_norm: nn.Module = RmsNorm(config.channels, config.norm_eps) if config.qk_norm else nn.Identity()
        self.k_norm: nn.Module = RmsNorm(config.channels, config.norm_eps) if config.qk_norm else nn.Identity()
        self._frequency(torch.device("cpu"))
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Unit gain everywhere, no bias."""
        for matrix in (self.q_proj, self.k_proj, self.v_proj, self.o_proj):
            nn.init.normal_(matrix.weight, std=matrix.in_features**-0.5)
            if matrix.bias is not None:
                nn.init.zeros_(matrix.bias)

    def initial(self, rows: int) -> AttentionState:
        """The state before the first token.

        Raises:
            ValueError: no window.
        """
        if self.config.window is None:
            raise ValueError("attention without a window has no bounded state: set window to the number of tokens to remember")
        weight = self.k_proj.weight
        empty = weight.new_zeros(rows, self.config.key_heads, self.config.window, self.config.channels, requires_grad=False)
        unfilled = torch.full((rows, self.config.window), -1, dtype=torch.int64, device=weight.device)
        return AttentionState(empty, empty.clone(), unfilled)

    def forward(self, x: Tensor, state: AttentionState | None, positions: Sequence[int]) -> tuple[Tensor, AttentionState]:
        """x (B, T, width) whose first tokens stand at `positions` (B), after what `state` remembers (None: nothing).

        Returns (B, T, width) and the state after T tokens; without a window that state is empty and cannot be continued from.

        Raises:
            ValueError: shapes that do not fit, or a state without a window.
        """
        self._check(x, state, positions)
        start = torch.tensor(list(positions), dtype=torch.int64, device=x.device)
        places = start[:, None] + torch.arange(x.shape[1], device=x.device)  # (B, T)
        queries, new = self.q_norm(self._split(self.q_proj(x))), self.k_norm(self._split(self.k_proj(x)))
        turn = rotation(places, self._frequency(x.device), queries.dtype)
        queries, new = rotated(queries.transpose(1, 2), *turn), rotated(new.transpose(1, 2), *turn)  # (B, heads, T, head_width)
        seen = AttentionState(new, self._split(self.v_proj(x)).transpose(1, 2), places)
        if state is not None:
            seen = _joined(_filled(state), seen)
        causal = seen.keys.shape[2] == x.shape[1] <= (self.config.window or x.shape[1])
        mask = None if causal else self._visible(places, seen.positions)
        if x.shape[1] == 1 and mask is not None and bool(mask.all()):
            mask = None
        y = scaled_dot_product_attention(
            queries, seen.keys, seen.values, attn_mask=mask, is_causal=causal, enable_gqa=self.config.key_heads < self.config.heads
        )
        return self.o_proj(y.transpose(1, 2).flatten(2)), self._kept(seen)

    def _split(self, x: Tensor) -> Tensor:
        """(B, T, heads · head_width) → (B, T, heads, head_width)."""
        return x.reshape(*x.shape[:-1], -1, self.config.channels)

    def _frequency(self, device: torch.device) -> Tensor:
        return frequencies(self.config.channels, self.config.rope_theta, self.config.rope_scaling, device)

    def _visible(self, queries: Tensor, keys: Tensor) -> Tensor:
        """(B, 1, T, S) bool: keys of the past, filled, and inside the query's window."""
        age = queries[:, :, None] - keys[:, None, :]
        visible = (age >= 0) & (keys >= 0)[:, None, :]
        if self.config.window is not None:
            visible = visible & (age < self.config.window)
        return visible[:, None]

    def _kept(self, seen: AttentionState) -> AttentionState:
        """The newest `window` slots; fewer tokens than that are preceded by unfilled ones."""
        window = self.config.window or 0
        if 0 < seen.keys.shape[2] < window:
            seen = _joined(self.initial(len(seen.keys)), seen)
        first, kind = seen.keys.shape[2] - window, self.k_proj.weight.dtype
        return AttentionState(  # copies: no view keeps the keys of a whole call alive
            seen.keys[:, :, first:].to(kind, copy=True), seen.values[:, :, first:].to(kind, copy=True), seen.positions[:, first:].clone()
        )

    def _check(self, x: Tensor, state: AttentionState | None, positions: Sequence[int]) -> None:
        if x.dim() != 3 or x.shape[-1] != self.config.width or not x.shape[1]:
            raise ValueError(f"x is {tuple(x.shape)}, it must be (rows, tokens, {self.config.width}) with at least one token")
        if len(positions) != len(x):
            raise ValueError(f"positions has {len(positions)} entries, x has {len(x)} rows")
        if state is None:
            return
        wanted = (len(x), self.config.key_heads, self.config.window, self.config.channels)
        if tuple(state.keys.shape) != wanted:
            raise ValueError(
                f"keys of the state are {tuple(state.keys.shape)}, this attention needs {wanted} (rows, kv_heads, window, head_width)"
            )


def _filled(state: AttentionState) -> AttentionState:
    """Without the slots that no row has filled: a short past costs little, and runs in the kernels that Hugging Face's cache runs in."""
    first = int((state.positions < 0).all(0).sum())
    return AttentionState(state.keys[:, :, first:], state.values[:, :, first:], state.positions[:, first:])


def _joined(older: AttentionState, newer: AttentionState) -> AttentionState:
    return AttentionState(
        torch.cat([older.keys.to(newer.keys.dtype), newer.keys], dim=2),
        torch.cat([older.values.to(newer.values.dtype), newer.values], dim=2),
        torch.cat([older.positions.to(newer.positions.device), newer.positions], dim=1),
    )
