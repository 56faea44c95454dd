"""`NeuralMemory` of the package titans-pytorch as the mixer of a small language model: the open Titans that people use today.

A rival in speed only. The package is not a dependency: `pip install titans-pytorch`. The model is a Llama whose attention is replaced.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from torch import Tensor, nn
from torch.nn import functional
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

from bench.language.rivals import Shape, llama_config

NAME = "titans-pytorch"
CHUNK = 16


class NotInstalled(Exception):
    """The package is not there; the message says how to get it."""


def installed() -> bool:
    """Whether the package is there."""
    return find_spec("titans_pytorch") is not None


class NeuralMemoryLM(nn.Module):
    """Layers of [norm, NeuralMemory, norm, SwiGLU], tied embeddings, the package's own defaults but for the chunk.

    Raises:
        NotInstalled: without the package.
    """

    def __init__(self, shape: Shape, ffn: int, chunk: int = CHUNK) -> None:
        super().__init__()
        if not installed():
            raise NotInstalled("titans-pytorch is not installed, so its NeuralMemory is not measured; `pip install titans-pytorch` adds it")
        NeuralMemory = import_module("titans_pytorch").NeuralMemory  # its absence is no error of types

        config = llama_config(shape, ffn)
        self.embedding = nn.Embedding(shape.vocab, shape.width)
        self.mixers = nn.ModuleList(NeuralMemory(dim=shape.width, chunk_size=chunk) for _ in range(shape.layers))
        self.ffns = nn.ModuleList(LlamaMLP(config) for _ in range(shape.layers))
        self.norms = nn.ModuleList(LlamaRMSNorm(shape.width) for _ in range(2 * shape.layers + 1))

    def get_input_embeddings(self) -> nn.Module:
        """The embedding, which is the head too."""
        return self.embedding

    def forward(self, input_ids: Tensor, labels: Tensor | None = None, use_cache: bool = False) -> Any:  # noqa: ANN401
        """Logits (B, T, V) of ids (B, T), and the loss of labels (B, T), shifted inside."""
        hidden = self.embedding(input_ids)
        for index, (mixer, ffn) in enumerate(zip(self.mixers, self.ffns, strict=True)):
            hidden = hidden + mixer(self.norms[2 * index](hidden))[0]
            hidden = hidden + ffn(self.norms[2 * index + 1](hidden))
        logits = functional.linear(self.norms[-1](hidden), self.embedding.weight)
        loss = None if labels is None else functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
        return CausalLMOutputWithPast(loss=loss, logits=logits)
