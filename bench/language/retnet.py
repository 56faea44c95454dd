"""RetNet: retention with a fixed decay for each head, a rival that `transformers` does not have (Sun et al. 2023, arXiv 2307.08621).

As published: keys of the width, values of twice the width, rotary positions, decays 1 − 2^(−5−h), RMS norm of each head, swish gate.
The FFN, the norms and the tied head are those of the Llama that it is compared with. Sequences run chunk by chunk (equation 7 of the
paper), which for one token is the recurrence (equation 6): a state makes any cut of a stream give the same numbers.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import LlamaConfig
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

CHUNK = 64
SPREAD = 0.02  # standard deviation of fresh weights, as in every model of the comparison


@dataclass(frozen=True, slots=True)
class RetNetState:
    """What a stream carries: tokens seen, and one memory (B, H, d_k, d_v) a layer."""

    position: int
    memories: tuple[Tensor, ...]


def retain(query: Tensor, key: Tensor, value: Tensor, decay: Tensor, memory: Tensor, chunk: int = CHUNK) -> tuple[Tensor, Tensor]:
    """Read (B, H, T, d_v), and the next memory; query, key (B, H, T, d_k), value (B, H, T, d_v), decay (H,), memory (B, H, d_k, d_v)."""
    outputs = []
    for q, k, v in zip(*(torch.split(part, chunk, 2) for part in (query, key, value)), strict=True):
        at = torch.arange(q.shape[2], device=q.device, dtype=q.dtype)
        rate = decay[:, None]
        apart = at[:, None] - at
        weight = torch.where(apart >= 0, decay[:, None, None] ** apart.clamp(min=0), 0)  # (H, n, n)
        inner = (q @ k.transpose(-1, -2) * weight) @ v
        outputs.append(inner + q @ memory * (rate ** (at + 1))[..., None])
        fading = (rate ** (len(at) - 1 - at))[..., None]  # (H, n, 1)
        memory = memory * decay[:, None, None] ** len(at) + (k * fading).transpose(-1, -2) @ v
    return torch.cat(outputs, 2), memory


def rotated(vectors: Tensor, position: int) -> Tensor:
    """Rotary positions from `position` on, for vectors (B, H, T, d)."""
    half = vectors.shape[-1] // 2
    speed = 10_000.0 ** (-torch.arange(half, device=vectors.device, dtype=torch.float64) / half)
    at = torch.arange(position, position + vectors.shape[2], device=vectors.device, dtype=torch.float64)
    angle = at[:, None] * speed  # (T, d/2), in double: a stream has many tokens
    cos, sin = angle.cos().to(vectors), angle.sin().to(vectors)
    left, right = vectors[..., :half], vectors[..., half:]
    return torch.cat([left * cos - right * sin, right * cos + left * sin], -1)


class Retention(nn.Module):
    """Multi-scale retention of `heads` heads."""

    decay: Tensor

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q = nn.Linear(width, width, bias=False)
        self.k = nn.Linear(width, width, bias=False)
        self.v = nn.Linear(width, 2 * width, bias=False)
        self.gate = nn.Linear(width, 2 * width, bias=False)
        self.out = nn.Linear(2 * width, width, bias=False)
        self.register_buffer("decay", 1 - 2.0 ** (-5 - torch.arange(heads, dtype=torch.float32)), persistent=False)

    def forward(self, hidden: Tensor, memory: Tensor | None, position: int) -> tuple[Tensor, Tensor]:
        """(B, T, d) and a memory to (B, T, d) and the next memory."""
        q, k, v = (self._split(part(hidden)) for part in (self.q, self.k, self.v))
        if memory is None:
            memory = hidden.new_zeros(hidden.shape[0], self.heads, k.shape[-1], v.shape[-1])
        k = rotated(k, position) * k.shape[-1] ** -0.5
        read, memory = retain(rotated(q, position), k, v, self.decay.to(hidden), memory)
        read = functional.rms_norm(read, read.shape[-1:], eps=1e-6).transpose(1, 2).flatten(2)
        out: Tensor = self.out(functional.silu(self.gate(hidden)) * read)
        return out, memory

    def _split(self, vectors: Tensor) -> Tensor:
        return vectors.reshape(*vectors.shape[:-1], self.heads, -1).transpose(1, 2)


class RetNetLayer(nn.Module):
    """Retention, then a SwiGLU FFN, each behind an RMS norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.mixer_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mixer = Retention(config.hidden_size, config.num_attention_heads)
        self.ffn_norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.ffn = LlamaMLP(config)

    def forward(self, hidden: Tensor, memory: Tensor | None, position: int) -> tuple[Tensor, Tensor]:
        """(B, T, d) and a memory to (B, T, d) and the next memory."""
        mixed, memory = self.mixer(self.mixer_norm(hidden), memory, position)
        hidden = hidden + mixed
        return hidden + self.ffn(self.ffn_norm(hidden)), memory


class RetNet(nn.Module):
    """A causal language model with the call shape of Hugging Face; `config` is that of a Llama of the same sizes."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(RetNetLayer(config) for _ in range(config.num_hidden_layers))
        self.norm = LlamaRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.apply(_fresh)

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, which is the head too."""
        return self.embedding

    def forward(
        self, input_ids: Tensor, labels: Tensor | None = None, past_key_values: RetNetState | None = None, use_cache: bool = False
    ) -> Any:  # noqa: ANN401
        """Logits (B, T, V) of ids (B, T); with labels (B, T) also the mean loss in nats, shifted inside."""
        state = past_key_values or RetNetState(0, ())
        hidden, memories = self.embedding(input_ids), []
        for index, layer in enumerate(self.layers):
            hidden, memory = layer(hidden, state.memories[index] if state.memories else None, state.position)
            memories.append(memory)
        logits = functional.linear(self.norm(hidden), self.embedding.weight)
        loss = None if labels is None else functional.cross_entropy(logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten())
        following = RetNetState(state.position + input_ids.shape[1], tuple(memories)) if use_cache else None
        return CausalLMOutputWithPast(loss=loss, logits=logits, past_key_values=following)


def _fresh(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=SPREAD)
