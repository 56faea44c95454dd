"""The compression task of MAD needs more than logits: all tokens are read back from what the model holds at the last one."""

import math

import torch
from torch import Tensor, nn

from bench.synthetic.learner import logits_of


class Autoencoder(nn.Module):
    """A sequence model up to its last hidden state, and a decoder of two layers over position + that state, as in MAD (Poli et al. 2024).

    Raises:
        ValueError: the model has neither an output layer `lm_head` nor a last `norm` at which its hidden states could be seen.
    """

    def __init__(self, model: nn.Module, vocabulary: int, width: int, length: int) -> None:
        super().__init__()
        self.model = model
        self.decoder = nn.Sequential(
            *(nn.RMSNorm(width), nn.Linear(width, width), nn.GELU()),
            *(nn.RMSNorm(width), nn.Linear(width, width), nn.GELU()),
            *(nn.RMSNorm(width), nn.Linear(width, vocabulary)),
        )
        self.register_buffer("positions", waves(length, width), persistent=False)
        self._seen: Tensor | None = None
        self._watch()

    def forward(self, ids: Tensor) -> Tensor:
        """ids (B, T) → logits (B, T, V) of the same tokens."""
        logits_of(self.model, ids)
        assert self._seen is not None
        held, self._seen = self._seen[:, -1:], None  # (B, 1, width)
        logits: Tensor = self.decoder(held + self.get_buffer("positions")[: ids.shape[1]])
        return logits

    def _watch(self) -> None:
        """Note what the output layer reads, whenever the model runs."""
        if isinstance(head := getattr(self.model, "lm_head", None), nn.Module):
            head.register_forward_pre_hook(lambda _, inputs: self._note(inputs[0]))
        elif isinstance(norm := getattr(self.model, "norm", None), nn.Module):
            norm.register_forward_hook(lambda _, inputs, output: self._note(output))
        else:
            raise ValueError(f"{type(self.model).__name__} has neither lm_head nor norm: compression needs to see its hidden states")

    def _note(self, hidden: Tensor) -> None:
        self._seen = hidden


def waves(length: int, width: int) -> Tensor:
    """(length, width): sines and cosines of the position."""
    half = width // 2
    angles = torch.arange(length)[:, None] * torch.exp(-math.log(10_000.0) * torch.arange(half) / max(1, half - 1))
    return torch.cat([angles.sin(), angles.cos(), torch.zeros(length, width - 2 * half)], dim=1)
