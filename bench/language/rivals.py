"""The kinds of language models that are compared, and one way to build any of them.

Every kind has tied embeddings of standard deviation 0.1, RMS norms, an FFN of the SwiGLU kind where it has one, and the call shape of
Hugging Face: `model(input_ids=(B, T), labels=(B, T))` gives `.loss` (nats a token) and `.logits` (B, T, V). The library's 0.02 for
embeddings, made for large models, cost every kind but DeltaNet 0.1 to 0.3 bits a byte after 256,000 tokens (docs/journal.md).
One number, its knob, sets a kind's size at a given width (`bench.language.sizes` turns it until all have as many parameters).

- transformer++: `LlamaForCausalLM` (rotary positions, SwiGLU, RMS norm)
- retnet:        ours (`bench.language.retnet`), no library has it
- mamba2:        `Mamba2ForCausalLM`; as published it has no FFN and about two blocks where others have one layer; the knob is its state
- deltanet:      gated DeltaNet, `Qwen3NextForCausalLM` with no attention layer; keys 3/4 and values 3/2 of the width, as in its paper
- others join with `register`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, Mamba2Config, Mamba2ForCausalLM, Qwen3NextConfig, Qwen3NextForCausalLM

from bench.language.retnet import SPREAD, RetNet


@dataclass(frozen=True, slots=True)
class Shape:
    """What all models of a comparison share: ids, width of the residual stream, layers, tokens of a training sequence."""

    vocab: int
    width: int
    layers: int
    context: int


Maker = Callable[[Shape, int], nn.Module]
EMBEDDED = 0.1


@dataclass(frozen=True, slots=True)
class Kind:
    """How a kind is made: `make(shape, knob)`. Its parameters grow linearly with the knob."""

    name: str
    make: Maker
    knob: str = "FFN width"
    step: int = 4  # the knob's values: multiples of it
    smallest: int = 4  # below it the kind would be a weak one of its kind
    constant: bool = True  # whether the state of a stream has the same size however long the stream is
    usual: Callable[[Shape], int] = lambda shape: 8 * shape.width // 3 // 4 * 4
    depths: Callable[[int], Sequence[int]] = lambda layers: (layers,)  # numbers of blocks that stand for so many layers, best first


KINDS: dict[str, Kind] = {}


def register(name: str, make: Maker, **how: Any) -> None:  # noqa: ANN401
    """Add a kind; `how` are further fields of `Kind`.

    Raises:
        ValueError: there is a kind of that name.
    """
    if name in KINDS:
        raise ValueError(f"there is a kind {name!r} already")
    KINDS[name] = Kind(name, make, **how)


def build(
    kind: str, vocab: int, width: int, layers: int, context: int, seed: int, *, knob: int | None = None, embedded: float = EMBEDDED
) -> nn.Module:
    """A fresh model; `layers` counts blocks, `embedded` is the standard deviation of embeddings. The same arguments give the same weights.

    Raises:
        ValueError: no such kind, or a shape that it cannot have.
    """
    if kind not in KINDS:
        raise ValueError(f"there is no kind {kind!r}; there are {', '.join(KINDS)}")
    shape = Shape(vocab, width, layers, context)
    if min(vocab, layers, context) < 1 or width < 32 or width % 16:
        raise ValueError(f"{shape}: sizes must be positive, and width a multiple of 16, at least 32")
    return made(KINDS[kind], shape, seed, KINDS[kind].usual(shape) if knob is None else knob, embedded)


def made(kind: Kind, shape: Shape, seed: int, knob: int, embedded: float = EMBEDDED) -> nn.Module:
    """A fresh model of a kind that need not be in `KINDS`; else as `build`. The same arguments give the same weights."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = kind.make(shape, knob)
        nn.init.normal_(model.get_input_embeddings().weight, std=embedded)  # type: ignore[operator]
        return model


def parameters(model: nn.Module) -> tuple[int, int]:
    """Parameters in all, and those that are not embeddings; tied ones count once."""
    total = sum(weight.numel() for weight in model.parameters())
    embedding = model.get_input_embeddings()  # type: ignore[operator]
    return total, total - sum(weight.numel() for weight in embedding.parameters())


def head_width(width: int) -> int:
    """Channels of a head: 64, and fewer in narrow models so that there are several heads."""
    return 64 if width >= 256 else 32 if width >= 128 else 16


def llama_config(shape: Shape, ffn: int) -> LlamaConfig:
    """The configuration of Transformer++."""
    return LlamaConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=ffn,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.width // head_width(shape.width),
        max_position_embeddings=shape.context,
        **_SHARED,
    )


class GatedDeltaNet(Qwen3NextForCausalLM):
    """The library's model, made to stream without any attention layer: it asks the first one how long the stream is."""

    def forward(self, input_ids: Tensor, past_key_values: Any = None, **others: Any) -> Any:  # noqa: ANN401
        """As in the library. No layer that is left looks at positions or at a mask."""
        at = torch.arange(input_ids.shape[1], device=input_ids.device)[None]
        return super().forward(input_ids, past_key_values=past_key_values, position_ids=at, attention_mask=_NO_MASK, **others)


def deltanet(shape: Shape, ffn: int) -> nn.Module:
    """Gated DeltaNet (Yang et al. 2024)."""
    head = head_width(shape.width)
    heads = max(1, round(0.75 * shape.width / head))
    config = Qwen3NextConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        intermediate_size=ffn,
        num_hidden_layers=shape.layers,
        layer_types=["linear_attention"] * shape.layers,
        num_experts=0,
        linear_num_key_heads=heads,
        linear_num_value_heads=heads,
        linear_key_head_dim=head,
        linear_value_head_dim=2 * head,
        max_position_embeddings=shape.context,
        **_SHARED,
    )
    return GatedDeltaNet(config)


def mamba2(shape: Shape, state: int) -> nn.Module:
    """Mamba-2 (Dao and Gu 2024)."""
    config = Mamba2Config(
        vocab_size=shape.vocab,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        state_size=state,
        expand=2,
        head_dim=head_width(shape.width),
        num_heads=2 * shape.width // head_width(shape.width),
        n_groups=1,
        chunk_size=min(64, shape.context),
        **_SHARED,
    )
    built: nn.Module = Mamba2ForCausalLM(config)
    return built


_NO_MASK = {"full_attention": None, "linear_attention": None}
_SHARED: dict[str, Any] = {
    "tie_word_embeddings": True,
    "initializer_range": SPREAD,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}

register("transformer++", lambda shape, ffn: LlamaForCausalLM(llama_config(shape, ffn)), constant=False)
register("retnet", lambda shape, ffn: RetNet(llama_config(shape, ffn)))
register(
    "mamba2",
    mamba2,
    knob="state",
    smallest=32,
    usual=lambda shape: shape.width // 2,
    depths=lambda layers: [2 * layers, *range(2 * layers - 1, max(1, layers), -1)],
)
register("deltanet", deltanet)


def with_layers(shape: Shape, layers: int) -> Shape:
    """The shape with another number of blocks."""
    return replace(shape, layers=layers)
