"""The main memory token by token while the projections stand still: linear memories, C_m = 1 and a longer C_p (Nested Learning §8.2).

    o = W_{t−1} q_t,   W_t = start + D_t
    D_t = D_{t−1} (α_t I − e η_t k_t k_tᵀ) − η_t d_t k_tᵀ,   d_t = l W_{t−1} k_t − v̂_t

with e and l as the rule of the head says. All that the readers say about a piece is known before its first token, so only this recurrence
is left, and none of what a chunk of many tokens needs. The same numbers as `model/hope/chunk.py` token by token, in a fraction of the time.
"""

import torch
from torch import Tensor

from model.hope.config import MixerConfig
from model.hope.memory import unit
from model.hope.rules import HeadRules


def fits(config: MixerConfig) -> bool:
    """Whether these are switches of this module."""
    still = config.chunk_memory == 1 and config.chunk_projections > 1
    plain = not config.momentum and config.weight_cap is None and config.error_clip is None
    return still and plain and config.hidden_multiple == 0


def learn(
    config: MixerConfig, k: Tensor, v: Tensor, q: Tensor, rate: Tensor, kept: Tensor, start: Tensor | None, fast: Tensor
) -> tuple[Tensor, Tensor]:
    """What the main memory says, (B, 1, H, T, d), and its weights (B, 1, H, d, d) after T tokens.

    Keys, values and queries (B, 1, H, T, d), η and α (B, 1, H, T); `fast` is what was learned since `start`, (H, d, d), or with None the
    weights themselves.
    """
    rules = config.rule.heads if isinstance(config.rule, HeadRules) else (config.rule,) * config.heads
    regress, erase = ([getattr(rule, name) for rule in rules] for name in ("regresses", "erase"))
    columns = [x[..., None].unbind(-3) for x in (k, v, q)]
    gates = [x[..., None, None].unbind(-3) for x in (rate, kept)]
    reads = []
    for key, value, query, eta, alpha in zip(*columns, *gates, strict=True):
        whole = fast if start is None else start + fast
        reads.append(whole @ query)
        error = -_target(config, whole, value)
        if any(regress):
            error = error + _only(regress, whole @ key)
        if any(erase):
            error = error + _only(erase, fast @ key)
        fast = alpha * fast - (eta * error) @ key.mT
    return torch.stack(reads, dim=-3)[..., 0], fast


def _target(config: MixerConfig, whole: Tensor, value: Tensor) -> Tensor:
    """v̂ (B, 1, H, d, 1)."""
    if config.targets == "shared":
        return value
    made = whole @ value
    return unit(made.mT).mT if config.unit_targets else made


def _only(heads: list[bool], x: Tensor) -> Tensor:
    """x (B, 1, H, d, 1) for these heads, zero for the others."""
    return x if all(heads) else x * x.new_tensor(heads)[:, None, None]
