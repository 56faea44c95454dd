"""Speed: training tokens per second, and what one more token costs behind a long context.

Contestants are measured in turn, round after round, so that a machine that is busy for a while is busy for all of them; a figure is the
median of the rounds. Ratios are of medians, to Transformer++ of the same run. One thread, unless torch is told otherwise.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

import torch
from torch import Tensor, nn
from transformers import LlamaForCausalLM
from transformers.cache_utils import StaticCache

from bench.language.stream import advance
from model.train.evaluate import scoring
from model.train.nats import State

PIECE = 512  # tokens of a context that are read at once
TOKENS = 24  # decoded for one figure


@dataclass(frozen=True, slots=True)
class Rate:
    """Training tokens per second: the median and the extremes of the rounds."""

    median: float
    low: float
    high: float


def training(models: Mapping[str, nn.Module], vocab: int, *, batch: int, context: int, rounds: int = 5) -> dict[str, Rate]:
    """Forward and backward of the loss on rows (batch, context) of random ids; one round to warm up is not counted."""
    ids = torch.randint(vocab, (batch, context), generator=torch.Generator().manual_seed(0))
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            begin = perf_counter()
            model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
            taken[name].append(ids.numel() / (perf_counter() - begin))
            model.zero_grad(set_to_none=True)
    return {name: Rate(median(rates[1:]), min(rates[1:]), max(rates[1:])) for name, rates in taken.items()}


def decoding(model: nn.Module, vocab: int, contexts: Sequence[int], *, tokens: int = TOKENS) -> dict[int, float]:
    """Milliseconds for each further token, one row, behind contexts of so many tokens; the median over `tokens` tokens.

    A model whose state has a constant size really reads the context, from 1 to the longest. A transformer gets a cache of that length,
    allocated ahead and filled with random keys and values: what a token costs does not depend on them.
    """
    if isinstance(model, LlamaForCausalLM):
        return {
            context: _timed(lambda ids, state: _cached(model, ids, state), vocab, _filled(model, context, tokens), tokens)[0]
            for context in contexts
        }
    costs: dict[int, float] = {}
    state, seen = None, 0
    generator = torch.Generator().manual_seed(0)
    for context in sorted(contexts):
        while seen < context:
            piece = torch.randint(vocab, (1, min(PIECE, context - seen)), generator=generator)
            with scoring(model):
                state = advance(model, piece, state)[1]
            seen += piece.shape[1]
        costs[context], state = _timed(lambda ids, known: advance(model, ids, known)[1], vocab, state, tokens)
        seen += tokens
    return costs


def _timed(step: Callable[[Tensor, State], State], vocab: int, state: State, tokens: int) -> tuple[float, State]:
    taken = []
    with torch.no_grad():
        for index in range(tokens):
            ids = torch.tensor([[index % vocab]])
            begin = perf_counter()
            state = step(ids, state)
            taken.append(1_000 * (perf_counter() - begin))
    return median(taken), state


def _filled(model: LlamaForCausalLM, context: int, spare: int) -> tuple[StaticCache, int]:
    config = model.config
    cache = StaticCache(config=config, max_cache_len=context + spare)
    heads = config.num_key_value_heads or config.num_attention_heads
    keys = torch.randn(1, heads, context, config.hidden_size // config.num_attention_heads)
    for layer in range(config.num_hidden_layers):
        cache.update(keys, keys, layer)
    return cache, context


def _cached(model: LlamaForCausalLM, ids: Tensor, state: tuple[StaticCache, int]) -> tuple[StaticCache, int]:
    cache, position = state
    model(input_ids=ids, past_key_values=cache, use_cache=True)
    return cache, position + ids.shape[1]
