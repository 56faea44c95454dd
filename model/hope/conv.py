"""Causal depthwise convolution with a cache, so that a stream may be cut anywhere (Nested Learning §8.2: local convolutions of width 4)."""

from typing import Any

import torch
from torch import Tensor, nn


class CausalConv(nn.Module):
    """For each channel `copies` filters over the last `taps` tokens.

    `mixed`: drawn evenly from ±1/√taps, so every channel begins with a mix of neighbouring tokens of its own. Else they begin near the
    identity, the newest tap 1 and the others small: a language model then has to learn the mixing first, 0.4 bits a byte worse after
    256,000 tokens (docs/journal.md).
    """

    def __init__(self, width: int, taps: int, copies: int = 1, *, mixed: bool = True) -> None:
        super().__init__()
        self.width, self.taps, self.copies = width, taps, copies
        start = torch.empty(copies, width, taps).uniform_(-(taps**-0.5), taps**-0.5)
        if not mixed:
            start = torch.randn(copies, width, taps) * 0.1
            start[..., -1] += 1.0
        self.weight = nn.Parameter(start)  # (copies, width, taps)

    def initial(self, rows: int, like: Tensor) -> Tensor:
        """(rows, taps − 1, width) the cache before the first token."""
        return like.new_zeros(rows, self.taps - 1, self.width)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, width), cache (B, taps − 1, width) → (B, copies, T, width), in memory with the tokens last, and the next cache."""
        exact = torch.promote_types(x.dtype, torch.float32)  # sums of half numbers are kept in single ones
        seen = torch.cat([cache.mT.to(exact), x.mT.to(exact)], dim=2)
        y: Tensor = _Taps.apply(seen, self.weight.to(exact))  # type: ignore[no-untyped-call]
        return y.mT.to(x.dtype), seen[..., x.shape[1] :].mT.to(cache.dtype)


class _Taps(torch.autograd.Function):
    """y_t = Σ_s w_s x_{t+s}: x (B, width, T + taps − 1), w (copies, width, taps) → (B, copies, width, T).

    Tap by tap over whole tensors: for a few taps on a CPU twice as fast as `conv1d` with groups. Can be differentiated again.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:  # noqa: ANN401
        ctx.save_for_backward(x, weight)
        size = x.shape[-1] - weight.shape[-1] + 1
        first, *others = (x[:, None, :, tap : tap + size] for tap in range(weight.shape[-1]))
        y: Tensor = first * weight[..., :1]
        for tap, part in enumerate(others, start=1):
            y.addcmul_(part, weight[..., tap : tap + 1])
        return y

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # noqa: ANN401
        x, weight = ctx.saved_tensors
        size, g_x, g_weight = grad.shape[-1], torch.zeros_like(x), []
        for tap in range(weight.shape[-1]):
            part = slice(tap, tap + size)
            for copy in range(len(weight)):
                g_x[..., part].addcmul_(grad[:, copy], weight[copy, :, tap : tap + 1])
                g_weight.append((grad[:, copy] * x[..., part]).sum((0, 2)))
        return g_x, torch.stack(g_weight, -1).view(weight.shape[1], weight.shape[2], weight.shape[0]).permute(2, 0, 1)
