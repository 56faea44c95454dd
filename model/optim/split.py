"""Which parameters of a model are matrices for Muon and M3, and which go to AdamW (hope.md §4.5)."""

from collections.abc import Collection
from dataclasses import dataclass

from torch import nn

HEADS = ("lm_head", "head")


@dataclass(frozen=True, slots=True)
class Split:
    """Named parameters, each exactly once, in the model's order."""

    matrices: list[tuple[str, nn.Parameter]]
    others: list[tuple[str, nn.Parameter]]


def split_matrices(model: nn.Module, heads: Collection[str] = HEADS) -> Split:
    """Weights of hidden linear maps (`nn.Linear`) apart from embeddings, output heads, norms, biases, convolutions and all others.

    Two dimensions alone make no matrix: rates and retentions of a fast memory are a vector for each head, not to be made orthogonal.

    A head is what Hugging Face's `get_output_embeddings` returns or a module at the model's top level that is called one of `heads`; an
    output layer tied to an embedding is an embedding. Parameters that need no gradient are in neither list. Both lists fit torch's
    optimizers.

    Raises:
        ValueError: no parameter needs a gradient.
    """
    apart = {id(p) for module in model.modules() if isinstance(module, (nn.Embedding, nn.EmbeddingBag)) for p in module.parameters(False)}
    for name, module in model.named_children():
        if name in heads:
            apart |= {id(parameter) for parameter in module.parameters()}
    output = getattr(model, "get_output_embeddings", lambda: None)()
    if isinstance(output, nn.Module):
        apart |= {id(parameter) for parameter in output.parameters()}
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    if not trained:
        raise ValueError("no parameter of the model needs a gradient; set requires_grad on those to train")
    maps = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear)} - apart
    matrices = [(name, parameter) for name, parameter in trained if id(parameter) in maps]
    chosen = {id(parameter) for _, parameter in matrices}
    return Split(matrices, [(name, parameter) for name, parameter in trained if id(parameter) not in chosen])
