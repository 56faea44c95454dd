"""The encoder as it is trained: frozen weights in bfloat16, a low-rank change beside each of its 36 linear maps in float32.

Attention is the plain one of three matrix products: the backward pass of torch's fused attention takes more time on a CPU than all
the rest. Short and long texts run apart, since padding would be most of what is computed.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from model.encoder_torch import bert
from model.start.weights import MAPS

PARTS = 3  # a batch is run in this many groups of like length
TEXTS = 96  # texts in one run where nothing is learned


class Change(nn.Module):
    """A linear map and a change of rank r beside it: y = W x + b + up down x (Hu et al. 2021); `up` begins at 0, so nothing changes."""

    def __init__(self, kept: nn.Linear, rank: int, draw: torch.Generator) -> None:
        super().__init__()
        self.kept, self.on = kept, True
        self.down = nn.Parameter(torch.randn(rank, kept.in_features, generator=draw) / kept.in_features**0.5)
        self.up = nn.Parameter(torch.zeros(kept.out_features, rank))

    def forward(self, values: Tensor) -> Tensor:
        """(..., in) to (..., out)."""
        out: Tensor = self.kept(values)
        if not self.on:
            return out
        return out + functional.linear(functional.linear(values, self.down.to(values.dtype)), self.up.to(values.dtype))


class ChangedEncoder(nn.Module):
    """Rows of token ids to unit vectors, with changes that can be learned and switched off."""

    def __init__(self, weights: Mapping[str, NDArray[np.float32]], rank: int, seed: int) -> None:
        super().__init__()
        self._bert = bert(weights, attention="eager")
        self._bert.to(torch.bfloat16).requires_grad_(False).train(False)
        draw = torch.Generator().manual_seed(seed)
        self.changes: dict[str, Change] = {}
        for name in MAPS:
            parent = self._bert.get_submodule(name.rpartition(".")[0])
            change = Change(self._bert.get_submodule(name), rank, draw)
            setattr(parent, name.rpartition(".")[2], change)
            self.changes[name] = change

    def learned(self) -> list[nn.Parameter]:
        """All that is trained."""
        return [parameter for change in self.changes.values() for parameter in (change.down, change.up)]

    def forward(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """(texts, 384) float32, in the order of `rows`."""
        order = sorted(range(len(rows)), key=lambda place: len(rows[place]))
        size = -(-len(order) // PARTS)
        parts = [order[begin : begin + size] for begin in range(0, len(order), size)]
        vectors = torch.cat([self._run([rows[place] for place in part]) for part in parts])
        back = torch.empty(len(order), dtype=torch.long)
        back[torch.tensor([place for part in parts for place in part])] = torch.arange(len(order))
        return vectors[back]

    def plain(self, rows: Sequence[Sequence[int]]) -> Tensor:
        """What `forward` gives without the changes, and without a gradient."""
        with torch.no_grad(), self._off():
            vectors: Tensor = self(rows)
        return vectors

    def _run(self, rows: Sequence[Sequence[int]]) -> Tensor:
        length = max(map(len, rows))
        ids = torch.zeros(len(rows), length, dtype=torch.long)
        mask = torch.zeros(len(rows), length)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.tensor(row)
            mask[place, : len(row)] = 1.0
        hidden = self._bert(ids, attention_mask=mask).last_hidden_state.float()
        means = (hidden * mask[..., None]).sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return functional.normalize(means, dim=-1)

    @contextmanager
    def _off(self) -> Iterator[None]:
        for change in self.changes.values():
            change.on = False
        try:
            yield
        finally:
            for change in self.changes.values():
                change.on = True
