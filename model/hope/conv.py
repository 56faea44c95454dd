"""Causal depthwise convolution with a cache, so that a stream may be cut anywhere (Nested Learning §8.2: local convolutions of width 4)."""

import torch
from torch import Tensor, nn


class CausalConv(nn.Module):
    """For each channel `copies` filters over the last `taps` tokens. Starts as the identity: the newest tap is 1, the others are small."""

    def __init__(self, width: int, taps: int, copies: int = 1) -> None:
        super().__init__()
        self.width, self.taps, self.copies = width, taps, copies
        start = torch.randn(copies, width, taps) * 0.1
        start[..., -1] += 1.0
        self.weight = nn.Parameter(start)  # (copies, width, taps)

    def initial(self, rows: int, like: Tensor) -> Tensor:
        """(rows, taps − 1, width) the cache before the first token."""
        return like.new_zeros(rows, self.taps - 1, self.width)

    def forward(self, x: Tensor, cache: Tensor) -> tuple[Tensor, Tensor]:
        """x (B, T, width), cache (B, taps − 1, width) → (B, copies, T, width) and the next cache."""
        seen = torch.cat([cache.to(x.dtype), x], dim=1)
        kernel = self.weight.transpose(0, 1).reshape(self.width * self.copies, 1, self.taps).to(x.dtype)
        y = nn.functional.conv1d(seen.transpose(1, 2), kernel, groups=self.width)  # (B, width · copies, T)
        y = y.reshape(len(y), self.width, self.copies, -1).permute(0, 2, 3, 1)
        return y, seen[:, x.shape[1] :].to(cache.dtype)
