"""RMS normalisation, bit for bit as in Hugging Face's Llama and Qwen (`torch.nn.RMSNorm` differs in the last bit)."""

import torch
from torch import Tensor, nn


class RmsNorm(nn.Module):
    """y = w · x / √(mean x² + eps) over the last dimension; the statistics are float32 at least, whatever the input is."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        """x (…, width) → (…, width), of the same type."""
        exact = x.to(torch.promote_types(x.dtype, torch.float32))
        exact = exact * torch.rsqrt(exact.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * exact.to(x.dtype)

    def extra_repr(self) -> str:
        """For `print(module)`."""
        return f"{self.weight.shape[0]}, eps={self.eps}"
