"""The encoder's network as transformers' own BertModel: what the ONNX graph is held against.

Also the way out where ONNX Runtime has no wheel; slower to start and to run. N1 of `model.encoder_onnx` holds here
because texts run one at a time: torch's matrix kernels may add in another order for another number of rows.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.encoder_onnx import Network, unit_means
from model.encoder_weights import HEADS, INNER, LAYERS, NORM_EPSILON, POSITIONS, WIDTH, WORDS, Tensor

if TYPE_CHECKING:
    from transformers import BertModel


def bert(weights: Mapping[str, Tensor], attention: str | None = None) -> "BertModel":
    """The network with these weights, not to be trained; `attention` as transformers names implementations, None: its own choice."""
    import torch
    from transformers import BertConfig, BertModel

    config = BertConfig(
        vocab_size=WORDS,
        hidden_size=WIDTH,
        intermediate_size=INNER,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=POSITIONS,
        layer_norm_eps=NORM_EPSILON,
        attn_implementation=attention,
    )
    model = BertModel(config, add_pooling_layer=False)
    model.train(False)
    model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in weights.items()})
    return model


def open_torch(weights: Mapping[str, Tensor]) -> Network:
    """A network on torch's process-wide number of CPU threads, which this function leaves as it is."""
    import torch

    model = bert(weights)

    def run(ids: NDArray[np.int32]) -> Tensor:
        with torch.inference_mode():
            texts = [model(torch.from_numpy(row[None].astype(np.int64))).last_hidden_state for row in ids]
        return unit_means(torch.cat(texts).numpy())

    return run
